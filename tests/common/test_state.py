"""What a model holds: without wrappers, held against what it should be, and whether it is finite."""

import math

import pytest
import torch
from torch import nn

from genfast.common.state import misfits, not_finite, own_names, parameter_names, unwrapped


def test_unwrapped():
    net = nn.Linear(2, 2)
    for wrapped in (net, torch.compile(net), nn.DataParallel(net), torch.compile(nn.DataParallel(net))):
        assert unwrapped(wrapped) is net
    assert unwrapped(3) == 3

    class DataParallel(nn.Module):
        """Not torch's."""

    assert type(unwrapped(DataParallel())) is DataParallel


def test_own_names():
    class Model(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.module = nn.ModuleDict({"module": nn.Linear(1, 1)})
            self.net = wrap(nn.Sequential(nn.Linear(1, 1), wrap(nn.Linear(1, 1))))
            self.again = self.net

    plain = Model(lambda net: net)
    for wrap in (torch.compile, nn.DataParallel, lambda net: torch.compile(nn.DataParallel(net))):
        model = Model(wrap)
        names = own_names(model, model.state_dict())
        assert list(names.values()) == list(plain.state_dict()) and set(names) == model.state_dict().keys()
        names = own_names(wrap(plain), wrap(plain).state_dict())
        assert list(names.values()) == list(plain.state_dict())
    assert own_names(object(), ["module.a"]) == {"module.a": "module.a"}


def test_misfits():
    own = {"a": torch.zeros(2), "b": torch.zeros(3), "n": torch.zeros((), dtype=torch.int64)}
    assert misfits(own, own) == ""
    assert misfits(own | {"a": torch.zeros(2, dtype=torch.bfloat16)}, own) == ""
    assert misfits({}, own) == "3 missing: a, b, n"
    other = {"a": torch.zeros(2, 1), "n": torch.zeros((), dtype=torch.int32)} | {
        name: torch.zeros(1) for name in "wxyz"
    }
    assert misfits(other, own) == (
        "1 missing: b; 4 unexpected: w, x, y, ...; 1 misshapen: a of shape (2, 1) instead of (2,); "
        "1 of another kind: n of int32 instead of int64"
    )
    assert "a of complex64" in misfits(own | {"a": torch.zeros(2, dtype=torch.complex64)}, own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float8_e5m2, torch.complex64])
def test_not_finite(dtype):
    good = {"n": torch.ones(2, dtype=torch.int64), "w": torch.ones(3, dtype=dtype), "empty": torch.empty(0)}
    assert not_finite(good, good) == ""
    for value, in_buffer in ((math.nan, "w holds NaN"), (math.inf, ""), (-math.inf, "")):
        bad = good | {"w": torch.tensor([0.0, value, 1.0]).to(dtype)}
        assert not_finite(bad, ["n"]) == in_buffer and not_finite(bad, ["w"]) == (in_buffer or "w holds infinity")


def test_parameter_names():
    net = nn.BatchNorm1d(2)
    assert parameter_names(net, net.state_dict()) == {"weight", "bias"}
    net = nn.BatchNorm1d(2, affine=False)
    assert parameter_names(net, net.state_dict()) == {"running_mean", "running_var", "num_batches_tracked"}
    assert parameter_names(object(), ["a"]) == set()
