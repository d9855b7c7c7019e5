"""Buffers that come back, whatever was done to them, and norms that tell what is not finite."""

import math

import pytest
import torch
from torch import nn

from genfast.training.buffers import Buffers, can_be_averaged, length

CPU = torch.device("cpu")


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.BatchNorm1d(2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("never", torch.full((2,), math.nan))
        self.register_buffer("none", None)
        self.register_buffer("empty", torch.empty(0, 3))


def test_they_come_back():
    model = Holder()
    buffers = Buffers(model)
    model.inner.running_mean += 1
    buffers.keep()
    before = {name: value.clone() for name, value in model.named_buffers()}
    objects = {name: id(value) for name, value in model.named_buffers() if name != "calls"}
    model.inner.running_mean.fill_(math.nan)
    model.inner.num_batches_tracked += 1
    model.calls = model.calls + 1  # another tensor
    buffers.restore()
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name].nan_to_num(7), before[name].nan_to_num(7)) for name in before)
    assert all(id(after[name]) == objects[name] for name in objects)


def test_buffers_that_change_their_shape_or_go():
    model = Holder()
    buffers = Buffers(model)
    for change in (torch.ones(5), None, torch.ones(2)):
        model.empty = change
        buffers.keep()
        model.empty = torch.full((3,), math.nan)
        buffers.restore()
        assert model.empty is change if change is None else torch.equal(model.empty, change)


def test_length():
    model = Holder()
    buffers = Buffers(model)
    assert not buffers.length(CPU).isnan()  # `never` is NaN from the start
    model.inner.running_var[0] = -math.inf
    assert not buffers.length(CPU).isnan()
    model.inner.running_var[1] = math.nan
    assert buffers.length(CPU).isnan()
    assert not Buffers(object()).length(CPU) and Buffers(object()).keep() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_length_and_averages(dtype):
    tensors = [torch.tensor([3.0], dtype=dtype), torch.empty(0, 2), torch.tensor([[4.0, 0.0]], dtype=torch.float64)]
    assert length(tensors, CPU) == 5 and length([], CPU) == 0 and can_be_averaged(tensors)
    top = torch.finfo(dtype).max
    for value in (math.nan, math.inf, -math.inf, top / 2):
        tensors[0][0] = value
        size = length(tensors, CPU).item()
        assert math.isnan(size) if math.isnan(value) else size >= abs(value) * 0.99
        assert not can_be_averaged(tensors)
    tensors[0][0] = top / 8
    assert can_be_averaged(tensors)
