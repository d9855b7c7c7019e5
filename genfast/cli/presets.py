"""Runs by name: data, model and settings. What the data can say, their shape and classes, is not said again here."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import genfast as gf

from ..data.images import is_image

if TYPE_CHECKING:
    from ..data import Data

SIZES = {  # of images, up to so many pixels a side: width and multipliers of their U-Net
    8: (16, (1, 3)), 16: (16, (1, 2, 3)), 32: (32, (1, 2, 3)), 64: (32, (1, 2, 3, 4)), 128: (32, (1, 1, 2, 3, 4)),
}  # fmt: skip
LATENT = 16
KEPT = ("data", "test", "size", "channels", "layout", "broken", "flip", "crop", "vae")  # of what the command was told


class Preset(NamedTuple):
    """A run: `build(data)` makes its model, with new weights, and `settings` are those of `fit`. data, test, size,
    channels, vae: what is taken where nothing else is asked for. latent: whether it is one of the latents of a VAE,
    and `build`, until it is `over` one, takes it, too."""

    build: Callable[..., object]
    settings: dict
    data: str | None = None
    test: str | None = None
    size: int | None = None
    channels: int | None = None
    layout: str | None = None
    broken: str | None = None
    flip: bool = False
    crop: tuple[int, int] | None = None
    vae: str | None = None
    latent: bool = False


def of_run(folder: Path) -> Preset:
    """The run in the folder, as a preset: its data, where the command was told of them, its model, with new weights,
    and its settings. Raises what `gf.training.read_run` does, and ValueError for settings that only Python has."""
    from .train import Training

    run = gf.training.read_run(folder)
    if optimizer := run["settings"]["optimizer"]:
        raise ValueError(f"config must be a run that the command can repeat; got {folder}, with optimizer {optimizer}")
    settings = {name: value for name, value in run["settings"].items() if name in Training.__annotations__}
    words = run["words"] or {}
    told = {name: words.get(name) for name in KEPT}

    def build(data: "Data", vae=None):
        model = gf.training.rebuilt_model(folder)
        if vae is not None:
            model.vae.load_state_dict(vae.state_dict())
        return model

    return Preset(build, settings, latent=run["model"]["model"] == gf.LatentDiffusion.__name__, **told)


def over(preset: Preset, folder: Path | None) -> Preset:
    """The preset of a diffusion model of latents over the VAE in the folder, by default the one it had: with images of
    that VAE's size and, unless it has others, the data of that VAE's run. Raises ValueError without a folder, and for
    one that holds no VAE."""
    if (folder := folder or preset.vae) is None:
        raise ValueError(
            "vae must be given: --vae RUN, the folder of a trained VAE, such as of --preset autoencoder-32"
        )
    vae = gf.load(folder)
    if not isinstance(vae, gf.VAE):
        raise ValueError(f"vae must be the folder of a VAE; got {folder}, with a {type(vae).__name__}")
    channels, *size = vae.shape if is_image(vae.shape) else (None,)
    preset = preset._replace(
        build=functools.partial(preset.build, vae=vae), vae=str(folder), channels=channels,
        size=size[0] if len(set(size)) == 1 else None,
    )  # fmt: skip
    if preset.data is None and (Path(folder) / "run.json").exists():
        words = gf.training.read_run(folder)["words"] or {}
        preset = preset._replace(data=words.get("data"), test=words.get("test"))
    return preset


def unet(data: "Data"):
    """A diffusion model with a U-Net for images of their size. Raises ValueError for what is no image, and for more
    than 128 pixels a side."""
    channels, height, width = _image(data)
    if (side := next((side for side in SIZES if max(height, width) <= side), None)) is None:
        raise ValueError(
            f"data must be images of at most {max(SIZES)} pixels a side; got {width} x {height}: pass --size, or --net "
            "for another network"
        )
    features, multipliers = SIZES[side]
    return gf.Diffusion(gf.nn.UNet(channels, features, multipliers, pad=True, **_told(data)))


def fine_unet(data: "Data"):
    """As `unet`, trained by a cosine schedule: of data that are large or in color the default looks too rarely at
    little noise to draw what is small in a run of minutes."""
    return gf.Diffusion(unet(data).net, "vp_cosine")


def mlp(data: "Data"):
    """A diffusion model with an MLP, for what is no image."""
    return gf.Diffusion(gf.nn.MLP(math.prod(data.shape), 128, 3, **_told(data)))


def fitting(data: "Data"):
    """A diffusion model for data of any kind."""
    return unet(data) if len(data.shape) == 3 else mlp(data)


def named(net: str) -> Callable[["Data"], object]:
    """What makes a diffusion model with the network `net` of `gf.nn.presets`."""

    def build(data: "Data"):
        preset = gf.nn.presets.PRESETS[net]
        size = {"features": math.prod(data.shape)} if "features" in preset.arguments else {"channels": data.shape[0]}
        pad = {"pad": True} if preset.network is gf.nn.UNet else {}
        network = preset.build(**size, **pad, **_told(data))
        _try(net, network, data)
        return gf.Diffusion(network)

    return build


def vae(data: "Data"):
    """A VAE of images, whose decoder has a variance for each channel."""
    channels, *size = _image(data)
    nets = {"size": size, "channels": channels, "latent": LATENT, "width": 16} | _told(data)
    likelihood = gf.vae.likelihoods.LearnedVariance((channels, 1, 1))
    return gf.VAE(gf.nn.Encoder(**nets), gf.nn.Decoder(**nets), latent=LATENT, likelihood=likelihood)


def autoencoder(data: "Data"):
    """A VAE of images whose latents are images, too, for a diffusion model of these: half as large, a quarter from 17
    pixels on."""
    channels, *size = _image(data)
    nets = {"latent": 2 if channels == 1 else 4, "multipliers": (1, 2) if max(size) <= 16 else (1, 2, 2), "width": 16}
    return gf.vae.autoencoder_kl(size, channels, **nets)


def latent(data: "Data", vae):
    """A diffusion model of the latents of a VAE: with a U-Net where they are images, else with an MLP."""
    if len(vae.latent) == 3:
        net = gf.nn.UNet(vae.latent[0], 32, (1, 2), pad=True, **_told(data))
    else:
        net = gf.nn.MLP(math.prod(vae.latent), 256, 3, **_told(data))
    return gf.LatentDiffusion(vae, gf.Diffusion(net))


def gan(data: "Data"):
    """A GAN of images."""
    channels, *size = _image(data)
    nets = {"size": size, "channels": channels, "width": 16} | _told(data)
    return gf.GAN(gf.nn.Generator(latent=LATENT, **nets), gf.nn.Discriminator(**nets), latent=LATENT)


DIGITS = {"data": "digits:train", "test": "digits:test"}
PRESETS = {
    "digits-unet": Preset(unet, {"steps": 600, "lr": 3e-3}, **DIGITS),
    "digits-vae": Preset(vae, {"steps": 600, "lr": 3e-3}, **DIGITS),
    "digits-gan": Preset(gan, {"steps": 2500, "lr": 2e-3, "batch": 64}, data="digits"),
    "toy-mlp": Preset(mlp, {"steps": 1000, "lr": 3e-3, "batch": 256}, data="toy:moons"),
    "emoji32-unet": Preset(
        fine_unet, {"steps": 2000, "lr": 2e-3, "batch": 16}, data="emoji:train", test="emoji:test", size=32
    ),
    "autoencoder-32": Preset(autoencoder, {"steps": 1500, "lr": 3e-3, "batch": 64}, size=32),
    "latent-32": Preset(latent, {"steps": 1500, "lr": 3e-3, "batch": 64}, latent=True),
    "folder-64": Preset(unet, {"steps": 5000, "lr": 1e-3, "batch": 32}, size=64),
}
UNNAMED = {"steps": 2000, "lr": 3e-3, "batch": 64}  # settings of a run with neither preset nor other run


def _image(data: "Data") -> tuple[int, ...]:
    """(channels, height, width) of the data; ValueError if they are no images."""
    if len(data.shape) != 3:
        raise ValueError(f"data must be images, (channels, height, width), for this model; got shape {data.shape}")
    return data.shape


def _told(data: "Data") -> dict:
    """What a network has to know of the data beside their shape."""
    return {"classes": data.classes, "condition": 0 if data.condition is None else math.prod(data.condition.shape[1:])}


def _try(name: str, network, data: "Data") -> None:
    """ValueError unless the network takes a sample of the data."""
    import torch

    try:
        with torch.no_grad():
            x = data.rows([0])["x"]
            network.eval()(x, x.new_zeros(1))
    except ValueError as error:
        raise ValueError(f"net {name} does not take samples of shape {data.shape}: {error}") from error
    network.train()
