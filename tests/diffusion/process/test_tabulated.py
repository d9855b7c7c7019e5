"""Laws of a schedule given by a table, on tables of schedules that are known in closed form."""

import math

import pytest
import torch

from genfast.diffusion.process import schedules
from genfast.diffusion.process.tabulated import Tabulated
from genfast.diffusion.solvers import plan

KNOTS = torch.arange(1, 1001, dtype=torch.float64) / 1000
INSIDE = torch.linspace(0.0005, 0.9995, 2345, dtype=torch.float64)
MAKERS = {
    "vp": schedules.VPLinear(),
    "cosine": schedules.VPCosine(),
    "flow": schedules.Flow(),  # ends at alpha = 0
    "ve": schedules.EDM(),
    "sub_vp": schedules.SubVP(),
}
ALL = pytest.mark.parametrize("closed", MAKERS.values(), ids=MAKERS)


def table(closed):
    return Tabulated(tuple(closed.alpha(KNOTS).tolist()), tuple(closed.sigma(KNOTS).tolist()))


@ALL
def test_exact_at_the_knots_and_close_between(closed):
    made = table(closed)
    for name in ("alpha", "sigma"):
        assert torch.allclose(getattr(made, name)(KNOTS), getattr(closed, name)(KNOTS), rtol=1e-13, atol=0), name
    between = INSIDE[(INSIDE > 0.01) & (INSIDE < 0.99)]
    assert torch.allclose(made.alpha(between), closed.alpha(between), rtol=1e-4, atol=1e-7)
    assert torch.allclose(made.sigma(between), closed.sigma(between), rtol=1e-4, atol=1e-7)


@ALL
def test_ends_and_order(closed):
    made = table(closed)
    assert (made.alpha(0.0), made.sigma(0.0), made.log_snr(0.0)) == (1.0, 0.0, math.inf)
    unit = math.hypot(closed.alpha(1.0), closed.sigma(1.0))  # the standard deviation of x_1 of unit data
    assert made.t_min == 0.001 and made.prior_std == pytest.approx(unit, rel=1e-12)
    assert bool((made.log_snr(INSIDE).diff() < 0).all())
    assert (made.time(made.log_snr(INSIDE)) - INSIDE).abs().max() < 1e-12
    for t in (0.0, 1.0):
        assert math.isfinite(made.d_alpha(t)) and math.isfinite(made.d_sigma(t))


@ALL
def test_derivatives_are_those_of_alpha_and_sigma(closed):
    made, h = table(closed), 1e-7
    t = INSIDE[(INSIDE * 1000).frac().sub(0.5).abs() < 0.49]  # off the knots, where the second derivative jumps
    for function, derivative in ((made.alpha, made.d_alpha), (made.sigma, made.d_sigma)):
        difference = (function(t + h) - function(t - h)) / (2 * h)
        assert torch.allclose(derivative(t), difference, rtol=1e-5, atol=1e-6 * closed.prior_std)


def test_a_variance_preserving_table_stays_so():
    made = table(MAKERS["vp"])
    assert ((made.alpha(INSIDE) ** 2 + made.sigma(INSIDE) ** 2) - 1).abs().max() < 1e-14


def test_solvers_take_it():
    closed = MAKERS["vp"]
    for solver in ("ddpm", "ddim"):
        ours, theirs = plan(solver, table(closed), 20), plan(solver, closed, 20)
        assert abs(ours.a - theirs.a).max() < 1e-11 and abs(ours.b - theirs.b).max() < 1e-11


def test_bad_input():
    with pytest.raises(ValueError, match="alphas must be at least 3"):
        Tabulated((1.0, 0.5), (0.1, 0.2))
    with pytest.raises(ValueError, match=r"sigmas must .* 0.0 at 1"):
        Tabulated((1.0, 0.5, 0.4), (0.1, 0.0, 0.3))
    with pytest.raises(ValueError, match="must go together"):
        Tabulated((1.0, 0.5, 0.4), (0.1, 0.2, 0.3, 0.4))
    with pytest.raises(ValueError, match="must fall"):
        Tabulated((1.0, 0.5, 0.6), (0.1, 0.2, 0.2))
    with pytest.raises(ValueError, match="t must lie in"):
        table(MAKERS["vp"]).alpha(1.1)
