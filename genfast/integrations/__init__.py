"""Bridges to other libraries, one package each, imported on first use; nothing in genfast imports them."""

import importlib

__all__ = ["diffusers"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f".{name}", __name__)
