"""torch.compile by blocks: what is repeated in a network is compiled, once for all its copies of one shape."""

import contextlib
from collections.abc import Iterator

from torch import nn


def blocks(model: nn.Module) -> list[nn.Module]:
    """The outermost modules that stand in lists; of a network without any, the network."""
    found = []
    for network in model.children():
        listed = list(_listed(network))
        found += listed or [network]
    return found


def _listed(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(module, nn.ModuleList):
            yield child
        else:
            yield from _listed(child)


@contextlib.contextmanager
def compiled(model: object) -> Iterator[None]:
    """Inside it the blocks of the model are compiled, in place: names of weights stay as they are."""
    chosen = blocks(model) if isinstance(model, nn.Module) else []
    for block in chosen:
        block.compile()
    try:
        yield
    finally:
        for block in chosen:
            block._compiled_call_impl = None
