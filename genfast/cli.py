"""The `genfast` command. A verb is a function here; its arguments and docstring make the help."""

import json as json_module
import sys

import tyro

from .info import info as get_info
from .verify import verify as run_verification


def info(json: bool = False) -> None:
    """Print versions, the instruction set in use, and whether the CUDA kernels are live or why not.

    Args:
        json: Print JSON instead of a table.
    """
    report = get_info()
    print(json_module.dumps(report) if json else report)


def verify(solvers: tuple[str, ...] = (), json: bool = False) -> None:
    """Prove that this installation is right: orders of the solvers, laws, likelihood, invariance. About a minute.

    Exits with 1 if a check fails.

    Args:
        solvers: Solvers to check; all of them by default.
        json: Print JSON, a list with one record a check, instead of a table.
    """
    try:
        report = run_verification(solvers or None)
    except ValueError as error:
        sys.exit(f"genfast verify: {error}")
    print(report.json() if json else report)
    sys.exit(0 if report.passed else 1)


VERBS = {"info": info, "verify": verify}


def main() -> None:
    """Entry point of the `genfast` command."""
    tyro.extras.subcommand_cli_from_dict(VERBS, prog="genfast", description="Train and sample generative models, fast.")


if __name__ == "__main__":
    main()
