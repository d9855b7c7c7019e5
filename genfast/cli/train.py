"""genfast train"""

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import tyro

from .errors import UsageError, going_on, usage

if TYPE_CHECKING:
    from ..data import Data
    from .presets import Preset


class Training(TypedDict, total=False):
    """Arguments of `gf.fit`, by their names there. What is left out is the preset's, or else fit's default."""

    steps: int
    """How many. Of a run that is there: raised, it goes on."""
    batch: int
    """Samples of a step."""
    lr: float
    """Learning rate, when warm."""
    warmup: int | None
    """Steps until then."""
    decay: Literal["cosine", "linear", "constant"]
    """Of the learning rate, from then on."""
    weight_decay: float
    """AdamW's."""
    clip: float | None
    """Largest norm of a gradient; None for any."""
    ema: tuple[float, ...] | None
    """Lengths of averages of the weights as a share of the run, the model's first; None for none."""
    seed: int
    """Of initial weights, order, times and noise."""
    test_every: int | None
    """Steps from one look at --test to the next."""
    resume: bool
    """Whether a run that is there goes on."""
    save_every: int | None
    """Steps from one saved state to the next."""
    keep: int
    """How many states stay."""
    keep_every: int | None
    """States of every so many steps stay as well."""
    precision: Literal["fp32", "bf16", "fp16"]
    """Of the network; weights are float32."""
    micro_batch: int | None
    """Samples on the device at once; changes no more than rounding."""
    workers: int
    """Processes that read files ahead; 0 for none."""
    device: str | None
    """Where to train: cpu, cuda, cuda:1."""
    graph: bool | Literal["auto"]
    """Whether a step is captured as a CUDA graph."""
    compile: bool
    """Whether the network is compiled by torch, block by block."""
    critic_steps: int
    """Turns of a GAN's discriminator to one of its generator."""
    parallel: Literal["ddp", "fsdp"] | None
    """How the processes that torchrun has started train: each with all weights, or with its share of them."""
    log_every: int
    """Steps from one line of the log to the next."""
    grid_every: int | None
    """Steps from one picture of samples to the next."""
    progress: bool
    """Whether there is a bar."""


def train(
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    preset: str | None = None,
    config: Path | None = None,
    data: str | None = None,
    test: str | None = None,
    net: str | None = None,
    size: int | None = None,
    channels: Literal[1, 3] | None = None,
    layout: Literal["chw", "hwc"] | None = None,
    broken: Literal["raise", "skip"] | None = None,
    flip: bool = False,
    crop: tuple[int, int] | None = None,
    vae: Path | None = None,
    training: Annotated[Training, tyro.conf.arg(name="")] = {},  # noqa: B006
) -> None:
    """Train a model, or go on with a run that was stopped: by the same command. Ctrl-C stops it at the end of a step,
    when all is saved. On several processes: torchrun --nproc-per-node 2 -m genfast train ...

    Args:
        out: Folder of the run: weights, log, states, pictures.
        preset: A run by name: digits-unet, digits-vae, digits-gan, toy-mlp, emoji32-unet; folder-64 or
            autoencoder-32 (a VAE) with --data; latent-32 with --vae. Without, and without --config, a diffusion model
            that fits the data.
        config: Another run: its model, with new weights, and its settings.
        data: A folder of images, their subfolders being classes; a .npy, .npz or .safetensors file; digits,
            digits:train, digits:test; emoji, emoji:train, emoji:test; toy:moons and others.
        test: Held-out data, as for --data: the loss of the averaged weights on them is watched, and the best is kept.
        net: Another network, by its name in gf.nn.presets, such as unet_32.
        size: Images of folders, and emoji, are cut and shrunk to squares of so many pixels.
        channels: Images of folders are read as gray (1) or in color (3).
        layout: Where the images of a file have their channels, if their shape does not show it.
        broken: Images of folders that cannot be read end the run (raise) or are left out, for which each is read once
            before (skip).
        flip: Half of the images are flipped from right to left in training.
        crop: Height and width to which images are cut, at random in training, else in the middle.
        vae: Of a diffusion model of latents: the folder of the VAE, whose data and size of images are taken, too,
            unless others are asked for.
        training: Arguments of gf.fit.
    """
    import torch

    import genfast as gf

    from ..common import processes

    rank, _ = processes.world()
    if preset is config is data is None and (out / "run.json").exists():
        config = out  # it says all that is needed to go on
    with usage():
        run = _chosen(preset, config, net, vae)
        settings = _checked(run.settings | training)
        if data is not None:
            run = run._replace(data=data, test=None)
        told = {
            "data": run.data,
            "test": test or run.test,
            "size": size or run.size,
            "channels": channels or run.channels,
            "layout": layout or run.layout,
            "broken": broken or run.broken,
            "flip": flip or run.flip,
            "crop": crop or run.crop,
        }
        if run.data is None:
            raise UsageError("data must be given: --data FOLDER, or a --preset that has some")
    data, test = _loaded(**told)
    torch.manual_seed(settings.get("seed", 0))
    model = run.build(data)
    if rank == 0:
        print(f"genfast train: {_described(model)} for {data}", file=sys.stderr)
    fit = gf.Fit(model, data, test=test, out=out, **settings)
    fit.folder.words = told | {"preset": preset, "net": net, "vae": run.vae}
    words = f"{out}: stopped after step {{}}, which is saved"
    with going_on(lambda: words.format(fit.saved[0]) if fit.saved[0] and rank == 0 else None):
        logs = fit.run()
    if rank == 0:
        print(f"{out}: {_summary(logs[-1])}")


def _chosen(preset: str | None, config: Path | None, net: str | None, vae: Path | None) -> "Preset":
    """The run that is asked for, with the network `net`, or over the VAE in the folder `vae`, if that is not None."""
    import genfast as gf

    from ..common.checks import require_choice
    from . import presets

    if preset is not None and config is not None:
        raise UsageError("--preset and --config are two runs; pass one of them")
    if net is not None:
        require_choice("net", net, gf.nn.presets.PRESETS)
    if preset is not None:
        run = presets.PRESETS[require_choice("preset", preset, presets.PRESETS)]
    elif config is not None:
        run = presets.of_run(config)
    else:
        run = presets.Preset(presets.fitting, presets.UNNAMED)
    if vae is not None and not run.latent:
        raise UsageError("--vae is for a diffusion model of latents: --preset latent-32")
    if net is None:
        return presets.over(run, vae) if run.latent else run
    if run.latent or run.build in (presets.vae, presets.autoencoder, presets.gan):
        raise UsageError(f"--net is the network of a diffusion model, which {preset} is not")
    return run._replace(build=presets.named(net))


def _checked(settings: dict) -> dict:
    """The settings; ValueError for one that no data could make right."""
    import genfast as gf

    every = {name: parameter.default for name, parameter in inspect.signature(gf.Fit).parameters.items()} | settings
    kind = gf.training.settings.Settings
    kind(**{field.name: every[field.name] for field in dataclasses.fields(kind)})
    return settings


def _loaded(
    data: str, test: str | None, size: int | None, channels: int | None, layout: str | None,
    broken: str | None, flip: bool, crop: tuple[int, int] | None,
) -> "tuple[Data, Data | None]":  # fmt: skip
    """Data and held-out data, these of as many channels, cut to the same size."""
    import genfast as gf

    from ..data.images import is_image

    asked = {"layout": layout, "broken": broken or "raise"}
    data = gf.data.load(data, size, channels, **asked)
    if channels is None and is_image(data.shape):
        channels = data.shape[0]
    test = None if test is None else gf.data.load(test, size, channels, **asked)
    if flip or crop is not None:
        data = data.augmented(flip=flip, crop=crop)
    if crop is not None and test is not None:
        test = test.augmented(flip=False, crop=crop)
    return data, test


def _described(model) -> str:
    """The class of the model and of what it is made of, and how many weights."""
    nets = ", ".join(type(part).__name__ for part in model.children())
    return f"{type(model).__name__}({nets}), {sum(p.numel() for p in model.parameters()):,} weights,"


def _summary(log: dict) -> str:
    """The last line of a log in words."""
    words = f"step {log['step']}, loss {log['loss']:.4f}"
    if log.get("test_loss") is not None:
        mean, low, high = log["test_loss"]
        words += f", held-out loss {mean:.4f} ({low:.4f} to {high:.4f})"
    return words
