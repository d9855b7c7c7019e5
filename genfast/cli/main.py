"""The `genfast` command. A verb is a function in a file of its own here; its arguments and docstring make the help.

What a verb needs is imported when it runs, so that help comes at once.
"""

import tyro

from .evaluate import evaluate
from .info import info
from .study import study
from .verify import verify

VERBS = {"info": info, "verify": verify, "evaluate": evaluate, "study": study}


def main() -> None:
    """Entry point of the `genfast` command."""
    tyro.extras.subcommand_cli_from_dict(VERBS, prog="genfast", description="Train and sample generative models, fast.")
