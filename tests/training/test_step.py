"""One step: nothing of it is read by the host, parts give the whole, and what a bad one leaves."""

import math

import pytest
import torch
from torch import nn

import genfast as gf
from genfast.testing import no_host_reads
from genfast.training.ema import Averages
from genfast.training.optimizers import Player
from genfast.training.precision import Precision
from genfast.training.step import Step

BATCH = 12


class Regression(nn.Module):
    """y = W x, whose loss is scaled row by row; `faulty` steps are not finite."""

    def __init__(self, faulty=()):
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(3, 4), nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False)
        self.faulty = faulty

    def loss(self, batch, key, *, step=0):
        x = batch["x"]
        if step in self.faulty:
            self.norm(x)
            x = x * math.inf
        return (self.second(self.first(x).tanh()) - x).square().mean(1)


def made(model, *, lengths=(0.1, 0.05), clip=1.0, micro_batch=None, precision="fp32", optimizer=None):
    lr = torch.full((), 0.01)
    player = Player({"params": list(model.parameters())}, lr, 0.01, optimizer)
    averages = Averages(player.parameters, lengths)
    scaled = Precision(precision, lr.device)
    return Step({None: player}, averages, model=model, clip=clip, micro_batch=micro_batch, precision=scaled)


def batch(step=0, size=BATCH):
    key = gf.ops.make_key(0, torch.arange(step * size, (step + 1) * size))
    return [({"x": gf.ops.normal(key, (3,), gf.ops.Purpose.PRIOR), "label": None}, key)]


def everything(step):
    """All that a step may change, but what it counts."""
    model, (player,) = step.model, step.players.values()
    values = [*model.state_dict().values(), *(v for values in step.averages.values for v in values)]
    return [v.clone() for v in (*values, *player.state()[0].values())]


def test_the_host_reads_nothing():
    torch.manual_seed(0)
    step = made(Regression(faulty={2}))
    batches = [batch(k) for k in range(5)]
    step(batches[0], 0, 0.01)
    with no_host_reads():
        for k in range(1, 5):
            step(batches[k], k, 0.01)
    reading = step.tally.read()
    assert (reading.updates, reading.skipped, reading.in_row, reading.broken) == (4, 1, 0, 0)


def test_a_bad_step_changes_nothing():
    torch.manual_seed(0)
    model = Regression(faulty={1, 2})
    step = made(model)
    step(batch(), 0, 0.01)
    before = everything(step)
    for k in (1, 2):
        step(batch(k), k, 0.01)
    assert all(map(torch.equal, before, everything(step)))
    reading = step.tally.read()
    assert (reading.skipped, reading.in_row) == (2, 2)
    assert [name for name, _ in model.named_parameters()][reading.parameter] == "first.weight"
    step(batch(3), 3, 0.01)
    assert step.tally.read().in_row == 0 and not any(map(torch.equal, before[:4], everything(step)[:4]))


@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, lambda p: torch.optim.SGD(p, momentum=0.9, fused=True)])
def test_optimizers_of_others_skip_too(optimizer):
    torch.manual_seed(0)
    step = made(Regression(faulty={1}), optimizer=optimizer)
    step(batch(), 0, 0.01)
    before = everything(step)
    step(batch(1), 1, 0.01)
    assert all(map(torch.equal, before, everything(step)))
    step(batch(2), 2, 0.02)
    assert not torch.equal(before[0], everything(step)[0])
    assert next(iter(step.players.values())).optimizer.param_groups[0]["lr"] == 0.02


def test_an_optimizer_must_be_one():
    with pytest.raises(TypeError, match=r"optimizer must make a torch\.optim\.Optimizer of a list.*; got int"):
        made(Regression(), optimizer=len)


@pytest.mark.parametrize("micro_batch", [1, 5, 12, 100])
def test_parts_give_the_whole(micro_batch):
    torch.manual_seed(0)
    model = Regression()
    whole = made(model)
    torch.manual_seed(0)
    parts = made(Regression(), micro_batch=micro_batch)
    for k in range(5):
        whole(batch(k), k, 0.01)
        parts(batch(k), k, 0.01)
    a, b = whole.tally.read(), parts.tally.read()
    assert a.losses == pytest.approx(b.losses, rel=1e-6) and a.norm == pytest.approx(b.norm, rel=1e-6)
    for one, other in zip(everything(whole), everything(parts)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_weights_that_are_not_finite_stop_the_averages_for_good():
    torch.manual_seed(0)
    model = Regression()
    step = made(model)
    step(batch(), 0, 0.01)
    kept = [v.clone() for values in step.averages.values for v in values]
    with torch.no_grad():
        model.second.bias[0] = 3e38  # finite, but the difference of two such is not
    step(batch(1), 1, 0.01)
    with torch.no_grad():
        model.second.bias[0] = 0.0
    step(batch(2), 2, 0.01)
    assert step.tally.read().broken == 2
    assert all(map(torch.equal, kept, (v for values in step.averages.values for v in values)))


def test_an_error_in_the_loss_leaves_the_step_whole():
    torch.manual_seed(0)
    model = Regression()
    step = made(model)
    step(batch(), 0, 0.01)
    assert step.torn
    step.torn = False
    before = everything(step)

    def failing(batch, key, *, step=0):
        model.norm(batch["x"])
        raise KeyError("x")

    model.loss = failing
    with pytest.raises(KeyError):
        step(batch(1), 1, 0.01)
    assert not step.torn and all(map(torch.equal, before, everything(step)))


def test_a_loss_of_another_shape():
    model = Regression()
    model.loss = lambda batch, key, *, step=0: batch["x"].mean()
    with pytest.raises(ValueError, match=r"the model's loss must have shape \(12,\), one each; got \(\)"):
        made(model)(batch(), 0, 0.01)
