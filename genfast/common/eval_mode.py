"""Eval mode for a while."""

import contextlib
import threading
from collections.abc import Iterator

from torch import nn

_LOCK = threading.Lock()  # of changes between training and eval mode


@contextlib.contextmanager
def evaluating(*networks: object) -> Iterator[None]:
    """Inside it these networks are in eval mode; what is no Module is passed over.

    Threads may be in it at once: the last to leave restores the modes, of each part by itself, for a frozen part of a
    network in training stays in eval mode.
    """
    networks = [network for network in networks if isinstance(network, nn.Module)]
    with _LOCK:
        for network in networks:
            inside, training = network.__dict__.get("_evaluating", (0, []))
            if not inside:
                training = [module for module in network.modules() if module.training]
                network.eval()
            network.__dict__["_evaluating"] = (inside + 1, training)
    try:
        yield
    finally:
        with _LOCK:
            for network in networks:
                inside, training = network.__dict__.pop("_evaluating")
                if inside > 1:
                    network.__dict__["_evaluating"] = (inside - 1, training)
                    continue
                for module in training:
                    module.training = True
