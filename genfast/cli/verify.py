"""genfast verify"""

import sys


def verify(solvers: tuple[str, ...] = (), json: bool = False) -> None:
    """Prove that this installation is right: orders of the solvers, laws, likelihood, invariance. About a minute.

    Exits with 1 if a check fails.

    Args:
        solvers: Solvers to check; all of them by default.
        json: Print JSON, a list with one record a check, instead of a table.
    """
    from ..verification import verify as run_verification

    try:
        report = run_verification(solvers or None)
    except ValueError as error:
        sys.exit(f"genfast verify: {error}")
    print(report.json() if json else report)
    sys.exit(0 if report.passed else 1)
