"""What a study finds: a table, the claims it bears out or not, and a picture with the claims as its caption."""

import dataclasses
import io
import json
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.files import to_json, writable_folder, write_file
from ..common.versions import versions
from ..evaluation.table import aligned, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA, VERSION = "genfast.study", 1
INCHES_A_CHARACTER = 0.06  # of the caption's type, and some margin


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence with the figures of this run in it, and whether they bear it out."""

    words: str
    holds: bool

    def __str__(self) -> str:
        return self.words if self.holds else f"NOT SHOWN: {self.words}"


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """The result of a study. Prints as a table and its claims.

    title: the question.  columns, rows: the table; cells are words, integers or floats.  claims: what the table shows.
    draw: draws the picture on an empty matplotlib Figure, whose layout is "constrained".  size: of the picture, in
    inches, without its caption.  settings: whatever the figures depend on; the seed among them.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    claims: Sequence[Claim]
    draw: Callable[["Figure"], None]
    settings: dict[str, Any]
    size: tuple[float, float] = (8.0, 4.5)

    @property
    def holds(self) -> bool:
        """Whether all claims are borne out."""
        return all(claim.holds for claim in self.claims)

    def __str__(self) -> str:
        table = aligned([self.columns, *([_cell(value) for value in row] for row in self.rows)])
        claims = [textwrap.fill(f"- {claim}", 100, subsequent_indent="  ") for claim in self.claims]
        return "\n".join([self.title, "", *table, "", *claims])

    def json(self) -> str:
        """Everything but the picture; a number that is not finite is null."""
        named = {"schema": SCHEMA, "version": VERSION} | versions()
        named |= {"name": self.name, "title": self.title, "settings": self.settings}
        claims = [dataclasses.asdict(claim) for claim in self.claims]
        return to_json(named | {"columns": list(self.columns), "rows": [*map(list, self.rows)], "claims": claims})

    def picture(self) -> bytes:
        """A PNG of what `draw` draws, title above, claims below."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        width, height = self.size
        caption = [textwrap.fill(str(claim), int(width / INCHES_A_CHARACTER)) for claim in self.claims]
        lines = "\n".join(caption).count("\n") + 1
        figure = Figure(figsize=(width, height + 0.17 * lines), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        self.draw(figure)
        figure.suptitle(self.title, fontsize=11)
        figure.supxlabel("\n".join(caption), fontsize=8, x=0.02, ha="left")
        file = io.BytesIO()
        canvas.print_png(file)
        return file.getvalue()

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Writes `name`.png and `name`.json, atomically, in place of those of an earlier run; their paths. Raises as
        `free_files` does."""
        picture, record = free_files(folder, self.name)
        drawn = self.picture()
        write_file(record, self.json().encode())  # first, for it tells whose the picture is
        write_file(picture, drawn)
        return picture, record


def free_files(folder: str | Path, name: str) -> tuple[Path, Path]:
    """The paths of the picture and the record of a study, after a trial of the folder, which is made if need be.

    Raises OSError if nothing can be written there, and FileExistsError if the files are not those of the study.
    """
    folder = writable_folder("folder", folder)
    picture, record = folder / f"{name}.png", folder / f"{name}.json"
    there = [str(path) for path in (picture, record) if os.path.lexists(path)]
    if there and not _is_of(record, name):
        raise FileExistsError(
            f"folder must have no files of others where the study writes; got {' and '.join(there)}, which "
            f"{name!r} did not write: pass another one, or move that away"
        )
    return picture, record


def _is_of(record: Path, name: str) -> bool:
    """Whether the file is a record of this study."""
    try:
        content = json.loads(record.read_bytes())
        return content["schema"] == SCHEMA and content["name"] == name
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _cell(value: str | int | float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else number(value)
