"""Buffers that come back, whatever was done to them, and what has become NaN."""

import math

import pytest
import torch
from torch import nn

from genfast.testing import no_host_reads
from genfast.training.buffers import Buffers

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


@pytest.mark.parametrize("good", [True, False])
def test_a_step_is_settled_without_a_look(good):
    model = Holder()
    buffers = Buffers(model)
    kept = model.inner.running_mean.clone()
    model.inner.running_mean.add_(1)
    with no_host_reads():
        buffers.settle(torch.tensor(good))
    assert torch.equal(model.inner.running_mean, kept + 1 if good else kept)
    model.empty = torch.ones(5)  # of another shape
    buffers.settle(torch.tensor(good))
    assert model.empty.shape == ((5,) if good else (0, 3))


def test_whether_one_has_become_nan():
    model = Holder()
    buffers = Buffers(model)
    assert buffers.fine(CPU)  # `never` is NaN from the start
    model.inner.running_var[0] = -math.inf
    assert buffers.fine(CPU)
    model.inner.running_var[1] = math.nan
    assert not buffers.fine(CPU)
    assert Buffers(object()).fine(CPU) and Buffers(object()).keep() is None
