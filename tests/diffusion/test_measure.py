"""What a diffusion model takes from its data before it is trained, and that its loss then changes nothing."""

import math

import pytest
import torch
from helpers import perturbed
from long import recipe

import genfast as gf
from genfast import ops
from genfast.diffusion.process.denoisers import EDM
from genfast.diffusion.process.schedules import SCHEDULES
from genfast.diffusion.scale import log_half_lost
from genfast.diffusion.times import LogNormal


def perceptron(features=2, classes=0):
    return perturbed(gf.nn.MLP(features, width=32, depth=1, classes=classes), 0)


def batch(count, *shape):
    return {"x": torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))}


def test_what_is_none_is_measured_once():
    x = 3 * batch(400, 5)["x"] + 1
    model = gf.Diffusion(perceptron(5))
    assert model.measure({"x": x}) is model
    assert model.parameterization.sigma_data == pytest.approx(x.double().square().mean().sqrt().item(), rel=1e-12)
    assert model.times.mean == pytest.approx(log_half_lost(x) - 0.2, abs=1e-12) and model.times.std == 1.0
    before = model.config()
    assert model.measure({"x": 7 * x[:, :5]}).config() == before and before["shape"] == [5]


def test_what_is_given_is_not_measured():
    model = gf.Diffusion(perceptron(), "ve", EDM(0.3), times=LogNormal(-1.0, 0.9)).measure(batch(9, 2))
    assert model.parameterization == EDM(0.3) and model.times == LogNormal(-1.0, 0.9)
    half = gf.Diffusion(perceptron(), parameterization=EDM(0.3), times=LogNormal(std=0.9)).measure(batch(9, 2))
    assert half.parameterization == EDM(0.3) and half.times.mean is not None and half.times.std == 0.9
    assert gf.Diffusion(perceptron(), "flow").measure({"x": torch.zeros(9, 2)}).shape == (2,)  # nothing to measure


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "flow"])
def test_any_schedule_can_be_measured_for(schedule):
    model = gf.Diffusion(perceptron(), schedule, "edm").measure({"x": 0.5 * batch(2000, 2)["x"]})
    assert model.parameterization.sigma_data == pytest.approx(0.5, rel=0.05)
    key = ops.make_key(0, 2000)
    log_level = -model.log_snr(key) / 2
    assert log_level.mean() == pytest.approx(math.log(0.5) - 0.2, abs=0.05) and log_level.std() == pytest.approx(
        1, 0.05
    )
    assert model.loss({"x": 0.5 * batch(2000, 2)["x"]}, key).isfinite().all()


def test_flow_takes_measured_times():
    model = gf.Diffusion(perceptron(), "flow", times="lognormal").measure(batch(2000, 2))
    assert -model.log_snr(ops.make_key(0, 2000)).mean() / 2 == pytest.approx(-0.2, abs=0.05)


def test_data_of_another_scale_move_the_times_by_themselves():
    x = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(0)).cumsum(3) / 4
    one, four = (gf.Diffusion(perceptron(192)).measure({"x": scale * x}) for scale in (1, 4))
    assert four.times.mean == pytest.approx(one.times.mean + math.log(4))
    assert four.parameterization.sigma_data == pytest.approx(4 * one.parameterization.sigma_data)


def test_a_model_that_was_not_measured_works_with_the_papers_numbers():
    plain, told = (
        gf.Diffusion(perceptron()),
        gf.Diffusion(perceptron(), parameterization=EDM(0.5), times=LogNormal(-1.2, 1.0)),
    )
    data, key = batch(6, 2), ops.make_key(0, 6)
    assert torch.equal(plain.loss(data, key), told.loss(data, key))
    ask = {"shape": (2,), "steps": 3, "progress": False}
    for solver in ("dpmpp_2m", "heun", "consistency", "lcm"):
        assert torch.equal(plain.sample(3, solver=solver, **ask), told.sample(3, solver=solver, **ask))
    assert torch.equal(plain.elbo(data["x"], key, samples=2), told.elbo(data["x"], key, samples=2))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(9, 2), "batch must hold finite numbers, not all of them 0.*root mean square of 0"),
        (1e-9 * torch.randn(9, 2), "batch must hold data that lose half of themselves within the schedule"),
        (1e9 * torch.randn(9, 2), "divide x by its standard deviation first"),
        (torch.full((9, 2), torch.nan), "root mean square of nan"),
        (torch.zeros(0, 2), "x must have shape .B, .*., B at least 1"),
    ],
)
def test_data_without_a_scale_change_nothing(x, message):
    model = gf.Diffusion(perceptron())
    before = model.config()
    with pytest.raises(ValueError, match=message):
        model.measure({"x": x})
    assert model.config() == before


def test_the_loss_changes_nothing_and_reads_nothing():
    model = gf.Diffusion(perceptron(classes=3))
    data, key = batch(6, 2) | {"label": torch.arange(6) % 3}, ops.make_key(0, 6)
    state, config = {name: value.clone() for name, value in model.state_dict().items()}, model.config()
    with gf.testing.no_host_reads():
        first = model.loss(data, key, step=0)
        assert model.log_snr(key).shape == (6,) and model.phase(3) == model.phase(4)
    assert torch.equal(model.loss(data, key, step=10), first) and model.config() == config
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model.measure(data)
    measured = model.config()
    with gf.testing.no_host_reads():
        model.loss(data, key, step=0)
    assert model.config() == measured


def test_log_snr_is_where_the_loss_looks():
    seen = []
    model = gf.Diffusion(lambda y, c_noise: seen.append(c_noise) or y)
    key = ops.make_key(5, 30)
    model.loss(batch(30, 2), key)
    assert torch.allclose(-model.log_snr(key).float() / 8, seen[0])  # c_noise = log(sigma / alpha) / 4


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_default_does_not_care_about_the_scale_of_the_data():
    """The whole is tests/long/recipe.py: 150 steps of a wider network, three seeds, data of both scales."""
    small = {"steps": 100, "width": 8, "multipliers": (1, 2), "blocks": 1}
    ours, other = (recipe.run(name, recipe.of_digits(500), scale=4.0, **small) for name in recipe.RECIPES)
    assert ours.frechet < other.frechet - 0.05 and ours.agreement > other.agreement - 0.1, (ours, other)
