"""The `genfast` command. A verb is a function in a file of its own here; its arguments and docstring make the help.

What a verb needs is imported when it runs, so that help comes at once.
"""

import sys

import tyro

import genfast as gf

from .errors import reported
from .evaluate import evaluate
from .info import info
from .memory import keep_freed_memory
from .plot import plot
from .sample import sample
from .study import study
from .train import train
from .verify import verify

VERBS = {
    "train": train, "sample": sample, "plot": plot, "evaluate": evaluate, "study": study, "verify": verify,
    "info": info,
}  # fmt: skip


def main() -> None:
    """Entry point of the `genfast` command. Exits with 2 for a command line that is wrong, with 1 for all else that
    goes wrong, after one sentence; see `errors.reported`."""
    with reported(" ".join(["genfast", *sys.argv[1:2]])):
        if sys.argv[1:] == ["--version"]:
            print(f"genfast {gf.__version__}")
            return
        keep_freed_memory()
        tyro.extras.subcommand_cli_from_dict(
            VERBS, prog="genfast", description="Train and sample generative models, fast. --version says which this is."
        )
