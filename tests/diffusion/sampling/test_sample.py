"""The sampling loop against its equations in numpy, and the promise that a sample is its own."""

import concurrent.futures
import functools
import itertools
import math

import numpy as np
import pytest
import torch
from families import family
from helpers import five_modes, mixture, noise_of, perturbed, run

import genfast as gf
from genfast import nn, ops
from genfast.common.indices import as_chunk
from genfast.diffusion import sampling
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.solvers import SOLVERS, plan, time_grid
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

VP, EDM, FLOW = schedules.VPLinear(), schedules.EDM(), schedules.Flow()
sample = functools.partial(sampling.sample, progress=False)


def mlp(classes=0, seed=0):
    return perturbed(nn.MLP(2, width=32, depth=2, classes=classes), seed)


def by_hand(one, index, denoise=mixture, seed=0, shape=(2,)):
    """Samples by the equations of a Plan, in numpy, from the same noise."""
    key = ops.make_key(seed, torch.as_tensor(index))
    start = one.prior_std * ops.normal(key, shape, ops.Purpose.PRIOR, dtype=torch.float64).numpy()
    return torch.from_numpy(run(one, denoise, start, noise_of(one, key, shape)))


# The equations --------------------------------------------------------------------------------------------------------

OPTIONS = {"ddim": {"eta": 0.5}, "edm": {"s_churn": 2.0}, "annealed_langevin": {"langevin_steps": 5}}


@pytest.mark.parametrize("schedule", [VP, FLOW, EDM], ids=["vp", "flow", "edm"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_loop_does_what_the_plan_says(solver, schedule):
    one = plan(solver, schedule, 8, **OPTIONS.get(solver, {}))
    if one.snr.any():
        pytest.skip("Langevin rows are not affine")
    expected = by_hand(one, np.arange(11), seed=3)
    wide = sample(five_modes(schedule), (2,), one, 11, seed=3, chunk=8, dtype=torch.float64)
    assert wide.dtype == torch.float64 and (wide - expected).abs().max() < 1e-10
    narrow = sample(five_modes(schedule), (2,), one, 11, seed=3, chunk=8)
    assert narrow.dtype == torch.float32 and (narrow - expected).abs().max() < 2e-4 * expected.abs().max()


@pytest.mark.parametrize("parameterization", ["v", "edm", "x0"])
def test_a_network_is_scaled_as_its_parameterization_says(parameterization):
    """The loop's D, from F and the table's c_in, c_skip and c_out, is that of the Denoiser itself."""
    denoiser = Denoiser(mlp().double(), EDM, parameterization)
    one = plan("dpmpp_2m_sde", EDM, 6)
    times = iter(one.t)
    expected = by_hand(one, range(5), lambda x_t, *_: denoiser(torch.from_numpy(x_t), next(times)).detach().numpy())
    out = sample(denoiser, (2,), one, 5, chunk=5, dtype=torch.float64)
    assert torch.allclose(out, expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())


def test_clamp_bounds_the_denoised_estimate_of_every_row():
    one = plan("dpmpp_2m_sde", VP, 8)
    expected = by_hand(one, range(20), lambda *at: mixture(*at).clip(-0.5, 0.875))
    seen = []
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-5)):
        out = sample(five_modes(), (2,), one, 20, clamp=(-0.5, 0.875), dtype=dtype, callback=seen.append)
        assert (out - expected).abs().max() < tolerance
    assert all(state.denoised.min() >= -0.5 and state.denoised.max() <= 0.875 for state in seen)
    assert (expected - by_hand(one, range(20))).abs().max() > 0.1  # the bounds do matter here


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_that_is_not_written_is_not_read(dtype):
    """Deterministic mode fills new memory with NaN."""
    one = plan("rk4", VP, 3)
    expected = sample(five_modes(), (2,), one, 5, chunk=4, dtype=dtype)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        assert torch.equal(sample(five_modes(), (2,), one, 5, chunk=4, dtype=dtype), expected)
    finally:
        torch.use_deterministic_algorithms(False)


# A sample is its own --------------------------------------------------------------------------------------------------

NETWORKS = {"mixture": five_modes(), "mlp": Denoiser(mlp(), VP, "v")}
every_network = pytest.mark.parametrize("denoiser", NETWORKS.values(), ids=NETWORKS)
NOISY = plan("dpmpp_2m_sde", VP, 6)


@every_network
def test_a_sample_does_not_depend_on_the_others(denoiser):
    whole = sample(denoiser, (2,), NOISY, 21, seed=5, chunk=8)
    assert len(whole.unique(dim=0)) == 21
    for index in (range(3), [20], [7, 8], [20, 3, 11, 0, 19], [4, 4, 12, 4], range(20, -1, -1)):
        assert torch.equal(sample(denoiser, (2,), NOISY, list(index), seed=5, chunk=8), whole[list(index)])
    assert torch.equal(sample(denoiser, (2,), NOISY, 4, seed=5, chunk=8), whole[:4])
    assert not (sample(denoiser, (2,), NOISY, 21, seed=6, chunk=8) == whole).any()
    far = sample(denoiser, (2,), NOISY, [2**62 + 1, 5], seed=5, chunk=8)
    assert torch.equal(far[1], whole[5]) and torch.equal(
        far[:1], sample(denoiser, (2,), NOISY, [2**62 + 1], seed=5, chunk=8)
    )


@every_network
def test_no_samples(denoiser):
    assert sample(denoiser, (2,), NOISY, 0).shape == sample(denoiser, (2,), NOISY, []).shape == (0, 2)


@every_network
def test_threads_do_not_matter(denoiser):
    def draw(seed):
        return sample(denoiser, (2,), NOISY, 100, seed=seed, chunk=64)

    serial = [draw(seed) for seed in range(4)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(draw(0), serial[0])
    finally:
        torch.set_num_threads(threads)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for one, other in zip(pool.map(draw, range(4)), serial, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_solver_looks_at_the_batch(solver):
    """One sample alone, eight together, other batch-mates, every split: the same bits, on a network of rows."""
    denoiser = Denoiser(lambda y, t: torch.tanh(y * (1.5 - t[:, None])) + 0.1 * y, VP, "v")
    one = plan(solver, VP, 3)
    together = sample(denoiser, (2,), one, 8, seed=5, chunk=8)
    assert len(together.unique(dim=0)) == 8 and together.isfinite().all()
    for chunk in (1, 3):
        assert torch.equal(sample(denoiser, (2,), one, 8, seed=5, chunk=chunk), together)
    for index in ([6], [1, 100], list(range(3)), list(range(3, 8))):
        alone = sample(denoiser, (2,), one, index, seed=5, chunk=8)
        kept = [i for i in index if i < 8]
        assert torch.equal(alone[: len(kept)], together[kept])


def test_the_chunk_does_not_matter_to_exact_rows():
    whole = sample(five_modes(), (2,), NOISY, 21, chunk=64)
    for chunk in (1, 5, 8, 21):
        assert torch.allclose(sample(five_modes(), (2,), NOISY, 21, chunk=chunk), whole, rtol=0, atol=1e-6)
    elementwise = Denoiser(lambda y, t: y.relu() * t[:, None], VP, "v")
    whole = sample(elementwise, (2,), NOISY, 21, chunk=64)
    for chunk in (1, 5, 8, 21):
        assert torch.equal(sample(elementwise, (2,), NOISY, 21, chunk=chunk), whole)


# Guidance and conditions ----------------------------------------------------------------------------------------------

LABEL, NULL = torch.tensor([0, 1, 2, 2, 1, 0, 1]), torch.full((7,), 3)
guided = functools.partial(
    sample, shape=(2,), plan=NOISY, index=7, chunk=4, condition={"label": LABEL}, unconditional={"label": NULL}
)


def test_guidance_mixes_the_two_networks():
    """Against a single network that mixes by itself: F_u + w (F_c - F_u)."""
    net = mlp(classes=3).double()
    denoiser = Denoiser(net, VP, "v")
    weights = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0, -1.0, 7.5], dtype=torch.float64)

    def mixed(y, t, label, w):
        plain = net(y, t, label=torch.full_like(label, 3))
        return plain + w[:, None] * (net(y, t, label=label) - plain)

    expected = sample(
        Denoiser(mixed, VP, "v"), (2,), NOISY, 7, condition={"label": LABEL, "w": weights}, chunk=4, dtype=torch.float64
    )
    assert torch.allclose(guided(denoiser, guidance=weights, dtype=torch.float64), expected, rtol=0, atol=1e-11)
    narrow = guided(Denoiser(mlp(classes=3), VP, "v"), guidance=weights)
    assert torch.allclose(narrow.double(), expected, rtol=0, atol=2e-5 * expected.abs().max().item())


def test_guidance_of_one_and_of_zero_are_the_two_networks():
    denoiser = Denoiser(mlp(classes=3), VP, "v")
    for weight, label in ((1.0, LABEL), (0.0, NULL)):
        plain = sample(denoiser, (2,), NOISY, 7, chunk=4, condition={"label": label})
        assert torch.allclose(guided(denoiser, guidance=weight), plain, rtol=0, atol=2e-5)
    assert not torch.allclose(guided(denoiser, guidance=1.0), guided(denoiser, guidance=0.0), rtol=0, atol=1e-2)


def test_guidance_is_per_sample():
    denoiser = Denoiser(mlp(classes=3), VP, "v")
    weights = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0, -1.0, 7.5])
    together = guided(denoiser, guidance=weights)
    for i, weight in enumerate(weights.tolist()):
        assert torch.equal(guided(denoiser, guidance=weight)[i], together[i])


def test_a_condition_goes_with_its_sample():
    denoiser = Denoiser(mlp(classes=3), VP, "v")
    whole = sample(denoiser, (2,), NOISY, 7, chunk=4, condition={"label": LABEL})
    order = torch.tensor([6, 0, 3, 3, 5])
    assert torch.equal(sample(denoiser, (2,), NOISY, order, chunk=4, condition={"label": LABEL[order]}), whole[order])
    both = sample(denoiser, (2,), NOISY, [2, 2], chunk=4, condition={"label": torch.tensor([0, 2])})
    assert torch.equal(both[1], whole[2]) and not torch.equal(both[0], both[1])


# Networks at the edge -------------------------------------------------------------------------------------------------


def image_net(y, t):
    return torch.tanh(y.roll(1, 1) + y.roll(1, 3)) * (1 - t.view(-1, 1, 1, 1))


@pytest.mark.parametrize("solver", ["dpmpp_2m_sde", "heun"])
def test_the_memory_format_of_the_network_does_not_matter(solver):
    one = plan(solver, VP, 5)

    def last(y, t):
        return image_net(y, t).contiguous(memory_format=torch.channels_last)

    def strided(y, t):
        return image_net(y, t).transpose(2, 3).contiguous().transpose(2, 3)

    calls = itertools.count()

    def changing(y, t):
        return (last if next(calls) % 2 else image_net)(y, t)

    whole = sample(Denoiser(image_net, VP, "v"), (3, 4, 5), one, 5, chunk=3)
    for net in (last, strided, changing):
        out = sample(Denoiser(net, VP, "v"), (3, 4, 5), one, 5, chunk=3)
        assert torch.equal(out, whole) and out.is_contiguous()


def test_networks_in_bfloat16():
    """Inside, at its output only, and at its input only: the state stays float32, and so do the inputs of a float32
    network."""
    exact = sample(NETWORKS["mlp"], (2,), NOISY, 9)
    half = mlp().bfloat16()
    seen = set()

    def narrow_answer(y, t):
        seen.add(y.dtype)
        assert not torch.equal(y, y.bfloat16())  # nor has it been rounded on the way
        return mlp()(y, t).bfloat16()

    class WideAnswer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.p = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))

        def forward(self, y, t):
            seen.add(y.dtype)
            return mlp()(y.float(), t)

    scale = exact.abs().max().item()
    for net, dtype in ((half, torch.bfloat16), (narrow_answer, torch.float32), (WideAnswer(), torch.bfloat16)):
        seen.clear()
        out = sample(Denoiser(net, VP, "v"), (2,), NOISY, 9)
        assert out.dtype == torch.float32 and seen <= {dtype}
        assert torch.allclose(out, exact, rtol=0, atol=0.03 * scale) and not torch.equal(out, exact)


def test_the_callback_sees_every_row_of_every_sample():
    states = []
    index = torch.tensor([9, 2, 5, 2])
    out = sample(five_modes(), (2,), NOISY, index, chunk=4, callback=states.append)
    assert torch.equal(out, sample(five_modes(), (2,), NOISY, index, chunk=4))
    last = torch.full((4, 2), math.nan)
    for _, pass_states in itertools.groupby(states, key=lambda state: state.where.tolist()):
        pass_states = list(pass_states)
        assert [state.row for state in pass_states] == list(range(len(NOISY)))
        for state in pass_states:
            assert state.rows == len(NOISY) and state.x.shape == state.denoised.shape == (len(state.where), 2)
            assert not last[state.where].isfinite().any()  # each sample once
        last[pass_states[-1].where] = pass_states[-1].x
        assert torch.equal(pass_states[-1].x, pass_states[-1].denoised)  # x' = D in the last row
    assert torch.equal(last, out)
    first = next(state for state in states if 1 in state.where)
    x_1 = ops.normal(ops.make_key(0, index[first.where]), (2,), ops.Purpose.PRIOR)
    assert torch.allclose(first.denoised, five_modes()(x_1, 1.0), rtol=0, atol=1e-6)


# The distribution -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "steps"), [("dpmpp_2m", 20), ("ddpm", 100)])
def test_samples_have_the_moments_of_the_data(solver, steps):
    """Within five standard errors, and the solver's own bias: 0.01 in the mean, 0.02 in the covariance."""
    means, variances = torch.tensor([[1.0, 0.5], [-1.0, 0.0]], dtype=torch.float64), torch.tensor([0.05, 0.1])
    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    denoiser = GaussianMixtureDenoiser(weights, means, variances, VP)
    x = sample(denoiser, (2,), plan(solver, VP, steps), 4096, seed=1, chunk=1024).double()
    mean = weights @ means
    within = (weights @ variances.double()) * torch.eye(2, dtype=torch.float64)
    covariance = torch.einsum("k,ki,kj->ij", weights, means - mean, means - mean) + within
    products = torch.einsum("ni,nj->nij", x - mean, x - mean)
    for values, expected, bias in ((x, mean, 0.01), (products, covariance, 0.02)):
        standard_error = values.std(0) / math.sqrt(len(x))
        assert ((values.mean(0) - expected).abs() < 5 * standard_error + bias).all()


@pytest.mark.parametrize("schedule", [VP, FLOW, EDM], ids=["vp", "flow", "edm"])
def test_a_second_order_solver_at_20_steps_beats_a_first_order_one_at_40(schedule):
    """On the same grid, the log-SNR's."""

    def draw(solver, steps):
        return sample(five_modes(schedule), (2,), plan(solver, schedule, steps, grid="log_snr"), 256, chunk=256)

    exact = draw("rk4", 150)
    error = {name: (draw(name, n) - exact).norm(dim=1).mean().item() for name, n in (("dpmpp_2m", 20), ("euler", 40))}
    assert error["dpmpp_2m"] < error["euler"] < 0.1, error


# Bad requests ---------------------------------------------------------------------------------------------------------

BAD = [
    ({"index": -1}, "index must be"),
    ({"index": [3, -1]}, "index must be"),
    ({"index": [[0, 1]]}, "index must be"),
    ({"index": [0.5]}, "index must be"),
    ({"index": 2.0}, "index must be"),
    ({"index": True}, "index must be"),
    ({"index": "3"}, "index must be"),
    ({"shape": (2, 0)}, r"shape must be a positive integer or a sequence of them; got \(2, 0\)"),
    ({"guidance": 2.0}, "guidance and unconditional go together"),
    ({"unconditional": {"label": NULL}}, "guidance and unconditional go together"),
    (
        {"guidance": 2.0, "unconditional": {"other": NULL}, "condition": {"label": LABEL}},
        r"unconditional must have the names of condition, \['label'\]; got \['other'\]",
    ),
    (
        {"guidance": torch.ones(3), "unconditional": {"label": NULL}, "condition": {"label": LABEL}},
        r"guidance must be a number or have shape \(7,\); got \(3,\)",
    ),
    ({"condition": {"label": LABEL[:6]}}, r"condition 'label' must be a tensor \(7, \*\)"),
    ({"condition": {"label": [0] * 7}}, "condition 'label' must be a tensor or an array; got list"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("settings", "message"), BAD)
def test_bad_settings_are_refused(settings, message, dtype):
    settings = {"shape": (2,), "plan": NOISY, "index": 7, "dtype": dtype} | settings
    with pytest.raises((ValueError, TypeError), match=message):
        sample(Denoiser(mlp(classes=3), VP, "v"), **settings)


def test_bad_networks_are_refused():
    for net in (lambda y, t: y[:, :1], lambda y, t: y[:1], lambda y, t: y.flatten()):
        with pytest.raises(ValueError, match=r"must answer with the shape of its input, \(4, 2\); got"):
            sample(Denoiser(net, VP, "v"), (2,), NOISY, 3, chunk=4)
    with pytest.raises(ValueError, match="the Eps parameterization is singular at t = 1 of Flow"):
        sample(Denoiser(mlp(), FLOW, "eps"), (2,), plan("ddim", FLOW, 4), 3)


def test_samples_that_are_not_finite_are_an_error():
    def broken(y, t):
        return torch.where(y == y[2:3], math.nan, y)

    with pytest.raises(FloatingPointError, match=r"samples \[10, 2\] are not finite"):
        sample(Denoiser(broken, VP, "x0"), (2,), NOISY, [10, 1, 2, 3], chunk=8)


# Where sampling begins ------------------------------------------------------------------------------------------------


def from_level(level):
    """A grid uniform in the log-SNR, from that time on."""

    def grid(schedule, n):
        ends = (schedule.log_snr(t) for t in (level, schedule.t_min))
        times = torch.cat([schedule.time(torch.linspace(*ends, n, dtype=torch.float64)), torch.zeros(1)])
        times[0] = level
        return times

    return grid


SPREAD = gf.Gaussian.from_moments(torch.zeros(2), torch.full((2,), 0.25))  # data of standard deviation 1/2


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m", "ddim"])
@pytest.mark.parametrize("schedule", ["edm", "ve", "vp_linear", "flow", "sub_vp"])
def test_a_plan_below_one_starts_from_noise_of_its_own_level_or_asks_for_start(schedule, solver):
    """The noise of x_1 is a hundred times too much at sigma = 0.8."""
    denoiser = SPREAD.denoiser(schedule)
    own = denoiser.schedule
    low = own.time(torch.tensor(0.0, dtype=torch.float64)).item()  # alpha = sigma
    noisy = own.time(torch.tensor(2 * math.log(0.05), dtype=torch.float64)).item()  # alpha = sigma / 20
    early = plan(solver, own, 30, grid=from_level(low))
    with pytest.raises(ValueError, match=rf"start must be given.*plan {solver} begins at t = "):
        sample(denoiser, (2,), early, 4, progress=False)
    with pytest.raises(ValueError, match="start must be given"):
        sampling.SampleQueue(denoiser, (2,)).add(0, plan=early)
    start = own.alpha(low) * SPREAD.sample(2000, seed=1).float() + own.sigma(low) * torch.randn(
        2000, 2, generator=torch.Generator().manual_seed(3)
    )
    assert abs(sample(denoiser, (2,), early, 2000, start=start, progress=False).std() - 0.5) < 0.05

    late = plan(solver, own, 30, grid=from_level(noisy))
    assert late.prior_std == pytest.approx(own.prior_std * own.sigma(noisy) / own.sigma(1.0))
    x = sample(denoiser, (2,), late, 2000, progress=False)
    assert abs(x.std() - 0.5) < 0.1
    queue = sampling.SampleQueue(denoiser, (2,), capacity=2)
    queue.add(3, plan=late)
    torch.testing.assert_close(next(iter(queue))[1], x[3])
    assert plan(solver, own, 4).prior_std == own.prior_std


@pytest.mark.parametrize("schedule", ["edm", "vp_cosine", "flow"])
@pytest.mark.parametrize("solver", ["dpmpp_2m", "heun", "ddpm", "unipc", "dpmpp_2s"])
def test_what_comes_back_from_a_source_has_the_law_of_the_data(solver, schedule):
    """x_0 of p_0, noised and denoised, is of p_0 again; the less noise, the nearer to the source."""

    class Exact(gf.Diffusion):
        denoiser = SPREAD.denoiser(schedule)

    model = Exact(nn.MLP(2, width=8, depth=1), schedule, shape=(2,))
    x0, distances = SPREAD.sample(2000, seed=1).float(), []
    for strength in (0.2, 0.5, 0.9):
        x = model.sample(2000, solver=solver, steps=60, source=x0, strength=strength, progress=False)
        assert abs(x.std() - 0.5) < 0.06 and x.mean(0).abs().max() < 0.06
        distances.append((x - x0).square().mean().sqrt())
    assert distances[0] < distances[1] < distances[2] * 1.1


def test_a_source_is_noised_to_the_first_row_at_its_strength():
    """By the z that sampling without a source begins with; a ready plan is cut where a step begins."""
    denoiser, x0 = five_modes(), torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    z = ops.normal(ops.make_key(4, 9), (2,), ops.Purpose.PRIOR)
    for solver in ("heun", "ddpm", "edm", "dpm2", "rk4", "dpmpp_sde", "predictor_corrector"):
        whole = plan(solver, VP, 12)
        for strength in (1.0, 0.6, 0.3):
            cut = whole.below(strength)
            times = [t for t in time_grid(solver, VP)(VP, 12).tolist() if 0 < t <= strength]
            assert cut.t[0] == times[0] and cut.steps == len(times)
            found = sample(denoiser, (2,), whole, 9, seed=4, source=x0, strength=strength)
            start = float(cut.alpha[0]) * x0 + float(cut.sigma[0]) * z
            assert torch.equal(found, sample(denoiser, (2,), cut, 9, seed=4, start=start))
    for solver in ("dpmpp_2m", "lms", "unipc", "deis"):
        with pytest.raises(ValueError, match=f"strength needs a plan whose steps do not read.*{solver}"):
            sample(denoiser, (2,), plan(solver, VP, 12), 9, source=x0, strength=0.5)
        sample(denoiser, (2,), plan(solver, VP, 12), 9, source=x0, strength=1)  # all of it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": torch.zeros(4, 2)}, "source and strength go together"),
        ({"strength": 0.5}, "source and strength go together"),
        ({"source": torch.zeros(4, 2), "strength": 0.0}, r"strength must be a number in \(0, 1\]; got 0.0"),
        ({"source": torch.zeros(4, 2), "strength": 1.5}, "strength must be a number"),
        ({"source": torch.zeros(4, 2), "strength": math.nan}, "strength must be a number"),
        ({"source": torch.zeros(4, 2), "strength": 1e-9}, "strength must be at least 0.001, the last time of"),
        ({"source": torch.zeros(4, 2), "strength": 0.5, "start": torch.zeros(4, 2)}, "source and start exclude each"),
        ({"source": torch.zeros(4, 3), "strength": 0.5}, r"source must have shape \(4, 2\)"),
        ({"source": torch.full((4, 2), math.nan), "strength": 0.5}, "source must be finite"),
        ({"source": torch.zeros(4, 2) * 1j, "strength": 0.5}, "source must hold real numbers; got torch.complex64"),
    ],
)
def test_sources_and_strengths_that_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sample(five_modes(), (2,), plan("ddim", VP, 5, "log_snr"), 4, **arguments)
    with pytest.raises((ValueError, TypeError), match=message):
        gf.Diffusion(nn.MLP(2, width=8, depth=1), VP, shape=(2,)).sample(4, steps=5, **arguments)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], r"times must have shape \(steps \+ 1,\) with at least one step"),
        ([1.0, math.nan, 0.0], "times must not hold NaN"),
        ([0.0, 0.5, 1.0], "times must decrease strictly"),
        ([1.0, 0.5], "strength must be at least 1, the last time of 2 steps; got 0.6"),
        ([1.0, 0.0], "strength must be at least 1, the last time of 2 steps; got 0.6"),
    ],
)
def test_grids_on_which_no_source_can_begin(times, message):
    model, source = gf.Diffusion(nn.MLP(2, width=8, depth=1), VP, shape=(2,)), torch.zeros(4, 2)
    with pytest.raises(ValueError, match=message):
        model.sample(4, steps=2, grid=lambda *_: times, source=source, strength=0.6)


LAST = 2**63 - 1


def test_the_last_sample_of_all():
    """Its slot is the last of its chunk, of which no later one is there; the same beside others and in other chunks."""
    one = plan("ddpm", VP, 3)
    wide = functools.partial(sample, five_modes("vp_linear"), (2,), one, dtype=torch.float64)
    x = wide([LAST])
    assert torch.allclose(x, by_hand(one, [LAST]), rtol=0, atol=1e-9)
    for index, chunk in (([5, LAST, LAST - 1], 64), ([LAST], 1), ([LAST, LAST - 64], 3)):
        assert torch.equal(wide(index, chunk=chunk)[index.index(LAST)], x[0])


@pytest.mark.parametrize("draw", [
    lambda index: gf.Diffusion(mlp(), VP, shape=(2,)).sample(index, steps=2, progress=False),
    lambda index: sampling.sample_adaptively(five_modes(), (2,), index, rtol=0.1, atol=0.1, progress=False)[0],
    lambda index: gf.Gaussian.from_moments(torch.zeros(2), torch.eye(2)).sample(index),
    lambda index: family("vae", classes=0).sample(index),
    lambda index: family("gan", classes=0).sample(index),
    lambda index: family("latent", classes=0).sample(index, steps=2, progress=False),
])  # fmt: skip
def test_the_last_sample_of_every_model(draw):
    alone, beside = draw([LAST]), draw([3, LAST])
    assert torch.equal(alone[0], beside[1]) and not torch.equal(alone[0], beside[0]) and bool(alone.isfinite().all())
    with pytest.raises(ValueError, match="must be a number of samples or their indices"):
        draw([LAST + 1])


def test_the_likelihood_at_the_last_index():
    few = {"steps": 2, "divergence": "gaussian", "progress": False}
    model, x = gf.Diffusion(mlp(), VP, shape=(2,)), torch.ones(2, 2)
    nats = model.log_likelihood(x, index=[LAST, 0], **few)[0]
    assert torch.equal(nats[1:], model.log_likelihood(x[:1], **few)[0]) and nats[0] != nats[1]


def test_arrays_of_any_strides_and_byte_order():
    x = torch.linspace(-1, 1, 8).reshape(4, 2)
    drawn = functools.partial(sample, five_modes(), (2,), plan("ddim", VP, 3))
    for array in (x.flip(0).numpy()[::-1], x.numpy().astype(">f4"), x.tolist()):
        assert torch.equal(drawn(4, start=array), drawn(4, start=x))
        assert torch.equal(drawn(4, known=array, mask=[1, 0]), drawn(4, known=x, mask=torch.tensor([1.0, 0.0])))
    assert torch.equal(drawn(np.array([3, 1])[::-1]), drawn([1, 3]))


@pytest.mark.parametrize(
    ("shape", "cpu", "gpu"),
    [((), 64, 256), ((3, 32, 32), 64, 256), ((3, 256, 256), 64, 64), ((3, 512, 512), 16, 16), ((3, 515, 515), 16, 16),
     ((2**22,), 4, 4), ((2**24 + 1,), 1, 1), ((0, 5), 64, 256), (None, 64, 256)],
)  # fmt: skip
def test_the_chunk_follows_from_the_shape_and_from_cpu_or_not(shape, cpu, gpu):
    assert as_chunk(None, shape, torch.device("cpu")) == cpu
    assert as_chunk(None, shape, torch.device("cuda", 1)) == gpu
    assert as_chunk(5, shape, torch.device("cpu")) == 5
