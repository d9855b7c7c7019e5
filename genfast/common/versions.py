"""What wrote a file: the versions that checkpoints, reports and studies carry."""

import torch

from .._version import __version__


def versions() -> dict[str, str]:
    """The versions of genfast and torch, by name."""
    return {"genfast": __version__, "torch": str(torch.__version__)}
