"""Adaptive sampling against exact flows, and the promise that a sample and its steps are its own."""

import functools
import math

import pytest
import torch
from helpers import five_modes, mixture, run

from genfast import ops
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.process.grids import GRIDS
from genfast.diffusion.sampling import adaptive
from genfast.diffusion.solvers import SOLVERS
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

VP, EDM, FLOW = schedules.VPLinear(), schedules.EDM(), schedules.Flow()
every_schedule = pytest.mark.parametrize("schedule", [VP, EDM, FLOW], ids=["vp", "edm", "flow"])
sample = functools.partial(adaptive.sample_adaptively, progress=False)

# Few numbers at a time: a second thread only waits.
pytestmark = pytest.mark.usefixtures("one_thread")


def x_1(schedule, count, shape=(2,)):
    key = ops.make_key(0, count)
    return schedule.prior_std * ops.normal(key, shape, ops.Purpose.PRIOR, dtype=torch.float64)


# The flow -------------------------------------------------------------------------------------------------------------


@functools.cache
def exact(schedule, count):
    """Samples of the mixture by 1,000 steps of rk4 in the log-SNR, and D at their end."""
    start = x_1(schedule, count).numpy()
    return torch.from_numpy(run(SOLVERS["rk4"](schedule, GRIDS["log_snr"](schedule, 1000)), mixture, start))


@every_schedule
def test_the_error_falls_with_the_tolerance(schedule):
    """By the fifth root of five decades, at least; and float32 is as good as its tolerance."""
    means, evaluations = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        x, used = sample(five_modes(schedule), (2,), 30, rtol=tolerance, atol=tolerance, dtype=torch.float64)
        means.append((x - exact(schedule, 30)).norm(dim=1).median().item())
        evaluations.append(used.double().mean().item())
    assert means[0] < 0.02 and means[1] < 5e-5 and means[2] < 5e-7, means
    assert means[0] > 20 * means[1] and means[1] > 20 * means[2], means
    assert evaluations[0] < evaluations[1] < evaluations[2] < 5 * evaluations[0], evaluations
    narrow, used = sample(five_modes(schedule), (2,), 30, rtol=1e-5, atol=1e-5)
    assert narrow.dtype == torch.float32 and abs(used.double().mean().item() / evaluations[1] - 1) < 0.15
    assert (narrow - exact(schedule, 30)).norm(dim=1).median() < 1e-4


@every_schedule
def test_gaussians_are_mapped_to_gaussians(schedule):
    """x_t = alpha_t m + sqrt(V_t / V_1) (x_1 - alpha_1 m) with V = alpha^2 s^2 + sigma^2, and then D."""
    mean, variance = torch.tensor([[0.7, -0.2, 1.1]], dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64)
    denoiser = GaussianMixtureDenoiser(torch.ones(1), mean, variance, schedule)
    x, _ = sample(denoiser, (3,), 5, rtol=1e-10, atol=1e-10, dtype=torch.float64)

    def at(t):
        return schedule.alpha(t), schedule.alpha(t) ** 2 * 0.25 + schedule.sigma(t) ** 2

    (alpha_1, V_1), (alpha, V) = at(1.0), at(schedule.t_min)
    last = alpha * mean + math.sqrt(V / V_1) * (x_1(schedule, 5, (3,)) - alpha_1 * mean)
    assert (x - denoiser(last, schedule.t_min)).abs().max() < 1e-8


def test_networks_are_scaled_as_their_parameterization_says():
    """One field, given in each: the same samples, to what the tolerance allows."""
    exact_denoiser = five_modes(EDM)
    expected, _ = sample(exact_denoiser, (2,), 12, rtol=1e-5, atol=1e-5)
    for name in ("eps", "v", "flow", "edm"):
        probe = Denoiser(lambda y, t: y, EDM, name)

        def net(y, c_noise, name=name, probe=probe):
            t = torch.exp(4 * c_noise.double()) / 80 if name == "edm" else c_noise.double()
            c = probe.coefficients(t.clamp(max=1))
            x = y.double() / c.c_in[:, None]
            return ((exact_denoiser(x, t.clamp(max=1)) - c.c_skip[:, None] * x) / c.c_out[:, None]).to(y.dtype)

        x, _ = sample(Denoiser(net, EDM, name), (2,), 12, rtol=1e-5, atol=1e-5)
        assert (x - expected).abs().median() < 1e-4, name


# A sample is its own --------------------------------------------------------------------------------------------------


def by_rows(y, t, gain=None):
    """Operations whose last digit does not depend on where in a tensor they happen."""
    y = y / (1 + y.abs()) * (1 + t.view(-1, *[1] * (y.ndim - 1)))
    return y if gain is None else gain[:, None] * y


@pytest.mark.parametrize("schedule", schedules.SCHEDULES.values(), ids=schedules.SCHEDULES)
def test_a_sample_does_not_depend_on_the_others(schedule):
    denoiser = Denoiser(by_rows, schedule(), "x0")
    whole, used = sample(denoiser, (3, 5), 19, seed=5, chunk=8)
    assert bool((used % 6 == 2).all()) and not bool((whole[0] == whole[1:]).any())
    for chunk, index in ((65, range(19)), (8, [18, 3, 3, 0]), (1, [18, 7])):
        x, n = sample(denoiser, (3, 5), index, seed=5, chunk=chunk)
        assert torch.equal(x, whole[list(index)]) and torch.equal(n, used[list(index)]), chunk


def test_a_stiff_sample_leaves_its_batch_mates_alone():
    """D = gain f(x): a gain of -100 makes x decay as fast as that."""
    denoiser = Denoiser(by_rows, VP, "x0")
    gain = torch.full((8,), 0.5)
    easy, used = sample(denoiser, (4,), 8, condition={"gain": gain})
    gain[3] = -100.0
    mixed, n = sample(denoiser, (4,), 8, condition={"gain": gain})
    others = torch.arange(8) != 3
    assert torch.equal(mixed[others], easy[others]) and torch.equal(n[others], used[others])
    assert n[3] > 3 * used[3]
    alone, m = sample(denoiser, (4,), [3], condition={"gain": gain[3:4]})
    assert torch.equal(alone[0], mixed[3]) and m[0] == n[3]


def test_a_loud_sample_does_not_set_the_tolerance_of_others():
    def shouting(y, t):
        return torch.where(torch.arange(len(y))[:, None] == 2, 1e4 * by_rows(y, t), by_rows(y, t))

    quiet, used = sample(Denoiser(by_rows, FLOW, "x0"), (4,), 8, chunk=8)
    loud, n = sample(Denoiser(shouting, FLOW, "x0"), (4,), 8, chunk=8)
    others = torch.arange(8) != 2
    assert torch.equal(loud[others], quiet[others]) and torch.equal(n[others], used[others])


def test_evaluations_are_counted():
    calls = []

    def counting(y, t):
        calls.append(len(y))
        return by_rows(y, t)

    for i in range(3):
        calls.clear()
        _, used = sample(Denoiser(counting, VP, "v"), (2,), [i], chunk=1)
        assert used.tolist() == [len(calls)]
    calls.clear()
    _, used = sample(Denoiser(counting, VP, "v"), (2,), 3, chunk=4)
    assert set(calls) == {4} and len(calls) == used.max()


def test_no_samples():
    x, used = sample(five_modes(), (2,), 0)
    assert x.shape == (0, 2) and used.shape == (0,)


# Bad requests ---------------------------------------------------------------------------------------------------------

BAD = [
    ({"index": -1}, "index must be"),
    ({"chunk": 0}, "chunk must be an integer of at least 1; got 0"),
    ({"max_steps": 1.5}, "max_steps must be an integer of at least 1; got 1.5"),
    ({"shape": (0,)}, "shape must be a positive integer or a sequence of them"),
    ({"dtype": torch.float16}, "dtype must be one of torch.float32, torch.float64; got torch.float16"),
    ({"rtol": 1e-8}, "rtol must be a finite number of at least 9.53674e-07; got 1e-08"),
    ({"rtol": math.nan}, "rtol must be a finite number"),
    ({"atol": 0.0}, "atol must be a finite number above 0; got 0.0"),
    ({"atol": "1"}, "atol must be a finite number above 0; got '1'"),
    ({"seed": -1}, r"seed must be an integer from 0 to 2\^63 - 1; got -1"),
    ({"condition": {"gain": torch.ones(4)}}, r"condition 'gain' must be a tensor \(5, \*\)"),
]


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sample(**{"denoiser": Denoiser(by_rows, VP, "x0"), "shape": (2,), "index": 5} | settings)


def test_bad_networks_are_refused():
    with pytest.raises(ValueError, match=r"must answer with the shape of its input, \(4, 2\); got \(4, 1\)"):
        sample(Denoiser(lambda y, t: y[:, :1], VP, "x0"), (2,), 3, chunk=4)
    with pytest.raises(ValueError, match="the Eps parameterization is singular at t = 1 of Flow"):
        sample(Denoiser(by_rows, FLOW, "eps"), (2,), 3)


def test_too_few_steps_are_an_error_that_names_the_sample():
    gain = torch.tensor([0.5, -100.0, 0.5])
    needed = sample(Denoiser(by_rows, VP, "x0"), (2,), [10, 11, 12], condition={"gain": gain})[1]
    steps = int((needed[[0, 2]].max() - 2) // 6)
    with pytest.raises(RuntimeError, match=rf"samples \[11\] are not done after max_steps = {steps} steps"):
        sample(Denoiser(by_rows, VP, "x0"), (2,), [10, 11, 12], condition={"gain": gain}, max_steps=steps)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("after", [2.0, 0.5])
def test_a_network_that_is_not_finite_is_an_error_and_no_endless_loop(value, after):
    """From the start, and from the middle on; it names the sample."""

    def broken(y, t):
        bad = (torch.arange(len(y)) == 2) & (t < after)
        return torch.where(bad[:, None], value, by_rows(y, t))

    with pytest.raises(FloatingPointError, match=r"samples \[10\] are not finite"):
        sample(Denoiser(broken, VP, "x0"), (2,), [8, 9, 10], chunk=8, max_steps=500)


def test_on_a_gpu(cuda):
    x, used = sample(five_modes(), (2,), 20)
    on_gpu, n = sample(five_modes(device=cuda), (2,), 20, device=cuda)
    assert (on_gpu.cpu() - x).abs().max() < 1e-3 and (n.cpu() - used.cpu()).abs().max() <= 12
