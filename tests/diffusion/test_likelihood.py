"""The likelihood against known densities and its equations by hand, and the promise that it is a sample's own."""

import functools
import math
import weakref

import pytest
import torch
from helpers import perturbed

from genfast import nn
from genfast.diffusion import likelihood
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.process.schedules import SCHEDULES
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

log_likelihood = functools.partial(likelihood.log_likelihood, progress=False)


VP, EDM = schedules.VPLinear(), schedules.EDM()
ALL_SCHEDULES = pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=list(SCHEDULES))


def describe(value):
    return type(value).__name__ if isinstance(value, schedules.Schedule) else str(value)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(schedule, shape):
    """Three components; isotropic in two dimensions, else with full covariances; the least std is 0.14."""
    size = math.prod(shape)
    means = torch.randn(3, *shape, generator=generator(1), dtype=torch.float64)
    covariances = torch.tensor([0.14, 0.3, 0.2], dtype=torch.float64) ** 2
    if size > 2:
        root = torch.randn(3, size, size, generator=generator(2), dtype=torch.float64) * 0.3 / size**0.5
        covariances = root @ root.mT + 0.14**2 * torch.eye(size, dtype=torch.float64)
    return GaussianMixtureDenoiser([0.2, 0.3, 0.5], means, covariances, schedule)


def drawn(denoiser, n, seed=0):
    return denoiser.sample(n, generator(seed))


def mlp(features=2, classes=0, seed=0):
    return perturbed(nn.MLP(features, width=16, depth=2, classes=classes), seed)


def row_wise(y, c_noise):
    """A network of elementwise operations, whose rounding cannot depend on the batch, and with a full Jacobian."""
    mixed = sum(weight * y.roll(k, 1) for k, weight in enumerate((0.7, -0.4, 0.3)))
    return mixed / (1 + mixed**2) + c_noise.view(-1, 1) * y


def no_prior(x, t):
    return torch.zeros(len(x), dtype=torch.float64)


# Known densities ------------------------------------------------------------------------------------------------------


@ALL_SCHEDULES
def test_two_dimensional_mixture(schedule):
    exact = mixture(schedule, (2,))
    x = drawn(exact, 64)
    nats, se = log_likelihood(exact, x, prior=exact.log_prob)
    assert nats.dtype == torch.float64 and nats.shape == se.shape == (64,) and not se.any()
    assert (nats - exact.log_prob(x)).abs().max() < 1e-3 * 2


@pytest.mark.parametrize(
    "schedule, shape, steps",
    [(VP, (2, 4, 4), 36), (EDM, (2, 4, 4), 36), (schedules.Flow(), (2, 4, 4), 50), (VP, (32,), 36)],
    ids=describe,
)
def test_32_dimensional_mixture_in_any_shape(schedule, shape, steps):
    exact = mixture(schedule, shape)
    x = drawn(exact, 4)
    nats, _ = log_likelihood(exact, x, prior=exact.log_prob, steps=steps, chunk=4)
    assert (nats - exact.log_prob(x)).abs().max() < 1e-3 * 32


@ALL_SCHEDULES
def test_the_stretch_from_0_to_t_min_is_not_lost(schedule):
    """As the docstring says: std 0.14, up to 3 std from the mean, at the default t_min."""
    exact = GaussianMixtureDenoiser([1.0], [[0.3]], [0.14**2], schedule)
    x = 0.3 + 0.14 * torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    error = log_likelihood(exact, x, prior=exact.log_prob, chunk=13).nats - exact.log_prob(x)
    assert error.abs().max() < 1e-3


def test_bias_of_t_min_is_of_fourth_order_in_s():
    exact = GaussianMixtureDenoiser([1.0], [[0.0]], [0.14**2], EDM)
    x = torch.tensor([[0.3]], dtype=torch.float64)
    biases = [
        (log_likelihood(exact, x, prior=exact.log_prob, steps=200, t_min=s / 80, chunk=1).nats - exact.log_prob(x))
        .abs()
        .item()
        for s in (0.04, 0.02)
    ]
    assert 3.5 < math.log2(biases[0] / biases[1]) < 4.3


def test_order_4_in_steps():
    exact = GaussianMixtureDenoiser([1.0], [[0.5, -0.2, 0.1]], [[0.2, 0.5, 1.0]], EDM)
    x = drawn(exact, 8)
    run = functools.partial(log_likelihood, exact, x, prior=exact.log_prob, chunk=8)
    truth = run(steps=160).nats  # and not log_prob: the bias of t_min does not fall with the steps
    errors = torch.stack([(run(steps=n).nats - truth).abs().max() for n in (20, 40, 80)]).log2()
    assert ((errors[:-1] - errors[1:]) - 4).abs().max() < 0.3


def test_default_prior_is_a_gaussian_of_the_variance_from_which_sampling_starts():
    """N(0, V I) at t_max instead of the truth, and nothing else, makes the difference. A Gaussian flows linearly."""
    for schedule in (EDM, schedules.Flow(), schedules.VPCosine()):
        exact = GaussianMixtureDenoiser([1.0], [[0.5, -1.0]], [0.2], schedule)
        x, t = drawn(exact, 5), schedule.t_max
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        std = math.sqrt(alpha**2 * 0.2 + sigma**2)
        end = alpha * exact.means + std * (x - exact.means) / math.sqrt(0.2)
        run = functools.partial(log_likelihood, exact, x, chunk=5, steps=50)
        start = schedule.prior_std * sigma / schedule.sigma(1.0)
        expected = torch.distributions.Normal(0, start).log_prob(end).sum(1) - exact.log_prob(end, t)
        given = run().nats - run(prior=exact.log_prob).nats
        assert (given - expected).abs().max() < 1e-3 * expected.abs().max() + 1e-5 and expected.abs().max() < 0.02


# The divergence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("divergence", ["rademacher", "gaussian"])
@pytest.mark.parametrize("shape", [(2,), (2, 4, 4)], ids=str)
@pytest.mark.parametrize("probes", [8, 32])
def test_hutchinson_within_3_standard_errors(divergence, shape, probes):
    exact = mixture(VP, shape)
    x = drawn(exact, 8).repeat_interleave(4, 0)
    run = functools.partial(log_likelihood, exact, x, prior=exact.log_prob, steps=10, chunk=32, seed=1)
    nats, se = run(divergence=divergence, probes=probes)
    z = (nats - run().nats).view(8, 4).mean(1) / ((se**2).view(8, 4).sum(1).sqrt() / 4)
    assert (z.abs() < 3).sum() >= 7 and z.abs().max() < 4.5 and z.mean().abs() < 1.5  # few chi-squares are skew
    assert z.std() > 0.4  # and the errors are not overstated


def test_one_rademacher_probe_is_exact_on_an_isotropic_gaussian():
    exact = GaussianMixtureDenoiser([1.0], torch.full((1, 3, 2, 2), 0.4), [0.3], VP)
    x = drawn(exact, 4)
    nats, se = log_likelihood(exact, x, divergence="rademacher", chunk=4, steps=20)
    assert torch.allclose(nats, log_likelihood(exact, x, chunk=4, steps=20).nats, rtol=1e-12) and se.isnan().all()
    gaussian = log_likelihood(exact, x, divergence="gaussian", chunk=4, steps=20).nats
    assert (gaussian - nats).abs().min() > 1e-2  # v^T v is not d there


@pytest.mark.parametrize("divergence", ["rademacher", "gaussian"])
def test_variance_of_a_probe_is_that_of_theory(divergence):
    A = torch.randn(6, 6, generator=generator(3), dtype=torch.float64)
    linear = Denoiser(lambda y, t: y @ A.mT, EDM, "x0")
    x, steps = torch.zeros(256, 6, dtype=torch.float64), 4
    run = functools.partial(log_likelihood, linear, x, steps=steps, prior=no_prior, chunk=256)
    # With x = 0 for ever and no prior, nats = constant - gain tr A.
    without = log_likelihood(Denoiser(lambda y, t: 0 * y, EDM, "x0"), x[:1], steps=steps, prior=no_prior, chunk=1)
    exact = run().nats[0]
    gain = (without.nats - exact) / A.trace()
    S = gain * (A + A.mT) / 2
    square = (S**2).sum() if divergence == "gaussian" else (S**2).sum() - (S.diagonal() ** 2).sum()
    nats, se = run(divergence=divergence, probes=32)
    measured = (se**2 * 32).mean()
    assert abs(measured / (2 * square) - 1) < 0.08
    assert (nats.mean() - exact).abs() < 3 * (2 * square / (256 * 32)).sqrt()


def by_hand(denoiser, x, steps):
    """log p_0 of one sample x by the equations, with the trace of the whole Jacobian of D; the prior is left out."""
    schedule, size = denoiser.schedule, x.numel()
    low, high = (-schedule.log_snr(t) / 2 for t in (schedule.t_min, schedule.t_max))
    h = (high - low) / steps

    def slope(x, log_s):
        t = min(max(schedule.time(-2 * log_s), schedule.t_min), schedule.t_max)

        def D(x):
            return denoiser(schedule.alpha(t) * x[None], t)[0]

        jacobian = torch.autograd.functional.jacobian(D, x).reshape(size, size)
        return x - D(x).detach(), size - jacobian.trace()

    dx, change = slope(x, low)
    x, change = x + dx / 2, change / 2
    for n in range(steps):
        at = low + n * h
        k = [slope(x, at)]
        for part in (0.5, 0.5, 1):
            k.append(slope(x + part * h * k[-1][0], at + part * h))
        x, change = (
            value + h * (k[0][i] / 6 + k[1][i] / 3 + k[2][i] / 3 + k[3][i] / 6) for i, value in enumerate((x, change))
        )
    return schedule.alpha(schedule.t_max) * x, change + size * math.log(schedule.alpha(schedule.t_max))


NETWORKS = {"mlp": (mlp(), (2,)), "unet": (perturbed(nn.UNet(1, 4, (1, 2), attention=(1,))), (1, 2, 2))}


def in_float64(net):
    copy = type(net)(**net.config).double().eval()
    copy.load_state_dict(net.state_dict())
    return copy


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "schedule, parameterization", [(VP, "v"), (EDM, "edm"), (schedules.Flow(), "flow")], ids=describe
)
def test_equations_with_the_jacobian_of_a_network(name, schedule, parameterization):
    net, shape = NETWORKS[name]
    denoiser = Denoiser(in_float64(net), schedule, parameterization)
    x = torch.randn(2, *shape, generator=generator(), dtype=torch.float64)
    (first, change), (second, other) = (by_hand(denoiser, row, 2) for row in x)
    ends = []

    def prior(x_t, t):
        ends.append(x_t)
        assert t == schedule.t_max
        return no_prior(x_t, t)

    nats, _ = log_likelihood(denoiser, x, steps=2, chunk=2, prior=prior)
    scale = first.abs().max()
    assert torch.allclose(nats, torch.stack([change, other]), rtol=1e-9)
    assert torch.allclose(ends[0], torch.stack([first, second]), rtol=1e-9, atol=1e-9 * scale)


def test_change_of_variables():
    """log p_0(x) - log p(x_1) = log |det dx_1 / dx|: of the numerical flow as one function, which knows no trace."""
    A = torch.tensor([[0.8, -0.6], [0.3, 0.5]], dtype=torch.float64)
    denoiser = Denoiser(lambda y, t: torch.tanh(y @ A + 0.2) * (1 - t[:, None]), VP, "v")
    x = torch.tensor([0.4, -0.7], dtype=torch.float64)

    def end(x):
        ends = []

        def prior(x_t, t):
            ends.append(x_t[0])
            return no_prior(x_t, t)

        return log_likelihood(denoiser, x[None], prior=prior, chunk=1).nats[0], ends[0]

    step = 1e-5
    columns = [(end(x + d)[1] - end(x - d)[1]) / (2 * step) for d in step * torch.eye(2, dtype=torch.float64)]
    assert abs(end(x)[0] - torch.linalg.slogdet(torch.stack(columns, 1)).logabsdet) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_float32_with_compiled_ops(name):
    net, shape = NETWORKS[name]
    x = torch.randn(4, *shape, generator=generator()) * 0.5
    run = functools.partial(log_likelihood, steps=3, chunk=4)
    denoiser, double = Denoiser(net, EDM, "edm"), Denoiser(in_float64(net), EDM, "edm")
    exact, wide = run(denoiser, x).nats, run(double, x).nats
    assert (exact - wide).abs().max() < 1e-4 * wide.abs().max()
    narrow = run(denoiser, x, dtype=torch.float32).nats
    assert narrow.dtype == torch.float64 and (narrow - wide).abs().max() < 1e-3 * wide.abs().max()
    for divergence in ("rademacher", "gaussian"):
        nats, se = run(denoiser, x, divergence=divergence, probes=8)
        assert (nats - exact).mean().abs() < 3.5 * (se**2).sum().sqrt() / 4 and se.min() > 0


def test_bfloat16_network():
    net = mlp()
    low = in_float64(net).bfloat16()
    x = torch.randn(4, 2, generator=generator())
    nats = log_likelihood(Denoiser(low, VP, "v"), x, steps=20).nats
    assert (nats - log_likelihood(Denoiser(net, VP, "v"), x, steps=20).nats).abs().max() < 0.5


# A likelihood is a sample's own ---------------------------------------------------------------------------------------

SPLITS = [{"divergence": "exact"}, {"divergence": "rademacher", "probes": 3}, {"divergence": "gaussian", "probes": 3}]


@pytest.mark.parametrize("options", SPLITS, ids=lambda o: o["divergence"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_independent_of_batch_mates(options, dtype):
    denoiser = Denoiser(row_wise, VP, "v")
    x = torch.randn(9, 5, generator=generator(), dtype=dtype)
    run = functools.partial(log_likelihood, denoiser, dtype=dtype, steps=5, chunk=4, seed=7, **options)
    whole = run(x)
    assert len(set(whole.nats.tolist())) == 9
    for indices in ([0], [8, 1], [3, 4, 5], [6, 6, 2]):
        part = run(x[indices], index=indices)
        assert torch.equal(part.nats, whole.nats[indices]) and torch.equal(part.se, whole.se[indices])
    others = x.clone()
    others[[0, 1, 2, 4, 5, 6, 7, 8]] *= -3
    assert torch.equal(run(others).nats[3], whole.nats[3])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(run(x).nats, whole.nats)
    finally:
        torch.set_num_threads(threads)


def test_probes_are_functions_of_seed_index_and_number():
    denoiser = Denoiser(row_wise, VP, "v")
    x = torch.randn(1, 5, generator=generator()).expand(3, 5)
    run = functools.partial(log_likelihood, denoiser, steps=5, divergence="rademacher", chunk=4)
    first = run(x).nats
    assert len(set(first.tolist())) > 1  # Rademacher probes of five dimensions may coincide
    assert not torch.equal(first, run(x, seed=1).nats)
    two = torch.stack([first, run(x, first_probe=1).nats])
    both = run(x, probes=2)
    assert torch.allclose(both.nats, two.mean(0), rtol=1e-12)
    assert torch.allclose(both.se, two.std(0) / math.sqrt(2), rtol=1e-6, atol=1e-9)


def test_condition_goes_with_its_sample():
    denoiser = Denoiser(mlp(classes=3), VP, "v")
    x, label = torch.randn(7, 2, generator=generator()), torch.tensor([0, 1, 2, 2, 1, 0, 3])
    run = functools.partial(log_likelihood, denoiser, steps=4, chunk=4)
    whole = run(x, condition={"label": label}).nats
    for i in range(7):
        assert torch.equal(run(x[i : i + 1], index=[i], condition={"label": label[i : i + 1]}).nats[0], whole[i])
    assert (whole - run(x, condition={"label": label.flip(0)}).nats).abs().max() > 1e-3


def test_no_graph_is_kept():
    inputs = []

    def net(y, t):
        assert sum(seen() is not None for seen in inputs) == 0
        inputs.append(weakref.ref(y))
        return row_wise(y, t)

    x = torch.randn(3, 4, requires_grad=True)
    nats, _ = log_likelihood(Denoiser(net, VP, "v"), x, steps=5, chunk=3, divergence="rademacher", probes=2)
    assert len(inputs) == 21 and not nats.requires_grad and x.grad is None


def test_under_inference_mode_and_no_grad():
    denoiser = Denoiser(mlp(), VP, "v")
    expected = log_likelihood(denoiser, torch.ones(2, 2), steps=3).nats
    with torch.inference_mode():
        assert torch.equal(log_likelihood(denoiser, torch.ones(2, 2), steps=3).nats, expected)
        assert likelihood.bits_per_dim(denoiser, torch.ones(2, 2), steps=3, progress=False).bits.isfinite().all()
    assert all(p.grad is None for p in denoiser.net.parameters())


def test_no_samples():
    nats, se = log_likelihood(Denoiser(mlp(), VP, "v"), torch.empty(0, 2))
    assert nats.shape == se.shape == (0,)


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, match, change",
    [
        (TypeError, "denoiser must be a Denoiser", {"denoiser": 3}),
        (TypeError, "x must hold floating-point numbers; got torch.int64", {"x": torch.zeros(2, 2).long()}),
        (ValueError, r"x must have shape \(N, \*\)", {"x": torch.zeros(2)}),
        (ValueError, r"x must have shape \(N, \*\)", {"x": torch.zeros(2, 0)}),
        (ValueError, r"x must be finite; rows \[1\]", {"x": torch.tensor([[0.0, 0], [0, math.nan]])}),
        (ValueError, "index must have shape", {"index": [0]}),
        (ValueError, "index must be", {"index": [0.5, 1]}),
        (ValueError, "condition 'label' must be a tensor", {"condition": {"label": torch.zeros(3)}}),
        (ValueError, "divergence must be one of exact, rademacher, gaussian", {"divergence": "hutchinson"}),
        (ValueError, "probes must be an integer of at least 1", {"probes": 0}),
        (ValueError, "first_probe must be an integer of at least 0", {"first_probe": -1}),
        (ValueError, "steps must be an integer of at least 1", {"steps": 0}),
        (ValueError, "steps must be an integer of at least 1", {"steps": True}),
        (ValueError, "chunk must be an integer of at least 1", {"chunk": 0}),
        (ValueError, r"t_min must be a number in \(0, 1\)", {"t_min": 0.0}),
        (ValueError, r"t_min must be a number in \(0, 1\)", {"t_min": "small"}),
        (ValueError, "dtype must be one of torch.float32, torch.float64", {"dtype": torch.bfloat16}),
        (ValueError, "prior must answer with shape", {"prior": lambda x, t: x}),
    ],
)  # fmt: skip
def test_bad_arguments(error, match, change):
    arguments = {"denoiser": Denoiser(row_wise, VP, "v"), "x": torch.zeros(2, 2), "steps": 2} | change
    with pytest.raises(error, match=match):
        log_likelihood(**arguments)


@pytest.mark.parametrize("divergence", likelihood.DIVERGENCES)
@pytest.mark.parametrize(
    "net",
    [lambda y, t: torch.zeros_like(y), lambda y, t: y.detach(), lambda y, t: torch.ones_like(y, requires_grad=True)],
)
def test_network_without_gradient(net, divergence):
    with pytest.raises(ValueError, match="net must be differentiable in its input"):
        log_likelihood(Denoiser(net, VP, "v"), torch.zeros(2, 2), divergence=divergence)


def test_network_of_the_wrong_shape_and_not_finite():
    with pytest.raises(ValueError, match="the network must answer with the shape"):
        log_likelihood(Denoiser(lambda y, t: y[:, :1], VP, "v"), torch.zeros(2, 2))
    with pytest.raises(FloatingPointError, match=r"samples \[4\] are not finite"):
        bad = Denoiser(lambda y, t: y / (y[:, :1] > -50), VP, "v")
        log_likelihood(bad, torch.tensor([[0.0, 0], [-1e3, 0]]), index=[2, 4])
