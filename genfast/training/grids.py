"""A picture of what a model draws in the midst of its training."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..common.conditions import takes
from ..common.eval_mode import evaluating
from ..common.warn import warn_user
from ..data.dataset import Data
from ..data.images import grid, is_image, save_png
from ..data.matching import in_own_units

SAMPLES, POINTS = 64, 512  # of images, and of vectors: fewer points show no shape
SIDE = 40  # pixels, about, of a small image
COLUMNS, ROW_OF_CLASSES = 8, 16  # images in a row, about; classes that fit into one, a column each
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")  # Okabe and Ito 2008


def draw_grid(model: object, path: Path, *, data: Data | None = None) -> None:
    """Writes a PNG of samples of seed 0, so that pictures of a run show the same ones grow: images as a grid of 64,
    where each column is of one class, if they are at most 16; all else as points, 512 of them, beside the data, in
    their first two principal components if there are more than two numbers to a sample.

    The model draws with its defaults, and as the data condition it: theirs are the conditions, then with the labels
    that go with them. Its modes and torch's random numbers are afterwards as they were. A model that cannot draw, by
    whatever error, or a scatter without matplotlib, is a RuntimeWarning and no picture. OSError where the picture
    cannot be written.
    """
    if not callable(getattr(model, "sample", None)):
        return
    shape = getattr(model, "shape", None) or (None if data is None else data.shape)
    image = is_image(shape)
    count = SAMPLES if image else POINTS
    rows = {} if data is None else in_own_units(data, model).batch(0, 0, count)
    label = _labels(model, rows, count)
    try:
        x = _sampled(model, count, label, rows.get("condition"))
        if image:
            options = {"columns": columns_of(model), "scale": max(1, SIDE // shape[1]), "padding": 2}
            picture = grid(x, value_range=_range(rows), **options)
        else:
            picture = scatter(x, label, rows)
    except Exception as error:  # of a model of whatever kind: no reason to end a training
        needed = ": pip install genfast[demo]" if isinstance(error, ImportError) else ""
        warn_user(f"there are no pictures of samples: {error}{needed}", RuntimeWarning)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, picture)


def _labels(model: object, rows: dict, count: int) -> Tensor | None:
    """(count,) labels: 0, 1, ..., as far as there are classes, and again; or those of the data's conditions."""
    classes = getattr(model, "classes", 0) or 0
    if not classes:
        return None
    if rows.get("condition") is not None:
        return rows["label"]
    number = torch.arange(count, device="cpu")
    return number % classes if classes <= count else number * classes // count


def columns_of(model: object) -> int:
    """Of a grid: a multiple of the number of classes, near 8."""
    classes = getattr(model, "classes", 0) or 0
    return classes * max(1, round(COLUMNS / classes)) if 0 < classes <= ROW_OF_CLASSES else COLUMNS


def _range(rows: dict) -> tuple[float, float]:
    """Values that are black and white: the least and largest of the data's."""
    low, high = (-1.0, 1.0) if not rows else (float(end) for end in rows["x"].aminmax())
    return (low, high) if low < high else (low - 1, high + 1)


def _sampled(model: object, count: int, label: Tensor | None, condition: Tensor | None) -> Tensor:
    told = {"label": label, "condition": condition}
    settings = {name: value for name, value in told.items() if value is not None}
    quiet = {"progress": False, "graph": False}  # a graph would hold memory that training wants
    settings |= {name: value for name, value in quiet.items() if takes(model.sample, name)}
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.no_grad(), evaluating(model), torch.random.fork_rng(devices):
        return model.sample(count, seed=0, **settings).float().cpu()


def scatter(x: Tensor, label: Tensor | None, rows: dict) -> np.ndarray:
    """A picture (H, W, 3) of samples x (N, *), and beside them the data, with the same axes: those of the data."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {"data": (rows["x"].flatten(1).cpu(), rows["label"])} if rows else {}
    panels["samples"] = x.flatten(1), label
    frame, _ = next(iter(panels.values()))
    if frame.shape[1] > 2:
        mean = frame.mean(0)
        axes = torch.linalg.svd(frame - mean, full_matrices=False).Vh[:2].T
        panels = {name: ((points - mean) @ axes, classes) for name, (points, classes) in panels.items()}
        frame = (frame - mean) @ axes
    low, high = frame.amin(0), frame.amax(0)
    margin = 0.15 * (high - low).clamp(min=1e-6)
    low, high = low - margin, high + margin

    figure = Figure(figsize=(3.2 * len(panels), 3.4))
    figure.subplots_adjust(left=0.15 / len(panels), right=1 - 0.05 / len(panels), bottom=0.08, top=0.92)
    canvas = FigureCanvasAgg(figure)
    for axes, (name, (points, classes)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        outside = int(((points < low) | (points > high)).any(1).sum())
        axes.set_title(name if name == "data" or not outside else f"{name}, {outside} of {len(points)} outside")
        if points.shape[1] == 1:
            axes.hist(points[:, 0].numpy(), bins=40, range=(float(low[0]), float(high[0])), color=COLORS[0])
        else:
            axes.scatter(*points.T.numpy(), s=7, lw=0, c=_colors(classes, len(points)))
            axes.set_ylim(float(low[1]), float(high[1]))
        axes.set_xlim(float(low[0]), float(high[0]))
        axes.tick_params(labelsize=7)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[:, :, :3].copy()


def _colors(label: Tensor | None, count: int) -> list[str]:
    """One a class, where there are at most as many as colors; gray where it is unknown."""
    if label is None or int(label.max()) >= len(COLORS):
        return [COLORS[0]] * count
    return ["0.6" if number < 0 else COLORS[number] for number in label.tolist()]
