"""What `genfast sample` writes: a sheet, arrays, or a folder of pictures."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import genfast as gf

from ..common import processes
from ..common.files import made_folder, remove_temporaries, write_file, write_files
from ..common.rows import replace, replaced, written
from ..data.images import grid, is_image, png, save_png
from ..features import fingerprint
from .drawing import Drawing

MOST = 400  # samples in one sheet
MARK, SCHEMA = ".samples.json", "genfast.samples"  # in a folder of samples: of which drawing they are


def writer(out: Path, n: int) -> Callable[[Path, Drawing, Tensor], None]:
    """What writes n samples to `out`, as its name says. Raises ValueError for another name, or too many for a sheet."""
    suffix = out.suffix.lower()
    if suffix == ".png" and n > MOST:
        raise ValueError(f"n must be at most {MOST} for one sheet; got {n}: pass a folder, .npy or .npz as --out")
    if suffix in WRITERS:
        return WRITERS[suffix]
    if suffix[1:].isalpha() and not out.is_dir():
        raise ValueError(f"out must be a .png, .npy or .npz file or a folder; got {out}")
    return save_folder


def require_drawable(out: Path, shape: tuple[int, ...] | None) -> None:
    """ValueError for samples that are no images where each is to be a picture."""
    if writer(out, 1) is save_folder and not is_image(shape):
        raise ValueError(f"out must be a .png, .npy or .npz file for samples that are no images; got {out}, a folder")


def save_sheet(path: Path, drawing: Drawing, index: Tensor) -> None:
    """All in one picture: images row by row, with classes in turn a column a class; all else as points."""

    def save(rows: Path) -> None:
        x, grids = torch.from_numpy(np.load(rows)), gf.training.grids
        if is_image(drawing.shape):
            columns = None if drawing.label is not None else min(len(index), grids.columns_of(drawing.model))
            picture = grid(x, columns=columns, scale=max(1, grids.SIDE // x.shape[2]), padding=2)
        else:
            picture = grids.scatter(x, drawing.labels(index), {})
        save_png(path, picture)

    _with_rows(path, drawing, index, save)


def save_npy(path: Path, drawing: Drawing, index: Tensor) -> None:
    """x, (n, *) float32, as it comes."""
    _with_rows(path, drawing, index, lambda rows: replace(rows, path))


def save_npz(path: Path, drawing: Drawing, index: Tensor) -> None:
    """x, and label, (n,) int64, of a model with classes."""
    label = drawing.labels(index)

    def save(rows: Path) -> None:
        with replaced(path) as file, zipfile.ZipFile(file, "w") as archive:
            with open(rows, "rb") as x, archive.open("x.npy", "w", force_zip64=True) as column:
                shutil.copyfileobj(x, column, 2**20)
            if label is not None:
                with archive.open("label.npy", "w", force_zip64=True) as column:
                    np.lib.format.write_array(column, label.numpy(), allow_pickle=False)

    _with_rows(path, drawing, index, save)


def save_folder(path: Path, drawing: Drawing, index: Tensor) -> None:
    """A picture each, 0000000.png, ..., called by its index; those that are there already are not drawn again.

    Raises FileExistsError where the folder holds anything but samples of the same weights, seed, label and settings.
    """

    def begun() -> list[int]:
        folder = made_folder("out", path)
        _claim(folder, drawing)
        missing = [i for i in index.tolist() if not _picture(folder, i).exists()]
        remove_temporaries(folder, of={_picture(folder, i).name for i in missing})
        return missing

    def draw() -> None:
        for piece, x in drawing.pieces(missing):
            images = zip(piece.tolist(), x)
            write_files({_picture(path, i): png(grid(image[None], padding=0)) for i, image in images})

    missing = torch.tensor(processes.first(begun), dtype=torch.int64, device="cpu")
    processes.together(draw)


WRITERS = {".png": save_sheet, ".npy": save_npy, ".npz": save_npz}


def _claim(folder: Path, drawing: Drawing) -> None:
    """Leaves the mark of the drawing in the folder, or finds it there."""
    state = drawing.model.state_dict() if hasattr(drawing.model, "state_dict") else {}
    told = {"seed": drawing.seed, "label": drawing.label, **drawing.settings, "weights": fingerprint(state)}
    mark = {"schema": SCHEMA} | json.loads(json.dumps(told))
    try:
        found = json.loads((folder / MARK).read_bytes())
    except FileNotFoundError:
        if there := sorted(entry.name for entry in folder.iterdir()):
            raise FileExistsError(
                f"out must be a folder of samples, an empty one, or a new one; got {folder}, which holds {there[0]}"
            ) from None
        write_file(folder / MARK, json.dumps(mark).encode())
        return
    except ValueError:
        found = {}
    if found != mark:
        other = [name for name in mark if not isinstance(found, dict) or found.get(name) != mark[name]]
        raise FileExistsError(
            f"out must be a folder of samples of this model, seed, label and settings; those in {folder} differ in "
            f"{', '.join(other) or 'more than that'}: pass another folder"
        )


def _picture(folder: Path, index: int) -> Path:
    return folder / f"{index:07d}.png"


def _with_rows(path: Path, drawing: Drawing, index: Tensor, save: Callable[[Path], None]) -> None:
    """`save`, in the first process, of a .npy of all samples, whatever process has drawn them."""
    pieces = ((int(piece[0] - index[0]), x.numpy()) for piece, x in drawing.pieces(index))
    with written(path, (len(index), *drawing.shape), pieces) as rows:
        processes.first(lambda: save(rows))
