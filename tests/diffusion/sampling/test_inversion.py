"""Inversion: noise that samples back to the data, the better the more steps."""

import functools
import math

import pytest
import torch
from helpers import five_modes, perturbed

from genfast import nn
from genfast.diffusion import sampling
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.process.grids import uniform
from genfast.diffusion.sampling.inversion import inversion_plan, invert
from genfast.diffusion.solvers import plan
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

VP, EDM, FLOW = schedules.VPLinear(), schedules.EDM(), schedules.Flow()
GRID = {VP: "log_snr", EDM: "karras", FLOW: "log_snr"}  # where the orders show
every_schedule = pytest.mark.parametrize("schedule", [VP, EDM, FLOW], ids=["vp", "edm", "flow"])
invert, sample = (functools.partial(f, progress=False) for f in (invert, sampling.sample))


def mlp(schedule=VP, classes=0):
    net = perturbed(nn.MLP(2, width=32, depth=2, classes=classes)).double()
    return Denoiser(net, schedule, "edm" if schedule == EDM else "v")


def data(n):
    return five_modes().sample(n, torch.Generator().manual_seed(0))


def round_trip(denoiser, solver, steps, n=12):
    """The largest error of x_0 -> x_1 -> x_0."""
    x_0 = data(n)
    grid = GRID[denoiser.schedule]
    x_1 = invert(denoiser, x_0, solver=solver, steps=steps, grid=grid, chunk=n, dtype=torch.float64)
    back = plan(solver, denoiser.schedule, steps, grid)
    return (sample(denoiser, (2,), back, n, start=x_1, chunk=n, dtype=torch.float64) - x_0).abs().max().item()


@pytest.mark.parametrize("solver, steps, bound", [("ddim", 64, 0.4), ("heun", 48, 0.02), ("rk4", 48, 2e-3)])
@pytest.mark.parametrize("denoiser", [five_modes, mlp], ids=["mixture", "mlp"])
@every_schedule
def test_round_trip(schedule, denoiser, solver, steps, bound):
    """The error is below the bound stated here, and falls by 1.7, 2.2 or 2.8 at least when the steps double."""
    fine, coarse = (round_trip(denoiser(schedule), solver, n) for n in (steps, steps // 2))
    assert fine < bound
    assert coarse / fine > {"ddim": 1.7, "heun": 2.2, "rk4": 2.8}[solver]


@every_schedule
def test_the_noise_of_a_gaussian_is_known(schedule):
    """The probability-flow ODE scales the deviation from alpha m by the ratio of the standard deviations."""
    mean, std = torch.tensor([[0.5, -1.0]], dtype=torch.float64), 0.7
    denoiser = GaussianMixtureDenoiser([1.0], mean, [std**2], schedule)
    x_0 = mean + std * torch.randn(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_1 = invert(denoiser, x_0, steps=60, grid=GRID[schedule], dtype=torch.float64)
    alpha, sigma = schedule.alpha(1.0), schedule.sigma(1.0)
    expected = alpha * mean + math.hypot(alpha * std, sigma) / std * (x_0 - mean)
    # x_0 = D(x, t_min) at the end of a sampler is Euler's step of sigma / alpha: exact up to its square.
    noise = schedule.sigma(schedule.t_min) ** 2 / std**2
    assert (x_1 - expected).abs().max() < (noise + 1e-6) * expected.abs().max()


def test_the_start_solves_the_last_step_of_a_sampler():
    t, x_0, denoiser = VP.t_min, data(30), five_modes()
    up = inversion_plan("heun", VP, 10)
    assert up.t[:3].tolist() == pytest.approx([t] * 3, abs=1e-15) and up.t[-1] == 1
    x, kept = x_0, None
    for row in range(3):
        D = denoiser(x, t)
        kept, x = (
            (up.p[row, 0] * x if row == 0 else kept),
            up.a[row] * x + up.b[row] * D + (up.e[row, 0] * kept if row else 0),
        )
    assert (denoiser(x, t) - x_0).abs().max() < 1e-6
    assert (denoiser(VP.alpha(t) * x_0, t) - x_0).abs().max() > 1e-4  # it was not solved already


def test_a_grid_that_does_not_end_at_zero_starts_where_it_ends():
    grid = lambda schedule, steps: uniform(schedule, steps + 1)[:-1]  # noqa: E731
    up = inversion_plan("rk4", VP, 5, grid)
    assert len(up) == 20 and up.t[0] == pytest.approx(VP.t_min, abs=1e-15) and up.t[-1] == 1


def test_each_sample_is_its_own_and_takes_its_condition_along():
    denoiser, label = mlp(classes=3), torch.tensor([0, 1, 2, 2, 1, 0, 1])
    x_0 = data(7)
    arguments = {"solver": "heun", "steps": 8, "chunk": 4, "dtype": torch.float64}
    whole = invert(denoiser, x_0, condition={"label": label}, **arguments)
    assert torch.equal(invert(denoiser, x_0[:5], condition={"label": label[:5]}, **arguments), whole[:5])
    changed = x_0.clone()
    changed[1:] = 3.0
    assert torch.equal(invert(denoiser, changed, condition={"label": label}, **arguments)[0], whole[0])
    assert not torch.allclose(invert(denoiser, x_0, condition={"label": label.flip(0)}, **arguments)[0], whole[0])
    narrow = invert(five_modes(), x_0, steps=8)
    wide = invert(five_modes(), x_0, steps=8, dtype=torch.float64)
    assert narrow.dtype == torch.float32 and torch.allclose(narrow.double(), wide, rtol=0, atol=1e-3)
    assert invert(five_modes(), x_0[:0], steps=8).shape == (0, 2)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"denoiser": "net"}, TypeError, "denoiser must be a Denoiser; got str"),
        (
            {"x_0": torch.zeros(3, 2).long()},
            TypeError,
            r"x_0 must hold floating-point numbers; got torch.int64",
        ),
        ({"x_0": torch.zeros(3)}, ValueError, r"x_0 must have shape \(N, \*\); got \(3,\)"),
        ({"x_0": [1.0]}, TypeError, "x_0 must be .* got list"),
        ({"solver": "ddpm"}, ValueError, "solver must be deterministic to be inverted; ddpm draws noise"),
        ({"solver": "magic"}, ValueError, "solver must be one of"),
        ({"solver": "ddim", "eta": 0.5}, ValueError, "solver must be deterministic"),
        ({"eta": 0.5}, TypeError, "rk4 has no option eta"),
        ({"steps": 1}, ValueError, "steps must be at least 2"),
        ({"grid": "line"}, ValueError, "grid must be a function or one of"),
        ({"condition": {"label": torch.zeros(2)}}, ValueError, r"condition 'label' must be a tensor \(3, \*\)"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        invert(**{"denoiser": five_modes(), "x_0": torch.zeros(3, 2)} | arguments)


def test_a_solver_that_cannot_run_backwards_says_so():
    with pytest.raises(ValueError, match="solver dpmpp_2m cannot run backwards in time"):
        inversion_plan("dpmpp_2m", FLOW, 8)  # its factors are infinite into alpha = 0
