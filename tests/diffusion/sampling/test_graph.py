"""What a graph reads is a copy of every tensor of a chunk, by name; that it replays is in test_trajectory.py."""

import torch

from genfast.diffusion.sampling.graph import _cloned, _tensors
from genfast.diffusion.sampling.trajectory import Chunk


def test_every_tensor_of_a_chunk_has_a_name_and_a_copy():
    values = iter(torch.arange(20.0).view(10, 2))
    conditions = [{"label": next(values), "condition": next(values)} for _ in range(2)]
    parts = {"condition": conditions[0], "unconditional": conditions[1]}
    full = Chunk(**{name: parts[name] if name in parts else next(values) for name in Chunk._fields})
    assert len(_tensors(full)) == len(Chunk._fields) + 2
    copy = _cloned(full)
    assert _tensors(copy).keys() == _tensors(full).keys()
    for name, value in _tensors(full).items():
        assert torch.equal(_tensors(copy)[name], value) and _tensors(copy)[name].data_ptr() != value.data_ptr()
    bare = full._replace(w=None, known=None, mask=None, prepared=None, unconditional={})
    assert _tensors(_cloned(bare)).keys() == {("key",), ("x",), ("condition", "label"), ("condition", "condition")}
