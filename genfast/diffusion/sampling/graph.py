"""A trajectory as one CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor

from .trajectory import Chunk, Trajectory, _Network


def captured(trajectory: Trajectory, example: Chunk) -> Callable[[Chunk], Tensor]:
    """`trajectory.run` as one CUDA graph, for chunks of the shapes of `example`: no launch is left to the host."""

    def tensors(chunk: Chunk) -> list[Tensor]:
        parts = [chunk.key, chunk.x, *chunk.condition.values(), *chunk.unconditional.values(), *chunk[4:]]
        return [part for part in parts if part is not None]

    def cloned(conditions: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in conditions.items()}

    def laid_out(chunk: Chunk) -> Chunk:
        """With what is prepared in one tensor of a fixed shape: a graph may not look at labels."""
        prepared = _Network(trajectory, chunk).prepared
        rows = None if prepared is None else torch.stack([prepared(r) for r in range(len(trajectory.plan))])
        return chunk._replace(prepared=rows)

    example = laid_out(example)
    own = [None if part is None else part.clone() for part in example[4:]]
    static = Chunk(
        example.key.clone(), example.x.clone(), cloned(example.condition), cloned(example.unconditional), *own
    )
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # once as it is: lazy initialization may not be captured
        trajectory.run(static)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = trajectory.run(static)

    def replay(chunk: Chunk) -> Tensor:
        for to, value in zip(tensors(static), tensors(laid_out(chunk)), strict=True):
            to.copy_(value)
        graph.replay()
        return out

    return replay
