"""Mixed precision: float32 weights under autocast, and the scale of float16."""

import pytest
import torch
from torch import nn

from genfast.training import precision
from genfast.training.loop import fit
from genfast.training.precision import Precision

X = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


class Model(nn.Module):
    """Small gradients: in float16 they are lost without a scale."""

    def __init__(self, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.factor, self.dtypes = nn.Linear(16, 16), factor, set()

    def loss(self, batch, key, *, step=0):
        y = self.linear(batch["x"])
        self.dtypes.add(y.dtype)
        return self.factor * (y - batch["x"]).float().square().mean(1)


@pytest.mark.parametrize("name, dtype", [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_the_network_runs_in_it_and_the_weights_stay_in_float32(name, dtype):
    model, plain = Model(), Model()
    logs = fit(model, X, steps=40, batch=16, lr=1e-2, precision=name, progress=False)
    expected = fit(plain, X, steps=40, batch=16, lr=1e-2, progress=False)
    assert model.dtypes == {dtype} and model.linear.weight.dtype == torch.float32
    assert logs[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=1e-2)


def test_small_gradients_are_not_lost_in_float16():
    model, plain = Model(1e-6), Model(1e-6)
    norm = fit(model, X, steps=1, batch=16, precision="fp16", progress=False)[0]["grad_norm"]
    assert norm == pytest.approx(fit(plain, X, steps=1, batch=16, progress=False)[0]["grad_norm"], rel=1e-2)


def test_a_scale_that_is_too_large_is_halved_and_the_steps_are_skipped():
    model = Model(1e3)  # 2^16 x 1e3 overflows float16 on the way back
    logs = fit(model, X, steps=40, batch=16, precision="fp16", log_every=1, progress=False)
    skipped = [log["skipped"] for log in logs]
    assert skipped[:3] == [1, 2, 3] and 3 < skipped[-1] < 15 and logs[-1]["loss"] < logs[20]["loss"]


def test_the_scale_follows(monkeypatch):
    monkeypatch.setattr(precision, "PATIENCE", 3)
    scaled, yes, no = Precision("fp16", CPU), torch.tensor(True), torch.tensor(False)
    scales = []
    for good in (yes, yes, yes, yes, no, yes, yes, no):
        scaled.follow(good)
        scales.append(scaled.scale.item() / precision.START)
    assert scales == [1, 1, 2, 2, 1, 1, 1, 0.5]
    other = Precision("fp16", CPU)
    other.load({name: value.clone() for name, value in scaled.tensors().items()})
    assert torch.equal(other.scale, scaled.scale) and torch.equal(other.good, scaled.good)


def test_float32_has_no_scale():
    plain = Precision("fp32", CPU)
    plain.follow(torch.tensor(False))
    assert plain.scale == 1 and plain.tensors() == {} and plain.up(torch.tensor(3.0)) == 3
