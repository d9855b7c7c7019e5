"""One picture of a run, drawn from its folder alone: what it has learned, and what may be wrong with it."""

import io
import math
from numbers import Real
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.files import CorruptCheckpoint, as_path, write_file
from .grids import COLORS
from .log_file import LogFile
from .logs import LogLine
from .run_file import read_run

BLUE, ORANGE, RED, GRAY = COLORS[0], COLORS[1], COLORS[3], "0.45"
WIDTH = 12.0  # inches
POINTS, SMOOTH = 1000, 50  # of a curve, at most; widths of the smoothing in a curve
GRIDS, SMALL = 5, 5  # pictures in the strip; small panels in a row
SPREAD = 3.0  # largest over least value of a curve from which on its axis is logarithmic


def plot(run: str | Path, out: str | Path | None = None) -> Path:
    """Draws RUN/plot.png, or `out`, from RUN/log.jsonl and RUN/samples, and returns its path: loss (raw and smoothed),
    held-out loss with its 95 % interval and by noise level, learning rate, gradient norm with skipped steps, losses of
    the players and what a model says of itself, and the latest grids; of a run that goes on, too.

    Raises ImportError without matplotlib, FileNotFoundError where there is no log, ValueError for an empty one. Lines
    that are none, as the last of a run that was killed, are passed over.
    """
    run = as_path("run", run)
    out = run / "plot.png" if out is None else as_path("out", out)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install genfast[demo]") from error
    log = LogFile(run / "log.jsonl")
    if not log.path.is_file():
        raise FileNotFoundError(f"run must be the folder of a run, with a log.jsonl in it; got {run}")
    if not (lines := log.lines()):
        raise ValueError(f"run must have logged something; got no line in {log.path}")

    curves = _columns(lines)
    pictures = _pictures(run)
    small = [name for name in ("lr", "grad_norm") if name in curves] + _watched(curves)
    rows = -(-len(small) // SMALL)
    strip = min(3.0, WIDTH / sum(image.width / image.height for _, image in pictures)) + 0.2 if pictures else 0
    heights = [3.4, *[1.9] * rows, *[strip] * bool(pictures)]
    figure = Figure(figsize=(WIDTH, 0.6 + sum(heights)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(_summary(run, lines), x=0.01, ha="left", fontsize=11)
    bands = iter(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])

    _draw_losses(next(bands), curves)
    for row in range(rows):
        names = small[row * SMALL : (row + 1) * SMALL]
        band = next(bands).subplots(1, max(len(names), min(len(small), SMALL)), squeeze=False)[0]
        for axes in band[len(names) :]:
            axes.set_axis_off()
        for axes, name in zip(band, names):
            _draw_small(axes, name, curves)
    if pictures:
        _draw_strip(next(bands), pictures)
    file = io.BytesIO()
    canvas.print_png(file)
    write_file(out, file.getvalue())
    return out


# What is drawn


def _columns(lines: list[LogLine]) -> dict[str, np.ndarray]:
    """Each column of the log, (N,) float64, or (N, ...) where it holds lists; NaN where a line has none."""
    found = {}
    for name in dict.fromkeys(name for line in lines for name in line):
        values = [np.array(line[name], dtype=np.float64) if _is_numeric(line.get(name)) else None for line in lines]
        shapes = {value.shape for value in values if value is not None}
        if len(shapes) == 1 or not shapes:
            missing = np.full(shapes.pop() if shapes else (), np.nan)
            found[name] = np.stack([missing if value is None else value for value in values])
    step = found.get("step", np.array(np.nan))
    return found if step.ndim == 1 and np.isfinite(step).all() else found | {"step": np.arange(1.0, len(lines) + 1)}


def _is_numeric(value: object) -> bool:
    """Numbers, or lists of them, in which null is NaN."""
    if isinstance(value, list):
        return bool(value) and all(item is None or _is_numeric(item) for item in value)
    return isinstance(value, Real)


def _watched(curves: dict[str, np.ndarray]) -> list[str]:
    """What the model says of itself."""
    own = {*LogLine.__annotations__, "lr"}
    return [name for name, v in curves.items() if name not in own and not name.endswith("_loss") and v.ndim == 1]


def _players(curves: dict[str, np.ndarray]) -> list[str]:
    return [name for name, v in curves.items() if name.endswith("_loss") and name != "test_loss" and v.ndim == 1]


def _pictures(run: Path) -> list[tuple[int, Image.Image]]:
    """The latest grids of the run, with their steps."""
    found = []
    paths = [path for path in (run / "samples").glob("*.png") if path.stem.isdigit()]
    for path in sorted(paths, key=lambda path: int(path.stem))[-GRIDS:]:
        try:
            with Image.open(path) as image:
                found.append((int(path.stem), image.convert("RGB")))
        except OSError:  # one that is no picture is not worth an error
            continue
    return found


def _summary(run: Path, lines: list[LogLine]) -> str:
    """A line that says where the run stands."""
    last = lines[-1]
    try:
        steps = read_run(run)["settings"].get("steps")
    except (OSError, ValueError, CorruptCheckpoint):
        steps = None
    step = last["step"] if _known(last, "step") else len(lines)
    words = [f"step {step:,}" + (f" of {steps:,}" if steps else "")]
    if _known(last, "samples"):
        words.append(f"{last['samples']:,} samples")
    if _known(last, "seconds"):
        words.append(_duration(last["seconds"]))
    rates = [line["samples_per_second"] for line in lines if _known(line, "samples_per_second")]
    if rates:
        words.append(f"{np.median(rates):,.0f} samples/s")
    if _known(last, "memory"):
        words.append(f"{last['memory'] / 1e9:.2g} GB")
    if _known(last, "skipped") and last["skipped"]:
        words.append(f"{last['skipped']:,} steps skipped")
    return f"{run.resolve().name}:  " + "  \N{MIDDLE DOT}  ".join(words)


def _known(line: LogLine, name: str) -> bool:
    return isinstance(line.get(name), Real) and math.isfinite(line[name])


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{minutes:.1f} min" if minutes >= 2 else f"{seconds:.0f} s"


# Panels


def _draw_losses(band, curves: dict[str, np.ndarray]) -> None:
    """Training and held-out loss, or those of the players, and beside it the held-out loss by noise level."""
    by_level = curves.get("test_loss_by_snr")
    by_level = by_level if by_level is not None and by_level.ndim == 3 and by_level.shape[2] == 5 else None
    widths = [1] if by_level is None else [5, 4]
    panels = band.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    axes, step, players = panels[0], curves["step"], _players(curves)
    shown = []
    if players:
        _style(axes, step, "losses of the players")
        for name, color in zip(players, (BLUE, ORANGE, *COLORS[2:])):
            shown.append(_curve(axes, step, curves[name], color, name.removesuffix("_loss")))
    else:
        _style(axes, step, "loss")
        if "loss" in curves:
            shown.append(_curve(axes, step, curves["loss"], BLUE, "training"))
        test = curves.get("test_loss", np.empty(0))
        if test.ndim == 2 and test.shape[1] == 3 and (seen := np.isfinite(test[:, 0])).any():
            shown.append(_draw_held_out(axes, step[seen], test[seen]))
    _scale(axes, shown)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, loc="best")
    if by_level is not None:
        _draw_levels(band, panels[1], step, by_level)


def _draw_held_out(axes, step: np.ndarray, test: np.ndarray) -> np.ndarray:
    mean, low, high = test.T
    axes.plot(step, mean, color=RED, lw=1.6, marker="o", ms=3, label="held out, with its 95 % interval")
    axes.fill_between(step, low, high, color=RED, alpha=0.15, lw=0)
    best = int(mean.argmin())
    axes.plot(step[best], mean[best], "o", color=RED, ms=8, mfc="white", mew=1.6)
    axes.annotate(
        f"best: {mean[best]:.4g} at step {step[best]:,.0f}", (step[best], mean[best]), xytext=(0, 12),
        textcoords="offset points", ha="right" if step[best] > 0.5 * step[-1] else "left", color=RED, fontsize=9,
    )  # fmt: skip
    return mean


def _draw_levels(band, axes, step: np.ndarray, levels: np.ndarray) -> None:
    """A curve a bin, dark where the noise is strong."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    _style(axes, step, "held-out loss by noise level")
    seen = np.isfinite(levels[:, :, 2]).any(1)
    if not seen.any():
        return _nothing(axes)
    count, ends = levels.shape[1], levels[seen][-1]
    colors = [colormaps["viridis"](0.9 * k / max(1, count - 1)) for k in range(count)]
    for k, color in enumerate(colors):
        axes.plot(step[seen], levels[seen][:, k, 2], color=color, lw=1.5, marker="o", ms=2.5)
    _scale(axes, [levels[seen][:, :, 2]])
    bar = band.colorbar(
        ScalarMappable(BoundaryNorm(np.arange(count + 1), count), ListedColormap(colors)), ax=axes, pad=0.02, aspect=30
    )
    edges = [ends[0, 0], *((ends[:-1, 1] + ends[1:, 0]) / 2), ends[-1, 1]]
    bar.set_ticks(range(count + 1), labels=[f"{edge:.1f}" for edge in edges], fontsize=8)
    bar.set_label("log-SNR, from noise to data", fontsize=9)
    bar.outline.set_visible(False)


def _draw_small(axes, name: str, curves: dict[str, np.ndarray]) -> None:
    titles = {"lr": "learning rate", "grad_norm": "gradient norm"}
    step, values = curves["step"], curves[name]
    _style(axes, step, titles.get(name, name.replace("_", " ")))
    if name == "lr":
        axes.plot(step, values, color=BLUE, lw=1.5, marker="o" if len(step) == 1 else None)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        return
    shown = _curve(axes, step, values, BLUE, None)
    if name == "grad_norm":
        _scale(axes, [shown])
        _mark_skipped(axes, step, curves.get("skipped"))
    elif not len(shown):
        _nothing(axes)


def _mark_skipped(axes, step: np.ndarray, skipped: np.ndarray | None) -> None:
    if skipped is None or skipped.ndim != 1:
        return
    more = np.diff(np.nan_to_num(skipped), prepend=0) > 0
    if more.any():
        axes.vlines(step[more], 0, 0.12, transform=axes.get_xaxis_transform(), color=RED, lw=1.2)
        place = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(0.99, 0.95, "red: steps skipped", color=RED, fontsize=8, **place)


def _draw_strip(band, pictures: list[tuple[int, Image.Image]]) -> None:
    widths = [image.width / image.height for _, image in pictures]
    for axes, (step, image) in zip(band.subplots(1, len(pictures), squeeze=False, width_ratios=widths)[0], pictures):
        axes.imshow(np.asarray(image), interpolation="antialiased")
        axes.set_title(f"samples, step {step:,}", fontsize=9)
        axes.set_axis_off()


def _curve(axes, step: np.ndarray, values: np.ndarray, color: str, label: str | None) -> np.ndarray:
    """Draws a curve raw and smoothed; returns the values that it has."""
    seen = np.isfinite(values)
    step, values = step[seen], values[seen]
    if len(values) < 3:
        axes.plot(step, values, color=color, marker="o", ms=4, lw=1.5, label=label)
        return values
    step, values = _thinned(step), _thinned(values)
    axes.plot(step, values, color=color, lw=0.8, alpha=0.35)
    axes.plot(step, _smoothed(step, values), color=color, lw=1.8, label=label)
    return values


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most `POINTS` means of neighbors, so that long runs are drawn in no time."""
    return np.array([part.mean() for part in np.array_split(values, min(len(values), POINTS))])


def _smoothed(step: np.ndarray, values: np.ndarray) -> np.ndarray:
    """At each step the line through what is near, weighted by a normal density and by the steps that a value is the
    mean of: a mean would be off at the ends."""
    behind = np.diff(step, prepend=0)
    apart = (step - step[:, None]) / max(0.7 * np.median(behind), (step[-1] - step[0]) / SMOOTH)
    weights = behind * np.exp(-0.5 * apart**2)
    total, first, second = weights.sum(1), (weights * apart).sum(1), (weights * apart**2).sum(1)
    level, slope = weights @ values, (weights * apart) @ values
    alone = total * second - first**2 < 1e-6 * total**2  # no line goes through what has no neighbors
    return np.where(alone, values, (second * level - first * slope) / np.where(alone, 1, total * second - first**2))


def _scale(axes, shown: list[np.ndarray]) -> None:
    """A logarithmic axis where all values are positive and far apart, with ticks that are read without powers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    values = np.concatenate([np.ravel(part) for part in shown]) if shown else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return _nothing(axes)
    low, high = values.min(), values.max()
    if low > 0 and high > SPREAD * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
        decades = math.log10(high / low)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif len(values) >= 20:  # the first losses may be far above all others
        top = np.quantile(values, 0.98)
        axes.set_ylim(low - 0.05 * (top - low) - 1e-9, top + 0.1 * (top - low) + 1e-9)


def _nothing(axes) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center", color=GRAY, fontsize=9)


def _style(axes, step: np.ndarray, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("step", fontsize=8, color=GRAY, labelpad=1)
    axes.tick_params(labelsize=8, color="0.7")
    axes.grid(axis="y", color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.7")
    axes.set_xlim(0, 1.02 * step.max())
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
