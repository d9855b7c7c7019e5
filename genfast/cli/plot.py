"""genfast plot"""

from pathlib import Path
from typing import Annotated

import tyro


def plot(
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")],
    out: Path | None = None,
) -> None:
    """Draw a run as one picture: loss, held-out loss by noise level, learning rate, norms, samples on the way.

    Args:
        run: The folder of the run.
        out: The picture; RUN/plot.png by default.
    """
    import genfast as gf

    print(gf.training.plot(run, out))
