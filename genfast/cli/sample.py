"""genfast sample"""

import contextlib
import json as json_module
import time
from pathlib import Path
from typing import Annotated

import tyro

from .errors import UsageError, going_on, usage
from .sampler import require_sampler


def sample(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    n: int = 64,
    first: int = 0,
    out: Path = Path("samples.png"),
    seed: int = 0,
    label: str | None = None,
    solver: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    ema: float | None = None,
    chunk: int | None = None,
    device: str | None = None,
    json: bool = False,
) -> None:
    """Draw samples of a model: sample i of a seed is the same, whatever else is drawn with it. Under
    torchrun (torchrun -m -- genfast sample ...; without the -- it takes --n for its own) each process draws its share
    of the chunks, and all is as of one.

    Args:
        model: The folder of a run, or of a model that was saved.
        n: How many samples.
        first: The number of the first one: --first 1000 --n 500 are samples 1000 to 1499.
        out: A .png file (one sheet; what is no image as points), .npy (x), .npz (x and label), or a folder: a picture
            each, called by its number, of which those that are there already are not drawn again.
        seed: Of the noise.
        label: The class of all: its name, or its number where no name equals that; -1 is unknown. All in turn if it is
            left out.
        solver: Of a diffusion model, by its name in gf.solvers.
        steps: Of the solver.
        guidance: Scale of classifier-free guidance; 1 for none.
        ema: The length of the average of the weights, of a run that was trained with two or more.
        chunk: Samples that the network gets at once; their last digits depend on it.
        device: Where to draw: cpu, cuda, cuda:1.
        json: Print paths, n, first, seconds and settings as JSON.
    """
    from ..common import processes
    from .drawing import Drawing
    from .sample_files import require_drawable, save_folder, writer

    settings = {"solver": solver, "steps": steps, "guidance": guidance, "chunk": chunk}
    settings = {name: value for name, value in settings.items() if value is not None}
    with usage():
        index = _index(n, first)
        write = writer(out, n)
        _check(seed, ema, device, settings)
    loaded = _loaded(model, ema, device)
    with usage():
        _require_settings_of(loaded, settings)
        drawing = Drawing(loaded, seed, _number(label, loaded), settings)
        require_drawable(out, drawing.shape)
    began, first_one = time.perf_counter(), processes.world()[0] == 0
    with going_on(lambda: f"what was drawn is in {out}" if write is save_folder and first_one else None):
        write(out, drawing, index)
    if not first_one:
        return
    if json:
        told = {"n": n, "first": first, "settings": settings | {"seed": seed, "label": label, "ema": ema}}
        print(json_module.dumps({"paths": [str(out)], "seconds": time.perf_counter() - began} | told))
    else:
        print(out)


def _index(n: int, first: int):
    """The numbers of the samples, (n,)."""
    import torch

    from ..common.checks import require_integer
    from ..common.keys import MAX_SEED

    n, first = require_integer("n", n, 1), require_integer("first", first, 0)
    require_integer("first + n", first + n, 1, MAX_SEED)
    return torch.arange(first, first + n, device="cpu")


def _check(seed: int, ema: float | None, device: str | None, settings: dict) -> None:
    """ValueError for an argument that no model could make right."""
    from ..common.checks import require_chunk, require_device, require_integer, require_number
    from ..common.keys import MAX_SEED

    require_integer("seed", seed, 0, MAX_SEED)
    if ema is not None:
        require_number("ema", ema, above=0)
    if device is not None:
        require_device("device", device)
    require_sampler(settings)
    if "chunk" in settings:
        require_chunk(settings["chunk"])


def _loaded(folder: Path, ema: float | None, device: str | None):
    """The model, with the average of length `ema` of the weights of its run."""
    import genfast as gf

    if ema is None:
        return gf.load(folder, device=device)
    model = gf.training.average(folder, ema)
    return model if device is None else model.to(device)


def _require_settings_of(model, settings: dict) -> None:
    """UsageError for a setting that `model.sample` does not take."""
    from ..common.conditions import takes

    if unknown := [name for name in settings if not takes(model.sample, name)]:
        raise UsageError(f"{', '.join(f'--{name}' for name in unknown)}: {type(model).__name__}.sample takes no such")


def _number(label: str | None, model) -> int | None:
    """The class that `label` names or counts; None for any. ValueError, with those that there are, for no such."""
    if label is None:
        return None
    classes, names = getattr(model, "classes", 0) or 0, getattr(model, "names", None) or ()
    if label in names:
        return names.index(label)
    if not classes:
        raise ValueError(f"label was given to a model without classes; got {label}")
    least = -1 if getattr(model, "unknown_labels", False) else 0
    with contextlib.suppress(ValueError):
        if least <= int(label) < classes:
            return int(label)
    wanted = ", ".join([*names, f"or a number from {least} to {classes - 1}"]).removeprefix("or ")
    raise ValueError(f"label must be {wanted}; got {label}")
