"""A diffusion model of the latents of a VAE."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import ops
from .checkpoint import register
from .common.checks import require_integer
from .common.conditions import Label, as_conditions, batch_conditions, condition_width, numbered, taken
from .common.indices import as_index, spread
from .diffusion.model import Diffusion
from .vae.model import VAE


@register
class LatentDiffusion(nn.Module):
    """Diffusion in the latent space of a trained VAE. Rombach et al. 2022, arXiv:2112.10752.

        u = (z - shift) / scale,  z ~ q(z | x);   the diffusion model learns p(u);   x = E[x | z = scale u + shift]

    shift and scale are the mean and standard deviation of each channel of z (its first dimension) over the first
    training batch, and are kept in the checkpoint. The VAE is frozen: its weights require no gradient from here on, and
    it stays in eval mode.

    vae         trained; vae.latent is the shape of what the diffusion model sees
    diffusion   a `Diffusion` of samples of that shape; with classes it is conditional, whether the VAE is or not. Names
                of classes are its; one without takes those of the VAE
    """

    def __init__(self, vae: VAE, diffusion: Diffusion):
        super().__init__()
        for name, value, kind in (("vae", vae, VAE), ("diffusion", diffusion, Diffusion)):
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__}; got {type(value).__name__}")
        if diffusion.shape not in (None, vae.latent):
            raise ValueError(f"diffusion must be of the shape of latents, {vae.latent}; got {diffusion.shape}")
        if vae.classes not in (0, diffusion.classes):
            raise ValueError(f"diffusion must have the {vae.classes} classes of the VAE; got {diffusion.classes}")
        if vae.names and diffusion.names not in (None, vae.names):
            raise ValueError(f"diffusion must have the classes of the VAE, {vae.names}; got {diffusion.names}")
        self.vae, self.diffusion = vae.requires_grad_(False), diffusion
        self.names = diffusion.names or vae.names
        self.diffusion.shape = vae.latent
        channels = (vae.latent[0], *[1] * (len(vae.latent) - 1))
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.zeros(channels))  # zero: not known yet
        self.train(self.training)

    @property
    def classes(self) -> int:
        return self.diffusion.classes

    @property
    def names(self) -> tuple[str, ...] | None:
        return self.diffusion.names

    @names.setter
    def names(self, names: tuple[str, ...] | None) -> None:
        self.diffusion.names = names
        if self.vae.classes:
            self.vae.names = names

    @property
    def unknown_labels(self) -> bool:
        """Whether -1 is one of the labels: a VAE with classes knows no null."""
        return not self.vae.classes

    @property
    def condition_width(self) -> int | None:
        return condition_width(self.vae.encoder, self.vae.decoder, self.diffusion.net)

    @property
    def shape(self) -> tuple[int, ...] | None:
        return self.vae.shape

    def require_observations(self, x: Tensor) -> None:
        """As the VAE does."""
        self.vae.require_observations(x)

    def train(self, mode: bool = True) -> "LatentDiffusion":
        super().train(mode)
        self.vae.eval()
        return self

    def loss(self, batch: dict[str, Tensor | None], key: Tensor) -> Tensor:
        """The loss of each sample, (B,), that of the diffusion model on u. batch, key: as in `Diffusion.loss`."""
        with torch.no_grad():
            x, key = self.vae._placed(batch["x"], key)
            networks = self.vae.encoder, self.vae.decoder, self.diffusion.net
            conditions = batch_conditions(batch, self.vae.classes, *networks, null=False)
            z = ops.reparameterize(*self.vae._posterior(x, conditions), key)[0]
            if not self._measured():
                if z.numel() <= z.shape[1]:
                    raise ValueError(f"batch must have at least 2 samples, for the scale of the latents; got {len(z)}")
                over = [0, *range(2, z.ndim)]
                self.shift.copy_(z.mean(over).reshape(self.shift.shape))
                self.scale.copy_(z.std(over).reshape(self.shift.shape).clamp(min=1e-3))
            u = (z - self.shift) / self.scale
        return self.diffusion.loss(taken(self.diffusion.net, {**batch, "x": u}), key)

    @torch.no_grad()
    def sample(
        self, n: int | Sequence[int] | Tensor, *, label: Label = None, condition: Tensor | None = None,
        seed: int = 0, chunk: int = 64, **settings,
    ) -> Tensor:  # fmt: skip
        """n new samples, (n, *shape): sample i is a function of the weights, the seed, i and the settings, which are
        those of `Diffusion.sample`; the mean of x given its latent."""
        index, chunk = as_index("n", n), require_integer("chunk", chunk, 1)
        if not self._measured():
            raise ValueError("scale of the latents is not known yet: train first")
        label, vae = numbered(label, self.names), self.vae
        known = {"null": self.unknown_labels, "width": self.condition_width}
        as_conditions(len(index), self.classes, label, condition, **known)  # what neither knows is refused here
        own = taken(self.diffusion.net, {"label": label, "condition": condition})
        u = self.diffusion.sample(index, **own, seed=seed, chunk=chunk, **settings)
        z = self.scale * u + self.shift
        own = label if vae.classes else None, condition if vae.condition_width != 0 else None
        return vae._decode_in_chunks(
            index, vae._conditions(index, *own), lambda key, taken, slots: spread(z[taken], slots, chunk),
            seed=seed, noise=False, chunk=chunk,
        )  # fmt: skip

    def _measured(self) -> bool:
        return bool((self.scale > 0).all())

    def config(self) -> dict:
        """What rebuilds it: the networks, and the rest of either model's arguments."""
        vae, diffusion = self.vae.config(), self.diffusion.config()
        return {
            "encoder": vae.pop("encoder"), "decoder": vae.pop("decoder"), "net": diffusion.pop("net"),
            "vae": vae, "diffusion": diffusion,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict) -> "LatentDiffusion":
        vae = VAE.from_config(config["vae"] | {name: config[name] for name in ("encoder", "decoder")})
        return cls(vae, Diffusion.from_config(config["diffusion"] | {"net": config["net"]}))
