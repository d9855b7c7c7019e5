"""Solvers against each other and against their formulas as published: identities, literal recursions, options."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import mixture, run
from recursions import SCALE, VP, marginal, moments

from genfast.diffusion.process import schedules
from genfast.diffusion.process.grids import GRIDS
from genfast.diffusion.process.schedules import SCHEDULES
from genfast.diffusion.solvers import SOLVERS, _common, plan

EDM, FLOW = schedules.EDM(), schedules.Flow()
START = np.random.default_rng(0).standard_normal((20, 2))


def end(name, schedule=VP, times=None, noise=None, **options):
    """Where a solver takes START on the mixture."""
    times = GRIDS["log_snr"](schedule, 12)[:-1] if times is None else times
    return run(SOLVERS[name](schedule, times, **options), mixture, START * schedule.prior_std, noise)


def draws(seed=1):
    """noise(row, draw) that answers each call with new values: the same sequence for the same seed."""
    rng = np.random.default_rng(seed)
    return lambda *_: rng.standard_normal(START.shape)


# One is the other -----------------------------------------------------------------------------------------------------

EVERY, ALL = list(SCHEDULES), {"lower_order_final": False}
IDENTITIES = [
    ("euler_ancestral", {"eta": 0.0}, "ddim", {}, EVERY),
    ("dpm_solver_1s", {}, "ddim", {}, EVERY),
    ("dpmpp_1s", {}, "ddim", {}, EVERY),
    ("lms", {"order": 1}, "ddim", {}, EVERY),
    ("ipndm", {"order": 1}, "ddim", {}, EVERY),
    ("deis", {"order": 1}, "ddim", {}, EVERY),
    ("flow_euler", {}, "ddim", {}, EVERY),
    ("flow_sde", {"eta": 0.0}, "flow_euler", {}, EVERY),
    ("dpm2", {}, "dpm_solver_2s", {}, EVERY),
    ("dpm2_ancestral", {"eta": 0.0}, "dpm2", {}, EVERY),
    ("dpmpp_2s_ancestral", {"eta": 0.0}, "dpmpp_2s", {}, EVERY),
    ("dpmpp_sde", {"eta": 0.0}, "dpmpp_2s", {}, EVERY),
    ("dpmpp_2m_sde", {"eta": 0.0}, "dpmpp_2m", {}, EVERY),
    ("dpmpp_3m_sde", {"eta": 0.0} | ALL, "dpmpp_3m", {"solver_type": "heun"} | ALL, EVERY),
    ("deis", {"order": 2}, "dpm_solver_2m", {"solver_type": "heun"}, EVERY),
    ("deis", {"order": 3}, "dpm_solver_3m", {"solver_type": "heun"}, EVERY),
    ("euler", {}, "flow_euler", {}, ["flow"]),
    ("heun", {}, "flow_heun", {}, ["flow"]),
    ("euler", {}, "ddim", {}, ["edm"]),
    ("heun", {}, "edm", {}, ["edm"]),
]


@pytest.mark.parametrize(("name", "options", "other", "others", "where"), IDENTITIES)
def test_solvers_that_are_one(name, options, other, others, where):
    for schedule in (SCHEDULES[known]() for known in where):
        expected = end(other, schedule, **others)
        assert np.abs(end(name, schedule, **options) - expected).max() < 1e-9 * np.abs(expected).max()


def test_solvers_that_differ_only_by_an_option():
    """The identities above would hold for an option that does nothing."""
    for name, options in [
        ("unipc", {"variant": "bh1"}),
        ("unipc", {"order": 3}),
        ("dpmpp_2m", {"solver_type": "heun"}),
        ("dpmpp_3m", {"curvature": 0.5}),
        ("dpmpp_3m", {"solver_type": "heun"}),
        ("dpmpp_2s", {"solver_type": "heun"}),
        ("dpmpp_3s", {"solver_type": "heun"}),
        ("dpm_solver_2s", {"stages": "grid"}),
        ("lms", {"lower_order_final": True}),
        *((name, {"lower_order_final": False}) for name in ("unipc", "deis", "dpmpp_2m", "dpmpp_3m", "dpm_solver_3m")),
    ]:
        assert np.abs(end(name, **options) - end(name)).max() > 1e-6, (name, options)


def test_adams_on_a_uniform_grid_has_the_classical_weights():
    times = torch.linspace(1, 0.2, 12, dtype=torch.float64)  # uniform in sigma on the EDM schedule
    for order in (2, 3, 4):
        assert np.abs(end("ipndm", EDM, times, order=order) - end("lms", EDM, times, order=order)).max() < 1e-9
    one = SOLVERS["ipndm"](EDM, times)
    slopes = one.e[5, :3] / (EDM.sigma_max * (times[6] - times[5]).item())
    assert slopes == pytest.approx(np.array([-59, 37, -9]) / 24)


@pytest.mark.parametrize(
    ("name", "parts"), [("dpm_solver_2s", 2), ("dpmpp_2s", 2), ("dpm_solver_3s", 3), ("dpmpp_3s", 3)]
)
def test_stages_on_the_grid_are_the_inner_ones_of_a_coarser_grid(name, parts):
    fine = VP.time(torch.linspace(-9, 5, 4 * parts + 1, dtype=torch.float64))
    expected = end(name, times=fine[::parts], solver_type="heun")
    assert np.abs(end(name, times=fine, solver_type="heun", stages="grid") - expected).max() < 1e-9


# Literal formulas -----------------------------------------------------------------------------------------------------


def levels(steps=7):
    """Noise levels of an EDM grid, the last of them 0, and its times."""
    times = GRIDS["karras"](EDM, steps)
    return EDM.sigma(times).tolist(), times


def split(now, following, eta=1.0):
    up = min(following, eta * math.sqrt(following**2 * (now**2 - following**2) / now**2))
    return math.sqrt(following**2 - up**2), up


def literal(step, seed=1):
    """A loop over noise levels in the terms of k-diffusion: step(x, denoise, now, following, noise), D at the last."""
    noise, state = draws(seed), START * EDM.prior_std
    sigmas = levels()[0]
    for now, following in itertools.pairwise(sigmas[:-1]):
        state = step(state, lambda x, sigma: mixture(x, 1.0, sigma), now, following, noise)
    return mixture(state, 1.0, sigmas[-2])


def euler_ancestral(x, denoise, now, following, noise):
    down, up = split(now, following, 0.7)
    return x + (x - denoise(x, now)) / now * (down - now) + 1.1 * up * noise()


def dpm2_ancestral(x, denoise, now, following, noise):
    down, up = split(now, following, 0.7)
    middle = math.sqrt(now * down)
    there = x + (x - denoise(x, now)) / now * (middle - now)
    return x + (there - denoise(there, middle)) / middle * (down - now) + 1.1 * up * noise()


def dpmpp_2s_ancestral(x, denoise, now, following, noise):
    down, up = split(now, following, 0.7)
    middle = math.sqrt(now * down)
    there = middle / now * x + (1 - middle / now) * denoise(x, now)
    return down / now * x + (1 - down / now) * denoise(there, middle) + 1.1 * up * noise()


def dpmpp_sde(x, denoise, now, following, noise):
    middle = math.sqrt(now * following)
    down, up = split(now, middle, 0.7)
    there = down / now * x + (1 - down / now) * denoise(x, now) + 1.1 * up * noise()
    down, up = split(now, following, 0.7)
    return down / now * x + (1 - down / now) * denoise(there, middle) + 1.1 * up * noise()


@pytest.mark.parametrize("step", [euler_ancestral, dpm2_ancestral, dpmpp_2s_ancestral, dpmpp_sde])
def test_ancestral_solvers_are_the_formulas_in_sigma(step):
    out = end(step.__name__, EDM, levels()[1], noise=draws(), eta=0.7, s_noise=1.1)
    assert np.abs(out - literal(step)).max() < 1e-9


def test_edm_is_its_algorithm():
    """Karras et al. 2022, algorithm 2, whose first step has no churn here."""
    sigmas, times = levels()
    noise, state = draws(), START * EDM.prior_std
    for step, (now, following) in enumerate(itertools.pairwise(sigmas)):
        gamma = min(2.5 / 7, math.sqrt(2) - 1) if step and 0.01 <= now <= 20 else 0
        hat = now * (1 + gamma)
        if gamma:
            state = state + 1.003 * math.sqrt(hat**2 - now**2) * noise()
        slope = (state - mixture(state, 1.0, hat)) / hat
        ahead = state + (following - hat) * slope
        if following:
            ahead = state + (following - hat) * (slope + (ahead - mixture(ahead, 1.0, following)) / following) / 2
        state = ahead
    options = {"s_churn": 2.5, "s_tmin": 0.01, "s_tmax": 20.0, "s_noise": 1.003}
    assert np.abs(end("edm", EDM, times, noise=draws(), **options) - state).max() < 1e-9


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_churn_stays_on_the_schedule(schedule):
    one = plan("edm", schedule, 40, s_churn=1000.0)
    assert one.t.max() <= 1 and one.s[:, 1].any() and not one.s[:, 0].any()
    until = SOLVERS["edm"](schedule, GRIDS["karras"](SCHEDULES[schedule](), 5)[:-1], s_churn=1000.0)
    assert not until.s[-1].any()  # no churn after the last step, if that ends above 0


def test_reverse_diffusion_is_the_formula_of_its_discrete_chain():
    """On VP: x + (1 - sqrt(1 - beta)) x + beta score + sqrt(beta) z; on VE: x + d score + sqrt(d) z, d = the step of
    sigma^2. Song et al. 2021."""
    one = SOLVERS["reverse_diffusion"](VP, [0.5, 0.49])
    beta = 1 - (VP.alpha(0.5) / VP.alpha(0.49)) ** 2
    variance = VP.sigma(0.5) ** 2
    assert one.a[0] == pytest.approx(2 - math.sqrt(1 - beta) - beta / variance)
    assert one.b[0] == pytest.approx(beta * VP.alpha(0.5) / variance)
    assert one.s[0, 0] == pytest.approx(math.sqrt(beta))
    ve = schedules.VE()
    one = SOLVERS["reverse_diffusion"](ve, [0.5, 0.49])
    step = ve.sigma(0.5) ** 2 - ve.sigma(0.49) ** 2
    assert (one.a[0], one.b[0]) == pytest.approx((1 - step / ve.sigma(0.5) ** 2, step / ve.sigma(0.5) ** 2))
    assert one.s[0, 0] == pytest.approx(math.sqrt(step))


@pytest.mark.parametrize("predictor", ["reverse_diffusion", "euler_maruyama", "ddpm"])
def test_predictor_corrector_is_a_predictor_with_langevin_rows(predictor):
    times = GRIDS["uniform"](VP, 5)
    one = plan("predictor_corrector", VP, 5, predictor=predictor, corrector_steps=2, snr=0.1)
    alone = SOLVERS[predictor](VP, times)
    predicting = one.snr == 0
    assert predicting.tolist() == [False, False, True] * 4 + [True]
    for field in ("t", "a", "b", "s", "span"):
        assert np.array_equal(getattr(one, field)[predicting], getattr(alone, field))
    assert one.snr[:2] == pytest.approx(0.1 * VP.alpha(1.0) / VP.alpha(times[1].item()))
    assert not one.span[~predicting].any()
    assert not plan("predictor_corrector", "edm", 5, corrector_steps=0).snr.any()
    assert plan("predictor_corrector", "edm", 5).snr[0] == 0.16


def test_noise_in_two_stages_spans_their_intervals():
    one = SOLVERS["dpmpp_sde"](EDM, [1.0, 0.01, 0.0])
    start, stop = 80.0**-2, 0.8**-2
    assert one.span == pytest.approx(np.array([[start, math.sqrt(start * stop)], [start, stop], [0, 0]]))


# Samplers without an order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("name", ["consistency", "lcm"])
def test_a_perfect_consistency_model_samples_its_data(name, schedule, steps):
    """Gaussian data, whose flow to t = 0 (or t_min) is linear: the right variance whatever the number of steps."""
    schedule = SCHEDULES[schedule]()
    lowest = (schedule.sigma(schedule.t_min) / schedule.alpha(schedule.t_min)) ** 2 if name == "consistency" else 0.0
    variance = SCALE**2 + lowest

    def trajectory_end(x_t, alpha, sigma, mean):
        return mean + math.sqrt(variance / (alpha**2 * SCALE**2 + sigma**2)) * (x_t - alpha * mean)

    one = plan(name, schedule, steps)
    assert len(one) == steps
    found = moments(one, 0.7, *marginal(1.0, 0.7, schedule), denoise=trajectory_end)
    assert found == pytest.approx((0.7, variance), rel=1e-9)


def test_consistency_times_leave_out_the_last_level():
    """Song et al. 2023 run two steps at sigma = 80 and one in between."""
    assert EDM.sigma(plan("consistency", EDM, 2).t) == pytest.approx([80, 2.515], abs=1e-3)
    assert plan("consistency", EDM, 1).t.tolist() == [1.0]
    assert plan("lcm", VP, 4).t.tolist() == [1.0, 0.75, 0.5, 0.25]


def test_langevin_dynamics_has_its_stationary_variance():
    """On a point mass y' = (1 - e / 2) y + sqrt(e) n z: variance n^2 / (1 - e / 4) at each level."""
    times = GRIDS["karras"](EDM, 10)[:-1]
    for step_size in (0.2, 1.0):
        one = SOLVERS["annealed_langevin"](EDM, times, step_size=step_size)
        assert len(one) == 900 and not one.span.any()
        mean, variance = moments(one, 0.7, 0.0, 80.0**2, denoise=lambda x, alpha, sigma, mean: mean)
        assert mean == pytest.approx(0.7, abs=1e-3)
        assert variance == pytest.approx(EDM.sigma(times[-2].item()) ** 2 / (1 - step_size / 4), rel=1e-3)


# Options --------------------------------------------------------------------------------------------------------------


def test_orders_rise_at_the_start_and_fall_at_the_end():
    def orders(name, steps, **options):
        one = plan(name, VP, steps, **options)
        return [1 + int((row != 0).sum()) for row in one.e]

    assert orders("dpmpp_3m", 9) == [1, 2, 3, 3, 3, 3, 3, 2, 1]
    assert orders("dpmpp_3m", 20) == [1, 2, *[3] * 17, 1]
    assert orders("dpmpp_3m", 9, lower_order_final=False) == [1, 2, *[3] * 6, 1]
    assert orders("deis", 6, order=2) == [1, 2, 2, 2, 2, 1]
    assert orders("lms", 7) == [1, 2, 3, 4, 4, 4, 4]
    assert orders("lms", 7, lower_order_final=True) == [1, 2, 3, 4, 3, 2, 1]
    assert plan("lms", VP, 7, lower_order_final=True).b[-1] == 1
    flow = plan("dpmpp_3m", FLOW, 20)  # the first time, at log-SNR -inf, is no history
    assert [1 + int((row != 0).sum()) for row in flow.e[:4]] == [1, 1, 2, 3]


def test_grids_with_stages_have_steps_of_lower_order_left_over():
    """Lu et al. 2022: 3, 3, ..., then what is left; a lower_order_final that ends above 0 has a step of order 1."""

    def sizes(name, steps, final_sigma, stages="grid", **options):
        one = plan(name, VP, steps, stages=stages, final_sigma=final_sigma, **options)
        assert len(one) == steps
        starts = [row for row in range(steps) if not one.e[row].any()]
        return np.diff([*starts, steps]).tolist()

    assert sizes("dpmpp_3s", 9, "zero") == [3, 3, 2, 1]
    assert sizes("dpmpp_3s", 10, "zero") == [3, 3, 3, 1]
    assert sizes("dpmpp_3s", 11, "zero") == [3, 3, 3, 1, 1]
    assert sizes("dpm_solver_2s", 6, "zero") == [2, 2, 1, 1]
    assert sizes("dpm_solver_3s", 9, "sigma_min") == [3, 3, 3]
    assert sizes("dpm_solver_3s", 9, "sigma_min", lower_order_final=True) == [3, 3, 2, 1]
    assert sizes("dpm_solver_2s", 6, "sigma_min", lower_order_final=True) == [2, 2, 1, 1]
    for last, final_sigma in ((1, "zero"), (2, "sigma_min"), (3, "sigma_min")):
        assert sizes("dpmpp_3s", 5 + last, final_sigma, stages=(2, 3, last)) == [2, 3, last]


@pytest.mark.parametrize("name", SOLVERS)
def test_final_sigma_says_where_the_last_step_ends(name):
    schedule = schedules.SubVP()
    one = plan(name, schedule, 6, grid="karras", final_sigma="sigma_min")
    assert one == SOLVERS[name](schedule, GRIDS["karras"](schedule, 7)[:-1])
    assert one.steps == 6 and ((one.a[-1], one.b[-1]) != (0, 1) or one.e[-1].any())


@pytest.mark.parametrize("z", [-40.0, -5.0, -0.51, -0.5, -1e-3, 1e-9, 0.3, 0.5, 0.51, 4.0])
def test_exponential_moments_are_their_integrals(z):
    nodes, weights = np.polynomial.legendre.leggauss(60)
    u = (1 + nodes) / 2
    expected = [z * (weights / 2 * np.exp(z * (1 - u)) * u**j).sum() for j in range(4)]
    assert _common.exponential_moments(z, 4) == pytest.approx(expected, rel=1e-11)
    assert _common.exponential_moments(-math.inf, 3).tolist() == [-1, -1, -1]


def test_bad_options_are_refused():
    for name, options, message in [
        ("lms", {"order": 5}, "order must be an integer from 1 to 4; got 5"),
        ("deis", {"order": 4}, "order must be an integer from 1 to 3; got 4"),
        ("unipc", {"order": 0}, "order must be an integer from 1 to 3; got 0"),
        ("unipc", {"variant": "bh3"}, "variant must be one of bh1, bh2; got 'bh3'"),
        ("dpmpp_2m", {"solver_type": "taylor"}, "solver_type must be one of midpoint, heun; got 'taylor'"),
        ("dpmpp_2s", {"solver_type": "taylor"}, "solver_type must be one of midpoint, heun"),
        ("dpmpp_2s", {"stages": "outer"}, "stages must be one of inner, grid"),
        ("dpmpp_2s", {"stages": (2, 3, 5)}, "stages must be an integer from 1 to 2; got 3"),
        ("dpmpp_2s", {"stages": ()}, r"stages must be orders that make 10 steps, the last of order 1; got \(\)"),
        ("dpmpp_2s", {"stages": (2,) * 5}, r"stages must be orders that make 10 steps, the last of order 1; got \(2"),
        ("dpmpp_3m", {"curvature": -1.0}, "curvature must be a finite number of at least 0"),
        ("dpmpp_3m", {"lower_order_final": 1}, "lower_order_final must be True or False; got 1"),
        ("unipc", {"lower_order_final": "yes"}, "lower_order_final must be True or False; got 'yes'"),
        ("dpm2_ancestral", {"eta": 1.5}, r"eta must be a number in \[0, 1\]"),
        ("dpmpp_sde", {"s_noise": -0.1}, "s_noise must be a finite number"),
        ("edm", {"s_churn": math.inf}, "s_churn must be a finite number"),
        ("edm", {"s_tmax": math.nan}, "s_tmax must be a finite number"),
        ("flow_sde", {"eta": math.nan}, "eta must be a finite number"),
        (
            "predictor_corrector",
            {"predictor": "euler"},
            "predictor must be one of reverse_diffusion, euler_maruyama, ddpm",
        ),
        ("predictor_corrector", {"corrector_steps": -1}, "corrector_steps must be an integer of at least 0"),
        ("predictor_corrector", {"snr": -1.0}, "snr must be a finite number"),
        ("annealed_langevin", {"langevin_steps": 0}, "langevin_steps must be an integer of at least 1"),
        ("annealed_langevin", {"step_size": 5}, r"step_size must be a number in \[0, 4\]"),
        ("ddim", {"final_sigma": "none"}, "final_sigma must be one of zero, sigma_min; got 'none'"),
    ]:
        with pytest.raises(ValueError, match=message):
            plan(name, VP, 10, **options)
    for options in ({"order": 2.0}, {"order": True}, {"order": "2"}):
        with pytest.raises(ValueError, match="order must be an integer from 1 to 3"):
            plan("unipc", VP, 10, **options)
