"""Named sizes of networks: `build("dit_s_2", channels=3)`.

Every one takes t of the order of 1, as the parameterizations give it, by 64 Fourier features. Where a paper has the
network its count is noted; ours differs in those features, of which papers have 128 to 256, and as a preset says.
"""

from typing import NamedTuple

from torch import nn

from ..common.checks import require_choice
from .dit import DiT
from .mlp import MLP
from .unet import UNet


class Preset(NamedTuple):
    """A network, its arguments, how many parameters that makes, and for samples of which shape it is meant."""

    network: type[nn.Module]
    arguments: dict
    parameters: int
    shape: tuple[int, ...]
    published: float | None = None  # the count of a paper, in millions

    def build(self, **changes) -> nn.Module:
        """The network, with other arguments where they are given."""
        return self.network(**self.arguments | changes)


_DDPM = {
    "modulation": "add", "resample": "convolution", "head_width": None, "skip_scale": 1.0, "groups": 32, "eps": 1e-6,
    "dropout": 0.1,
}  # fmt: skip
_ADM = {"resample": "convolution", "skip_scale": 1.0, "groups": 32, "dropout": 0.1}
_LATENT = {"channels": 4, "patch": 2, "classes": 1000}  # of images of 256 x 256

PRESETS = {
    "mlp_small": Preset(MLP, {"features": 2, "width": 128, "depth": 3}, 256_642, (2,)),
    "mlp_base": Preset(MLP, {"features": 2, "width": 512, "depth": 6}, 7_127_554, (2,)),
    "unet_8": Preset(
        UNet, {"channels": 1, "width": 32, "multipliers": (1, 2), "attention": (1,)},
        712_929, (1, 8, 8),
    ),
    "unet_32": Preset(
        UNet, {"channels": 3, "width": 64, "multipliers": (1, 2, 2), "blocks": 2, "attention": (2,)},
        6_469_507, (3, 32, 32),
    ),
    # Ho et al. 2020 (arXiv:2006.11239), and with timesteps={"shift": 1} theirs parameter for parameter.
    "ddpm_cifar10": Preset(
        UNet,
        {"channels": 3, "width": 128, "multipliers": (1, 2, 2, 2), "blocks": 2, "attention": (1,)} | _DDPM,
        35_713_539, (3, 32, 32), 35.7,
    ),
    # Dhariwal and Nichol 2021 (arXiv:2105.05233). Theirs halves and doubles in residual blocks, where this one has
    # single convolutions, and predicts a variance.
    "adm_imagenet64": Preset(
        UNet,
        {"channels": 3, "width": 192, "multipliers": (1, 2, 3, 4), "blocks": 3, "attention": (1, 2, 3), "classes": 1000}
        | _ADM,
        277_091_523, (3, 64, 64), 296,
    ),
    "dit_8": Preset(DiT, {"channels": 1, "patch": 2, "width": 128, "depth": 4, "heads": 4}, 1_246_340, (1, 8, 8)),
    "dit_32": Preset(DiT, {"channels": 3, "patch": 2, "width": 256, "depth": 8, "heads": 4}, 9_688_332, (3, 32, 32)),
    # Peebles and Xie 2022 (arXiv:2212.09748). Theirs predict a variance, with twice the outputs.
    "dit_s_2": Preset(DiT, _LATENT | {"width": 384, "depth": 12, "heads": 6}, 32_785_168, (4, 32, 32), 33),
    "dit_b_2": Preset(DiT, _LATENT | {"width": 768, "depth": 12, "heads": 12}, 130_156_048, (4, 32, 32), 130),
    "dit_l_2": Preset(DiT, _LATENT | {"width": 1024, "depth": 24, "heads": 16}, 457_627_664, (4, 32, 32), 458),
    "dit_xl_2": Preset(DiT, _LATENT | {"width": 1152, "depth": 28, "heads": 16}, 674_595_088, (4, 32, 32), 675),
}  # fmt: skip


def build(name: str, **changes) -> nn.Module:
    """The preset of that name, with other arguments where they are given. Raises ValueError for an unknown name."""
    return PRESETS[require_choice("name", name, PRESETS)].build(**changes)
