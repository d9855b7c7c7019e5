"""torch.compile by blocks: what is repeated in a network is compiled, once for all its copies of one shape."""

import contextlib
from collections.abc import Iterator

from torch import nn


def blocks(model: nn.Module) -> list[nn.Module]:
    """The outermost modules with a forward that stand in lists; of a network without any, the network."""
    found = []
    for network in model.children():
        listed = list(_listed(network, False))
        found += listed or [network] * _is_called(network)
    return found


def _listed(module: nn.Module, inside: bool) -> Iterator[nn.Module]:
    """inside: whether it stands in a list."""
    if inside and _is_called(module):
        yield module
        return
    for child in module.children():
        yield from _listed(child, inside or isinstance(module, nn.ModuleList))


def _is_called(module: nn.Module) -> bool:
    return type(module).forward is not nn.Module.forward


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
