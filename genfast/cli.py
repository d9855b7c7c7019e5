"""The `genfast` command. A verb is a function here; its arguments and docstring make the help."""

import json as json_module

import tyro

from .info import info as get_info


def info(json: bool = False) -> None:
    """Print versions, the instruction set in use, and whether the CUDA kernels are live or why not.

    Args:
        json: Print JSON instead of a table.
    """
    report = get_info()
    print(json_module.dumps(report) if json else report)


VERBS = {"info": info}


def main() -> None:
    """Entry point of the `genfast` command."""
    tyro.extras.subcommand_cli_from_dict(VERBS, prog="genfast", description="Train and sample generative models, fast.")


if __name__ == "__main__":
    main()
