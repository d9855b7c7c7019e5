"""How samples are drawn: what all samples of a call have in common beside the network and the plan."""

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np
import torch

from ...common import cuda_graphs
from ...common.checks import (
    require_bool,
    require_callable,
    require_choice,
    require_chunk,
    require_device,
    require_integer,
    require_number,
    require_pair,
    shown,
)
from ...common.keys import MAX_SEED
from ..guidance.classifier_free import Guidance, as_guidance
from .step_table import NOISES

DTYPES = (torch.float32, torch.float64)  # of the state


def require_clamp(clamp: object) -> tuple[float, float] | None:
    """clamp, None or (low, high) of which either may be infinite."""
    return None if clamp is None else require_pair("clamp", clamp, infinite=True)


def require_graph(graph: object) -> bool | str:
    """graph, True, False or "auto"."""
    if isinstance(graph, bool | np.bool_):
        return bool(graph)
    return require_choice("graph", graph, (True, False, "auto"))


def require_arguments(**arguments: object) -> None:
    """TypeError, naming it, unless each is None or a dict: keyword arguments of the network."""
    for name, value in arguments.items():
        if not isinstance(value, dict | None) or not all(isinstance(key, str) for key in value or ()):
            got = type(value).__name__ if not isinstance(value, dict) else f"the names {shown(list(value))}"
            raise TypeError(f"{name} must be a dict of arguments of the network; got {got}")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SampleSettings:
    """The arguments of `sampling.sample` that say how, not what, as they are used from there down; what each means is
    said there. Raises ValueError naming the setting.

    A new one is a field here, a keyword of `sampling.sample` and of `Diffusion.sample`, and the place that uses it.
    """

    seed: int = 0
    guidance: Guidance | None = None
    clamp: tuple[float, float] | None = None
    threshold: float | None = None
    noise: str = "white"
    chunk: int | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    graph: bool | str = "auto"
    progress: bool = True
    callback: Callable[..., None] | None = None

    def __post_init__(self):
        checked = {
            "seed": require_integer("seed", self.seed, 0, MAX_SEED),
            "guidance": as_guidance(self.guidance),
            "clamp": require_clamp(self.clamp),
            "noise": require_choice("noise", self.noise, NOISES),
            "chunk": None if self.chunk is None else require_chunk(self.chunk),
            "dtype": require_choice("dtype", self.dtype, DTYPES),
            "device": require_device("device", self.device, there=False),
            "graph": require_graph(self.graph),
            "progress": require_bool("progress", self.progress),
            "callback": require_callable("callback", self.callback, optional=True),
        }
        if self.threshold is not None:
            checked["threshold"] = require_number("threshold", self.threshold, above=0, most=1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.graph is True and not cuda_graphs.graphs.serves(self.device):
            # Five frames up is who calls one of the two public `sample`.
            warnings.warn(f"graph=True is ignored: there are no CUDA graphs on {self.device}", stacklevel=5)
