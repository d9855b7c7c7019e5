"""Solvers against known answers: orders on an exact mixture, exact recursions on Gaussian data."""

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from helpers import mixture, run
from recursions import SCALE, VP, gaussian, marginal, moments

from genfast.diffusion.process import schedules
from genfast.diffusion.process.grids import GRIDS
from genfast.diffusion.process.schedules import SCHEDULES
from genfast.diffusion.solvers import SOLVERS, plan, time_grid
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

EDM = schedules.EDM()
START = np.random.default_rng(0).standard_normal((100, 2))  # of the mixture's trajectories

# Few numbers at a time: a second thread only waits.
pytestmark = pytest.mark.usefixtures("one_thread")


AFFINE = [name for name in SOLVERS if not plan(name, VP, 2).snr.any()]  # what `run` and `moments` can follow
SHORT = {"annealed_langevin": {"langevin_steps": 10}}


def _name(value):
    if isinstance(value, dict):
        return ",".join(map(str, value.values()))
    return value if isinstance(value, str) else type(value).__name__


@functools.cache
def exact_flow(schedule):
    """Where the probability-flow ODE of the mixture takes START, from t = 1 to t_min."""
    return run(SOLVERS["rk4"](schedule, GRIDS["log_snr"](schedule, 2000)[:-1]), mixture, START * schedule.prior_std)


def slope(steps, errors):
    """Order of convergence: least squares of log error against log steps."""
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


# Orders ---------------------------------------------------------------------------------------------------------------

FIRST, SECOND, THIRD, FOURTH = (0.85, 1.25), (1.8, 2.2), (2.7, 3.3), (3.6, 4.3)
FLOW = schedules.Flow()
ORDERS = [
    ("euler", {}, VP, "uniform", FIRST),
    ("euler", {}, FLOW, "uniform", FIRST),
    ("ddim", {}, VP, "log_snr", FIRST),
    ("dpm_solver_1s", {}, VP, "log_snr", FIRST),
    ("dpmpp_1s", {}, VP, "log_snr", FIRST),
    ("flow_euler", {}, FLOW, "uniform", FIRST),
    ("deis", {"order": 1}, VP, "log_snr", FIRST),
    ("lms", {"order": 1}, VP, "log_snr", FIRST),
    ("ipndm", {"order": 1}, VP, "log_snr", FIRST),
    ("heun", {}, VP, "uniform", SECOND),
    ("heun", {}, EDM, "karras", SECOND),
    ("heun", {}, schedules.VPCosine(), "uniform", SECOND),
    ("edm", {}, VP, "karras", SECOND),
    ("edm", {}, EDM, "karras", SECOND),
    ("flow_heun", {}, FLOW, "uniform", SECOND),
    ("flow_heun", {}, VP, "log_snr", SECOND),
    ("dpm2", {}, VP, "log_snr", SECOND),
    ("dpm_solver_2s", {}, VP, "log_snr", SECOND),
    ("dpm_solver_2s", {"stages": "grid"}, VP, "log_snr", SECOND),
    ("dpmpp_2s", {}, VP, "log_snr", SECOND),
    ("dpmpp_2s", {"solver_type": "heun"}, EDM, "log_snr", SECOND),
    ("dpm_solver_2m", {}, VP, "log_snr", SECOND),
    ("dpmpp_2m", {}, VP, "log_snr", SECOND),
    ("dpmpp_2m", {}, FLOW, "log_snr", SECOND),
    ("dpmpp_2m", {"solver_type": "heun"}, VP, "log_snr", SECOND),
    ("dpmpp_3m", {"curvature": 0.5}, VP, "log_snr", SECOND),  # as published
    ("lms", {"order": 2}, VP, "log_snr", SECOND),
    ("ipndm", {"order": 2}, VP, "log_snr", SECOND),
    ("ipndm", {}, VP, "log_snr", SECOND),
    ("deis", {"order": 2}, VP, "log_snr", SECOND),
    ("unipc", {"order": 1}, VP, "log_snr", SECOND),
    ("dpm_solver_3s", {}, VP, "log_snr", THIRD),
    ("dpmpp_3s", {}, VP, "log_snr", THIRD),
    ("dpmpp_3s", {"solver_type": "heun"}, VP, "log_snr", THIRD),
    ("dpm_solver_3m", {}, VP, "log_snr", THIRD),
    ("dpmpp_3m", {}, VP, "log_snr", THIRD),
    ("lms", {"order": 3}, VP, "log_snr", THIRD),
    ("deis", {}, VP, "log_snr", THIRD),
    ("unipc", {}, VP, "log_snr", THIRD),
    ("unipc", {"variant": "bh1"}, VP, "log_snr", THIRD),
    ("rk4", {}, VP, "log_snr", FOURTH),
    ("lms", {}, VP, "log_snr", FOURTH),
    ("unipc", {"order": 3, "lower_order_final": False}, VP, "log_snr", FOURTH),
]


@pytest.mark.parametrize(("name", "options", "schedule", "grid", "gate"), ORDERS, ids=_name)
def test_order_of_convergence(name, options, schedule, grid, gate):
    start = START * schedule.prior_std
    counts = [64, 128, 256, 512, 1024][: 5 if name in ("euler", "ddim", "heun", "dpmpp_2m") else 4]
    plans = [SOLVERS[name](schedule, GRIDS[grid](schedule, count)[:-1], **options) for count in counts]
    errors = [np.linalg.norm(run(one, mixture, start) - exact_flow(schedule), axis=1).mean() for one in plans]
    measured = slope(counts, errors)
    assert gate[0] < measured < gate[1], (measured, errors)
    assert gate[0] < plans[0].order < gate[1]


WEAK = [
    ("euler_maruyama", {}),
    ("reverse_diffusion", {}),
    ("ddpm", {}),
    ("ddim", {"eta": 0.5}),
    ("euler_ancestral", {}),
    ("dpm2_ancestral", {}),
    ("dpm2_ancestral", {"eta": 0.5}),
    ("dpmpp_2s_ancestral", {}),
    ("dpmpp_sde", {}),
    ("dpmpp_sde", {"eta": 0.5}),
    ("dpm_solver_2m_sde", {}),
    ("dpm_solver_2m_sde", {"eta": 0.5}),
    ("dpmpp_2m_sde", {}),
    ("dpmpp_2m_sde", {"eta": 0.5}),
    ("dpmpp_2m_sde", {"solver_type": "heun"}),
    ("dpmpp_3m_sde", {}),
    ("dpmpp_3m_sde", {"eta": 0.5}),
    ("edm", {"s_churn": 20.0}),
    ("flow_sde", {}),
]


@pytest.mark.parametrize(("name", "options"), WEAK)
def test_weak_order_on_gaussian_data(name, options):
    counts, errors = [100, 200, 400, 800], []
    for count in counts:
        one = SOLVERS[name](VP, GRIDS["log_snr"](VP, count)[:-1], **options)
        mean, variance = moments(one, 0.7, *marginal(1.0, 0.7))
        expected = marginal(VP.t_min, 0.7)
        if name in ("euler_maruyama", "reverse_diffusion"):
            errors.append(max(abs(mean - expected[0]), abs(variance - expected[1])))
        else:  # these solvers have the mean of Gaussian data right at any step count
            assert mean == pytest.approx(expected[0], abs=1e-2)
            errors.append(abs(variance - expected[1]))
    assert slope(counts, errors) == pytest.approx(one.order, abs=0.1), errors


UNORDERED = {
    "predictor_corrector",
    "annealed_langevin",
    "consistency",
    "lcm",
    "repaint",
}  # they declare 0: laws further below


def test_every_solver_is_tested_for_its_order():
    missing = set(SOLVERS) - UNORDERED - {name for name, *_ in ORDERS + WEAK}
    assert not missing, f"no line in ORDERS or WEAK: {missing}; of order 0, in UNORDERED"
    assert {name for name, *_ in ORDERS + WEAK} <= set(SOLVERS) - UNORDERED
    assert {name for name in SOLVERS if plan(name, VP, 2).order == 0} == UNORDERED


def test_strong_order_of_euler_maruyama_is_one():
    """The noise is additive (g depends on t only), so the strong order is 1 and not 1/2."""
    fine, paths = 4096, 400
    rng = np.random.default_rng(0)
    grid = torch.linspace(1, VP.t_min, fine + 1, dtype=torch.float64)
    increments, start = rng.standard_normal((fine, paths)), rng.standard_normal(paths)

    def end(count):
        group = fine // count
        brownian = increments.reshape(count, group, paths).sum(1) / math.sqrt(group)
        return run(SOLVERS["euler_maruyama"](VP, grid[::group]), gaussian, start, lambda row, draw: brownian[row])

    counts = [64, 128, 256, 512]
    errors = [np.abs(end(count) - end(fine)).mean() for count in counts]
    assert 0.85 < slope(counts, errors) < 1.25, errors


# Exact recursions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euler_maruyama", "ddpm", "dpmpp_2m_sde"])
def test_samples_follow_the_exact_recursion(name):
    count = 50_000
    rng = np.random.default_rng(1)
    one = plan(name, VP, 100, grid="uniform")
    mean, variance = moments(one, 0.3, 0.0, 1.0)
    out = run(one, lambda *a: gaussian(*a, mean=0.3), rng.standard_normal(count), lambda *_: rng.standard_normal(count))
    assert abs(out.mean() - mean) / math.sqrt(variance / count) < 4
    assert abs(out.var() - variance) / (variance * math.sqrt(2 / count)) < 4


@pytest.mark.parametrize("schedule", [VP, EDM, schedules.SubVP(), schedules.Flow()], ids=_name)
@pytest.mark.parametrize("steps", [1, 2, 5, 10, 100, 1000])
def test_ddpm_with_the_analytic_variance_reproduces_gaussian_data(schedule, steps):
    one = plan("ddpm", schedule, steps, grid="uniform", variance="analytic", data_std=SCALE)
    mean, variance = moments(one, 0.7, *marginal(1.0, 0.7, schedule))
    assert mean == pytest.approx(0.7, abs=1e-10)
    assert variance / SCALE**2 == pytest.approx(1, abs=1e-10)
    # The published form of that variance, between two times.
    if steps > 1:
        t, s = one.t[0], one.t[1]
        ratio, before, after = (
            schedule.alpha(t) / schedule.alpha(s),
            marginal(t, 0, schedule)[1],
            marginal(s, 0, schedule)[1],
        )
        assert one.s[0, 0] ** 2 == pytest.approx(after - (ratio * after) ** 2 / before, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(
    ("variance", "ratios"),
    [("small", [0.176, 0.417, 0.786, 0.876, 0.985]), ("large", [2.234, 1.434, 1.072, 1.035, 1.003])],
)
def test_textbook_variances_have_their_known_bias(variance, ratios):
    for steps, ratio in zip([5, 10, 50, 100, 1000], ratios, strict=True):
        one = plan("ddpm", VP, steps, grid="uniform", variance=variance)
        assert moments(one, 0.0, 0.0, 1.0)[1] / SCALE**2 == pytest.approx(ratio, abs=2e-3)


def test_textbook_variances_are_exact_where_they_should_be():
    """Ho et al. 2020: beta is exact for unit Gaussian data, beta-tilde for a point mass."""
    times = GRIDS["uniform"](VP, 7)[:-1]
    assert np.array_equal(SOLVERS["ddpm"](VP, times).s, SOLVERS["ddpm"](VP, times, variance="analytic", data_std=0.0).s)
    unit = SOLVERS["ddpm"](VP, times, variance="analytic", data_std=1.0).s
    assert np.allclose(unit, np.append(SOLVERS["ddpm"](VP, times, variance="large").s[:-1], unit[-1:], 0), rtol=1e-12)


# Identities -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_with_eta_one_is_ddpm(schedule):
    first, second = plan("ddim", schedule, 20, grid="uniform", eta=1.0), plan("ddpm", schedule, 20, grid="uniform")
    for field in ("a", "b", "s"):
        assert np.allclose(getattr(first, field), getattr(second, field), rtol=1e-9, atol=1e-12)


def test_sde_form_with_eta_zero_is_the_ode_form():
    first, second = plan("dpmpp_2m_sde", VP, 20, eta=0.0), plan("dpmpp_2m", VP, 20)
    assert dataclasses.replace(first, name=second.name) == second


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_deterministic_ddim_lands_on_a_point_mass(schedule, steps):
    """On its grid to 0 and, without the last step, on the state alpha x_0 + sigma eps of the same eps."""
    point = np.array([[0.3, -1.2]])
    schedule = SCHEDULES[schedule]()
    eps = np.random.default_rng(2).standard_normal((50, 2))
    start = schedule.alpha(1.0) * point + schedule.sigma(1.0) * eps
    times = GRIDS["uniform"](schedule, steps + 1)
    for grid in (times, times[:-1]):
        end = grid[-1].item()
        out = run(SOLVERS["ddim"](schedule, grid), lambda *_: point, start)
        assert np.abs(out - schedule.alpha(end) * point - schedule.sigma(end) * eps).max() < 1e-12


def test_gaussian_probability_flow_has_a_closed_map():
    """VE: x(s) = x_T sqrt((c^2 + s^2) / (c^2 + s_T^2)) on data N(0, c^2)."""
    ve = schedules.VE()
    start = START * 50
    expected = start * math.sqrt((SCALE**2 + ve.sigma(ve.t_min) ** 2) / (SCALE**2 + 50**2))
    out = run(SOLVERS["rk4"](ve, GRIDS["log_snr"](ve, 400)[:-1]), gaussian, start)
    assert np.abs(out / expected - 1).max() < 1e-7


@pytest.mark.parametrize("name", AFFINE)
def test_every_solver_returns_training_points(name):
    """Data that is a set of points: sampling comes within the last noise level of them, before the last step to 0."""
    rng = np.random.default_rng(3)
    points = np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]])
    exact = GaussianMixtureDenoiser(np.ones(3), points, np.zeros(3), EDM)
    one = SOLVERS[name](EDM, GRIDS["karras"](EDM, 60)[:-1], **SHORT.get(name, {}))
    times = iter(one.t)  # the torch denoiser by time, where the others of this file go by alpha and sigma
    out = run(
        one,
        lambda x_t, alpha, sigma: exact(torch.from_numpy(x_t), float(next(times))).numpy(),
        80 * rng.standard_normal((40, 2)),
        lambda *_: rng.standard_normal((40, 2)),
    )
    distance = np.linalg.norm(out[:, None] - points, axis=-1)
    assert distance.min(1).max() < 10 * EDM.sigma_min
    assert len(set(distance.argmin(1))) == 3


# Plans ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_every_plan_is_whole(name, schedule, steps):
    """Finite (Flow starts at log-SNR -inf), one step to data at the end, the declared sizes."""
    one = plan(name, schedule, steps)
    assert one.steps == steps and one.t[0] == 1 and one.prior_std == SCHEDULES[schedule]().prior_std
    if name not in ("lms", "ipndm") or steps == 1:  # whose last step is of full order, to t = 0 as well
        assert (one.a[-1], one.b[-1]) == (0, 1) and not one.s[-1].any() and not one.e[-1].any()
    inner = steps - 1 - (schedule == "flow" and steps > 1)  # steps between finite log-SNR
    # Evaluations a step, where it is more than one.
    stages = {"heun": 2, "flow_heun": 2, "rk4": 4, "predictor_corrector": 2, "annealed_langevin": 100, "repaint": 10}
    stages |= dict.fromkeys(["dpm_solver_3s", "dpmpp_3s"], 3)
    stages |= dict.fromkeys(["edm", "dpm2", "dpm2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde"], 2)
    stages |= dict.fromkeys(["dpm_solver_2s", "dpmpp_2s"], 2)
    finite = steps - 1 if name in ("heun", "flow_heun", "rk4", "repaint") else inner
    rows = steps + (stages.get(name, 1) - 1) * finite
    assert len(one) == rows, f"{name} has {len(one)} rows, not {rows}: say its evaluations a step in `stages`"
    assert one.name.startswith(name), f"the plan of {name} calls itself {one.name}"
    assert (one.span[:, 0] <= one.span[:, 1]).all() and not one.span[one.s[:, 0] == 0].any()
    assert len({*one.stream.flatten().tolist()}) == 2 * len(one)
    assert one.stream[0].tolist() == [1, 2]
    if steps > 1:
        assert one.stream[1].tolist() == [257, 258]


@pytest.mark.parametrize("name", AFFINE)
def test_constant_denoiser_keeps_the_path(name):
    """x_t = alpha c with D = c has no noise in it to remove: every row, on average, goes to alpha c again."""
    one = SOLVERS[name](EDM, GRIDS["karras"](EDM, 8)[:-1])
    out = run(one, lambda x_t, *_: np.full_like(x_t, 0.7), np.full((1, 1), 0.7), lambda *_: np.zeros((1, 1)))
    assert out.item() == pytest.approx(0.7, abs=1e-12)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match=r"solver must be one of ddpm, ddim, .*; got 'dpm'"):
        plan("dpm", VP, 10)
    with pytest.raises(ValueError, match=r"grid must be a function or one of uniform, .*; got 'linear'"):
        plan("ddim", VP, 10, grid="linear")
    with pytest.raises(ValueError, match="schedule must be one of"):
        plan("ddim", "vp", 10)
    with pytest.raises(TypeError, match="euler has no option eta; it takes none"):
        plan("euler", VP, 10, eta=1.0)
    with pytest.raises(TypeError, match="ddim has no option churn, steps_; it takes eta"):
        plan("ddim", VP, 10, churn=1.0, steps_=2)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1; got -1"):
        plan("ddim", VP, -1)
    for eta in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="eta must be"):
            plan("ddim", VP, 10, eta=eta)
    with pytest.raises(ValueError, match="eta must be a finite number of at least 0; got '1'"):
        plan("dpmpp_2m_sde", VP, 10, eta="1")
    with pytest.raises(ValueError, match="variance must be one of small, large, analytic; got 'beta'"):
        plan("ddpm", VP, 10, variance="beta")
    for options in ({"variance": "analytic"}, {"data_std": 1.0}):
        with pytest.raises(ValueError, match="data_std goes with variance='analytic'"):
            plan("ddpm", VP, 10, **options)
    with pytest.raises(ValueError, match="data_std must be a finite number"):
        plan("ddpm", VP, 10, variance="analytic", data_std=-1.0)


def test_grids_by_default():
    for name in SOLVERS:
        exponential = name in ("deis", "unipc") or name.startswith(("dpm_solver", "dpmpp"))
        if name not in ("consistency", "lcm"):
            grid = GRIDS["log_snr" if exponential else "karras"]
            for schedule in (EDM, schedules.VE()):
                assert torch.equal(time_grid(name, schedule)(schedule, 6), grid(schedule, 6)), name
    assert np.array_equal(plan("euler", EDM, 10).t, GRIDS["karras"](EDM, 10)[:-1])
    assert np.array_equal(plan("ddim", VP, 10).t, GRIDS["ddpm"](VP, 10)[:-1])
    assert np.array_equal(plan("dpmpp_2m", VP, 10).t, GRIDS["log_snr"](VP, 10)[:-1])
    assert np.array_equal(plan("euler", VP, 10).t, GRIDS["uniform"](VP, 10)[:-1])
    own = plan("euler", VP, 2, grid=lambda schedule, steps: torch.tensor([1.0, 0.25, 0.0]))
    assert own.t.tolist() == [1.0, 0.25]
