"""A trajectory as one CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor

from .trajectory import Chunk, Trajectory, _Network


def captured(trajectory: Trajectory, example: Chunk) -> Callable[[Chunk], Tensor]:
    """`trajectory.run` as one CUDA graph, for chunks of the shapes of `example`: no launch is left to the host."""

    def laid_out(chunk: Chunk) -> Chunk:
        """With what is prepared in one tensor of a fixed shape: a graph may not read labels."""
        prepared = _Network(trajectory, chunk).prepared
        rows = None if prepared is None else torch.stack([prepared(r) for r in range(len(trajectory.plan))])
        return chunk._replace(prepared=rows)

    static = _cloned(laid_out(example))
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # once as it is: lazy initialization may not be captured
        trajectory.run(static)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = trajectory.run(static)

    def replay(chunk: Chunk) -> Tensor:
        new = _tensors(laid_out(chunk))
        for name, to in _tensors(static).items():
            to.copy_(new[name])
        graph.replay()
        return out

    return replay


def _cloned(chunk: Chunk) -> Chunk:
    """The chunk with tensors of its own."""

    def own(part):
        if isinstance(part, dict):
            return {name: value.clone() for name, value in part.items()}
        return None if part is None else part.clone()

    return Chunk(**{name: own(part) for name, part in chunk._asdict().items()})


def _tensors(chunk: Chunk) -> dict[tuple[str, ...], Tensor]:
    """Every tensor of a chunk by its name: the field, and for the network's arguments theirs."""
    named = {}
    for field, part in chunk._asdict().items():
        if isinstance(part, dict):
            named |= {(field, name): value for name, value in part.items()}
        elif part is not None:
            named[(field,)] = part
    return named
