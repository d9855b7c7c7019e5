"""The pictures of a report: samples, near copies beside what they copy, and every number beside its baseline."""

import importlib.util
import io
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from ..common.files import write_file
from ..data.dataset import Data
from ..data.images import is_image, save_png
from ..metrics import Memorization
from .records import Record
from .report import Report, is_report
from .sources import Source
from .table import ARROWS, number

PICTURES = ("samples.png", "memorization.png")  # of samples that are images
SHEET, PAIRS = 64, 12  # images of samples.png, columns of memorization.png
SIDE = 40  # pixels, about, of a small image


def refuse_strangers(folder: Path, shape: tuple[int, ...]) -> None:
    """Raises FileExistsError where a report about samples of this shape would replace files of others: such as lie
    there without a report beside them."""
    names = ["report.json", "report.png", *(PICTURES if is_image(shape) else ())]
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not is_report(folder / "report.json"):
        raise FileExistsError(
            f"out must have no files of others where the report goes; got {', '.join(there)} in {folder}, which "
            "evaluate did not write: pass another folder, or move them away"
        )


def remove_pictures(folder: Path) -> None:
    """Those of an earlier report, where there is one: another picture of the name is not ours."""
    if is_report(folder / "report.json"):
        for name in (*PICTURES, "report.png"):
            (folder / name).unlink(missing_ok=True)


def save_pictures(
    folder: Path, report: Report, source: Source, train: Data | None, memorization: Memorization | None
) -> None:
    """samples.png and memorization.png where samples are images, report.png where matplotlib is installed."""
    if is_image(source.shape):
        scale = max(1, SIDE // source.shape[1])
        save_png(
            folder / "samples.png",
            _drawn(source, torch.arange(min(SHEET, source.n), device="cpu")),
            scale=scale,
            padding=2,
        )
        if memorization is not None:
            worst = memorization.order[:PAIRS].cpu()
            pairs = torch.cat([_drawn(source, worst), train.rows(memorization.nearest.cpu()[worst])["x"].cpu()])
            save_png(folder / "memorization.png", pairs, columns=len(worst), scale=scale, padding=2)
    if _drawable(report) and importlib.util.find_spec("matplotlib"):
        write_file(folder / "report.png", draw(report))


def _drawn(source: Source, index: Tensor) -> Tensor:
    return source.draw(index).cpu()


def _drawable(report: Report) -> list[Record]:
    """Those that can be drawn: of some the interval says nothing, and has no end."""
    return [r for r in report.records if all(map(math.isfinite, (r.center, r.estimate.low, r.estimate.high)))]


def draw(report: Report) -> bytes:
    """A PNG with a panel a number: its value and interval in blue, real data in gray. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = _drawable(report)
    figure = Figure(figsize=(7, 1.0 + 0.62 * len(records)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(records), squeeze=False)[:, 0]
    title = f"{report.n} of {report.model['name']} against {report.m} of {report.data['name']}"
    figure.suptitle(f"{title}\nblue: samples and interval, gray: what real data are given", fontsize=10)
    for axes, record in zip(panels, records):
        e, baseline = record.estimate, record.baseline
        if baseline is not None and math.isfinite(baseline.low) and math.isfinite(baseline.high):
            axes.axvspan(baseline.low, baseline.high, color="0.8", lw=0)
            axes.axvline(baseline.low, color="0.55", lw=1)
            axes.axvline(baseline.high, color="0.55", lw=1)
        axes.plot([e.low, e.high], [0, 0], color="tab:blue", lw=2, marker="|", ms=9)
        inside = min(max(record.center, e.low), e.high)  # an extrapolation may be beyond what is possible
        axes.plot(inside, 0, "o", color="tab:blue", ms=6)
        axes.margins(x=0.15)
        axes.set(yticks=[], ylim=(-1, 1))
        name = record.name.replace("_", " ") + (", n to infinity" if record.extrapolated else "")
        name = f"{name} {ARROWS.get(record.better, '')}".rstrip()
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.text(1.02, 0.5, number(record.center), transform=axes.transAxes, va="center", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["left", "right", "top"]].set_visible(False)
    file = io.BytesIO()
    canvas.print_png(file)
    return file.getvalue()
