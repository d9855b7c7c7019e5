"""genfast study"""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from .errors import usage


def study(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None,
    seed: int = 0,
    out: Path = Path("out"),
    json: bool = False,
) -> None:
    """Run one of the field's questions: a table, a picture and what they show, in under two minutes.

    Writes NAME.png and NAME.json, in place of its own earlier ones. Exits with 1 if what it claims is not borne out.

    Args:
        name: The study; all names are listed if it is left out.
        seed: Of data, weights, training and samples.
        out: Folder for picture and figures.
        json: Print JSON instead of the table.
    """
    from ..common.checks import require_choice, require_integer
    from ..common.keys import MAX_SEED
    from ..studies import STUDIES, load
    from ..studies import run as run_study
    from ..studies.finding import free_files

    with usage():
        seed = require_integer("seed", seed, 0, MAX_SEED)
        if name is not None:
            require_choice("NAME", name, STUDIES)
    if name is None:
        width = max(map(len, STUDIES))
        print("\n".join(f"{name:<{width}}  {question}" for name, question in STUDIES.items()))
        return
    load(name)
    free_files(out, name)  # better known now than at the end
    finding = run_study(name, seed=seed, progress=not json)
    written = finding.save(out)
    print(finding.json() if json else f"{finding}\n\n{', '.join(map(str, written))}")
    sys.exit(0 if finding.holds else 1)
