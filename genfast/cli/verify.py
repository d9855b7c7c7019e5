"""genfast verify"""

import sys

from .errors import usage


def verify(solvers: tuple[str, ...] = (), json: bool = False) -> None:
    """Prove that this installation is right: orders of the solvers, laws, likelihood, invariance. About a minute.

    Exits with 1 if a check fails.

    Args:
        solvers: Solvers to check; all of them by default.
        json: Print JSON, a list with one record a check, instead of a table.
    """
    import genfast as gf

    from ..common.checks import require_choice
    from ..verification import verify as run_verification

    with usage():
        solvers = [require_choice("solvers", name, gf.solvers.SOLVERS) for name in solvers]
    report = run_verification(solvers or None)
    print(report.json() if json else report)
    sys.exit(0 if report.passed else 1)
