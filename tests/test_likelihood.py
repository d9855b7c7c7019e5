"""The likelihood against densities that are known, the flow's own Jacobian, and the promise that it is a sample's own."""

import functools
import math
import weakref

import pytest
import torch
from helpers import MEANS, VARIANCES, WEIGHTS, perturbed

from genfast import likelihood, nn, ops, schedules
from genfast.denoisers import Denoiser, GaussianMixtureDenoiser
from genfast.diffusion import Diffusion
from genfast.schedules import SCHEDULES

log_likelihood = functools.partial(likelihood.log_likelihood, progress=False)
bits_per_dim = functools.partial(likelihood.bits_per_dim, progress=False)

VP, EDM = schedules.VPLinear(), schedules.EDM()
ALL_SCHEDULES = pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=list(SCHEDULES))
FIVE = [schedules.VPLinear(), schedules.VE(), schedules.EDM(), schedules.SubVP(), schedules.Flow()]
FIVE_SCHEDULES = pytest.mark.parametrize("schedule", FIVE, ids=lambda s: type(s).__name__)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(schedule, shape):
    """Three components; in two dimensions isotropic with std 0.14 to 0.3, else with full covariances, least std 0.14."""
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


@FIVE_SCHEDULES
@pytest.mark.parametrize("shape", [(32,), (2, 4, 4)], ids=str)
def test_32_dimensional_mixture_in_any_shape(schedule, shape):
    exact = mixture(schedule, shape)
    x = drawn(exact, 6)
    nats, _ = log_likelihood(exact, x, prior=exact.log_prob, steps=50, chunk=6)
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
    truth = run(steps=640).nats  # and not log_prob: the bias of t_min does not fall with the steps
    errors = torch.stack([(run(steps=n).nats - truth).abs().max() for n in (20, 40, 80, 160)]).log2()
    assert ((errors[:-1] - errors[1:]) - 4).abs().max() < 0.3


def test_default_prior_is_a_gaussian_of_the_variance_from_which_sampling_starts():
    """N(0, V I) at t_max instead of the truth, and nothing else, makes the difference. A Gaussian flows linearly."""
    for schedule in (EDM, schedules.Flow(), schedules.VPCosine()):
        exact = GaussianMixtureDenoiser([1.0], [[0.5, -1.0]], [0.2], schedule)
        x, t = drawn(exact, 5), schedule.t_max
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        std = math.sqrt(alpha**2 * 0.2 + sigma**2)
        end = alpha * exact.means + std * (x - exact.means) / math.sqrt(0.2)
        start = schedule.prior_std * sigma / schedule.sigma(1.0)
        expected = torch.distributions.Normal(0, start).log_prob(end).sum(1) - exact.log_prob(end, t)
        given = log_likelihood(exact, x, chunk=5).nats - log_likelihood(exact, x, prior=exact.log_prob, chunk=5).nats
        assert (given - expected).abs().max() < 1e-4 and expected.abs().max() < 0.02


# The divergence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("divergence", ["rademacher", "gaussian"])
@pytest.mark.parametrize("shape", [(2,), (2, 4, 4)], ids=str)
@pytest.mark.parametrize("probes", [8, 32])
def test_hutchinson_within_3_standard_errors(divergence, shape, probes):
    exact = mixture(VP, shape)
    x = drawn(exact, 8)
    nats, se = log_likelihood(
        exact, x, prior=exact.log_prob, divergence=divergence, probes=probes, steps=30, chunk=8, seed=1
    )
    z = (nats - log_likelihood(exact, x, prior=exact.log_prob, steps=30, chunk=8).nats) / se
    assert z.abs().max() < (4.5 if probes == 8 else 3)  # of eight, and t with 7 degrees of freedom has long tails
    assert z.mean().abs() < 3 / math.sqrt(8) * 1.2
    assert (nats - exact.log_prob(x)).mean().abs() < 3 * (se**2).mean().sqrt() / math.sqrt(8) + 1e-3 * x[0].numel()


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


def flow_of(denoiser, x, steps):
    """x_t at t_max, of one sample, by the definition of the flow and a midpoint rule with nothing in common."""
    schedule = denoiser.schedule
    low, high = (-schedule.log_snr(t) / 2 for t in (schedule.t_min, schedule.t_max))
    h = (high - low) / steps

    def slope(x, log_s):
        t = min(max(schedule.time(-2 * log_s), schedule.t_min), schedule.t_max)
        return x - denoiser(schedule.alpha(t) * x, t)

    x = x[None] + slope(x[None], low) / 2
    for n in range(steps):
        middle = x + h / 2 * slope(x, low + n * h)
        x = x + h * slope(middle, low + (n + 0.5) * h)
    return (schedule.alpha(schedule.t_max) * x)[0]


NETWORKS = {"mlp": (mlp(), (2,)), "unet": (perturbed(nn.UNet(1, 4, (1, 2), attention=(1,))), (1, 2, 2))}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("schedule", [VP, EDM], ids=["vp", "edm"])
def test_change_of_variables_of_a_network(name, schedule):
    """log p_0(x) = log p(x_1) + log |det dx_1 / dx| of the numerical flow as one function."""
    net, shape = NETWORKS[name]
    net = type(net)(**net.config).double().eval()
    perturbed(net)
    with torch.no_grad():  # tamed, so that the midpoint rule is accurate
        for p in net.parameters():
            p.mul_(0.5)
    denoiser = Denoiser(net, schedule, "v" if schedule is VP else "edm")
    x = torch.randn(shape, generator=generator(), dtype=torch.float64) * 0.5
    end = flow_of(denoiser, x, 300)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow_of(denoiser, x, 300).flatten(), x).reshape(end.numel(), -1)
    prior = torch.distributions.Normal(0.0, schedule.prior_std)
    expected = prior.log_prob(end).sum() + torch.linalg.slogdet(jacobian).logabsdet
    nats = log_likelihood(denoiser, x[None], chunk=1).nats[0]
    assert abs(nats - expected) < 2e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_float32_with_compiled_ops(name):
    net, shape = NETWORKS[name]
    x = torch.randn(5, *shape, generator=generator()) * 0.5
    denoiser = Denoiser(net, EDM, "edm")
    options = {"steps": 20, "chunk": 8}
    exact = log_likelihood(denoiser, x, **options).nats
    double = Denoiser(type(net)(**net.config).double().eval(), EDM, "edm")
    double.net.load_state_dict(net.state_dict())
    wide = log_likelihood(double, x, **options).nats
    assert (exact - wide).abs().max() < 1e-4 * wide.abs().max()
    narrow = log_likelihood(denoiser, x, dtype=torch.float32, **options).nats
    assert narrow.dtype == torch.float64 and (narrow - wide).abs().max() < 1e-3 * wide.abs().max()
    for divergence in ("rademacher", "gaussian"):
        nats, se = log_likelihood(denoiser, x, divergence=divergence, probes=64, **options)
        z = (nats - exact) / se
        assert z.abs().max() < 4 and se.min() > 0


def test_bfloat16_network():
    net = mlp()
    low = type(net)(**net.config).bfloat16().eval()
    low.load_state_dict(net.state_dict())
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
        assert bits_per_dim(denoiser, torch.ones(2, 2), steps=3).bits.isfinite().all()
    assert all(p.grad is None for p in denoiser.net.parameters())


def test_no_samples():
    nats, se = log_likelihood(Denoiser(mlp(), VP, "v"), torch.empty(0, 2))
    assert nats.shape == se.shape == (0,)


# Bits per dimension ---------------------------------------------------------------------------------------------------


def uniform_model(half_width):
    """The exact denoiser of the uniform density on [-half_width, half_width]^d, with EDM's schedule."""

    def denoise(x, t):
        s = 80 * t.view(-1, 1)
        right, left = (half_width - x) / s, (-half_width - x) / s
        density = torch.special.ndtr(right) - torch.special.ndtr(left)
        slope = (torch.exp(-(left**2) / 2) - torch.exp(-(right**2) / 2)) / math.sqrt(2 * math.pi)
        return x + s * slope / density

    class Exact(type(mixture(EDM, (2,)).parameterisation)):
        pass

    return Denoiser(denoise, EDM, Exact())


def test_uniform_model_is_8_bits_in_either_scale():
    """The bins of integers tile [-1, 1]; those around the points k / 127.5 - 1 tile a little more."""
    k = torch.tensor([[0 + 20, 40, 90], [128, 201, 230], [127, 100, 60]])
    integers = bits_per_dim(uniform_model(1.0), k, chunk=3)
    points = bits_per_dim(uniform_model(256 / 255), k / 127.5 - 1, chunk=3)
    for bits in (integers.bits, points.bits):
        assert (bits - 8).abs().max() < 1e-3
    # One taken for the other is off by log2(256 / 255) = 0.0056.
    assert (bits_per_dim(uniform_model(1.0), k / 127.5 - 1, chunk=3).bits - 8).abs().min() > 5e-3


@pytest.mark.parametrize("scaled", [False, True])
def test_bits_against_the_integral_over_the_bin(scaled):
    """-E_u log2 p over the bin of each value by quadrature, and a bound on -log2 of the bin's mass."""
    levels, draws = 5, 24
    exact = GaussianMixtureDenoiser([0.4, 0.6], [[-0.6], [0.4]], [0.1, 0.05], VP)
    k = torch.arange(levels)[:, None]
    width = 2 / (levels - 1) if scaled else 2 / levels
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    left = 2 * k / (levels - 1) - 1 - width / 2 if scaled else k * width - 1
    log_p = exact.log_prob((left + width * u).view(-1, 1)).view(levels, -1) / math.log(2)
    x = 2 * k / (levels - 1) - 1 if scaled else k
    bits, se = bits_per_dim(exact, x, levels=levels, draws=draws, prior=exact.log_prob, steps=60, chunk=levels)
    expected = -log_p.mean(1) - math.log2(width)
    assert ((bits - expected) / se).abs().max() < 3.5 and se.max() < 0.3
    assert (expected + torch.log2(torch.exp2(log_p).mean(1) * width) > 0).all()
    one = bits_per_dim(exact, x, levels=levels, prior=exact.log_prob, steps=60, chunk=levels)
    assert one.se.isnan().all() and (one.bits - expected).abs().max() < 3


def test_draws_have_their_own_noise_and_probes():
    denoiser = Denoiser(row_wise, VP, "v")
    k = torch.tensor([[0, 128, 255], [3, 4, 5]])
    run = functools.partial(bits_per_dim, denoiser, steps=4, chunk=2, divergence="gaussian")
    two, one = run(k, draws=2), run(k)
    second = 2 * two.bits - one.bits
    key = ops.make_key(0, 2)
    x = 2 * (k + ops.uniform(key, (3,), ops.Purpose.DEQUANTISE, 1, dtype=torch.float64)) / 256 - 1
    nats = log_likelihood(denoiser, x, steps=4, chunk=2, divergence="gaussian", first_probe=1).nats
    assert torch.allclose(second, 7 - nats / (3 * math.log(2)), rtol=1e-9)
    assert torch.allclose(two.se, (second - one.bits).abs() / 2, rtol=1e-6)
    assert torch.equal(run(k[1:], index=[1], draws=2).bits, two.bits[1:])


# A diffusion model ----------------------------------------------------------------------------------------------------


def test_diffusion_model():
    net = torch.nn.Sequential()
    net = mlp(classes=2)
    model = Diffusion(net, "vp_cosine", shape=(2,)).train()
    model.net.eval()
    x = torch.randn(5, 2, generator=generator())
    label = torch.tensor([0, 1, 1, 0, 2])
    options = {"steps": 5, "progress": False}
    nats, se = model.log_likelihood(x, label=label, **options)
    assert model.training and not model.net.training
    assert torch.equal(nats, log_likelihood(model.denoiser, x, steps=5, condition={"label": label}).nats)
    unconditional = log_likelihood(model.denoiser, x, steps=5, condition={"label": torch.full((5,), 2)}).nats
    assert torch.equal(model.log_likelihood(x, **options).nats, unconditional)
    k = torch.tensor([[0, 255], [7, 100]])
    bits, se = model.bits_per_dim(k, label=1, draws=2, **options)
    condition = {"label": torch.ones(2, dtype=torch.int64)}
    assert torch.equal(bits, bits_per_dim(model.denoiser, k, draws=2, steps=5, condition=condition).bits)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 2\)"):
        model.log_likelihood(torch.zeros(3, 4))
    with pytest.raises(TypeError, match="x must be a tensor"):
        model.bits_per_dim([[1, 2]])
    assert model.training


def test_diffusion_model_is_in_eval_mode_during_the_call():
    class Drop(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.drop = torch.nn.Linear(2, 2), torch.nn.Dropout(0.5)

        def forward(self, y, t):
            return self.drop(self.linear(y))

    model = Diffusion(Drop(), "flow").train()
    first, second = (model.log_likelihood(torch.ones(2, 2), steps=3, progress=False).nats for _ in range(2))
    assert torch.equal(first, second) and model.net.drop.training


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, match, change",
    [
        (TypeError, "denoiser must be a Denoiser", {"denoiser": 3}),
        (TypeError, "x must be a floating-point tensor", {"x": torch.zeros(2, 2).long()}),
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
        (ValueError, "dtype, of the state", {"dtype": torch.bfloat16}),
        (ValueError, "prior must answer with shape", {"prior": lambda x, t: x}),
    ],
)  # fmt: skip
def test_bad_arguments(error, match, change):
    arguments = {"denoiser": Denoiser(row_wise, VP, "v"), "x": torch.zeros(2, 2), "steps": 2} | change
    with pytest.raises(error, match=match):
        log_likelihood(**arguments)


@pytest.mark.parametrize("divergence", likelihood.DIVERGENCES)
@pytest.mark.parametrize(
    "net", [lambda y, t: torch.zeros_like(y), lambda y, t: y.detach(), lambda y, t: torch.ones_like(y, requires_grad=True)]
)
def test_network_without_gradient(net, divergence):
    with pytest.raises(ValueError, match="net must be differentiable in its input"):
        log_likelihood(Denoiser(net, VP, "v"), torch.zeros(2, 2), divergence=divergence)


def test_network_of_the_wrong_shape_and_not_finite():
    with pytest.raises(ValueError, match="net must answer with the shape"):
        log_likelihood(Denoiser(lambda y, t: y[:, :1], VP, "v"), torch.zeros(2, 2))
    with pytest.raises(FloatingPointError, match=r"samples \[4\] are not finite"):
        bad = Denoiser(lambda y, t: y / (y[:, :1] > -50), VP, "v")
        log_likelihood(bad, torch.tensor([[0.0, 0], [-1e3, 0]]), index=[2, 4])


@pytest.mark.parametrize(
    "error, match, change",
    [
        (TypeError, "x must be a tensor", {"x": [[1, 2]]}),
        (ValueError, r"x must have shape \(N, \*\)", {"x": torch.tensor([1, 2])}),
        (ValueError, "integers from 0 to levels - 1; got levels = 256 and values from 3 to 256", {"x": torch.tensor([[3, 256]])}),
        (ValueError, "integers from 0", {"x": torch.tensor([[-1, 2]])}),
        (ValueError, "equal distances; got levels = 256", {"x": torch.tensor([[0.125, -1.0]])}),
        (ValueError, "equal distances", {"x": torch.tensor([[3.0, 1.0]])}),
        (ValueError, "equal distances", {"x": torch.tensor([[math.nan, 1.0]])}),
        (ValueError, "levels must be an integer of at least 2", {"levels": 1}),
        (ValueError, "draws must be an integer of at least 1", {"draws": 0}),
        (ValueError, "index must have shape", {"index": [1]}),
    ],
)  # fmt: skip
def test_bad_arguments_of_bits(error, match, change):
    arguments = {"denoiser": Denoiser(row_wise, VP, "v"), "x": torch.tensor([[0, 1], [2, 3]]), "steps": 1} | change
    with pytest.raises(error, match=match):
        bits_per_dim(**arguments)
