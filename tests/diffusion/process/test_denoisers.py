"""Denoisers against the exact Gaussian mixture (ground truth: its density by definition, its score by autograd)."""

import math

import pytest
import torch

from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import PARAMETERIZATIONS, Denoiser, as_parameterization
from genfast.diffusion.process.schedules import SCHEDULES
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
MEANS = torch.tensor([[1.0, 0.5], [-1.0, 0.2], [0.1, -1.2]], dtype=torch.float64)
ROOTS = torch.tensor(
    [[[0.3, 0.1], [0.0, 0.2]], [[0.2, 0.0], [0.3, 0.4]], [[0.5, -0.2], [0.1, 0.1]]], dtype=torch.float64
)
COVARIANCES = {
    "isotropic": torch.tensor([0.04, 0.1, 0.2], dtype=torch.float64),
    "diagonal": torch.tensor([[0.04, 0.1], [0.2, 0.3], [0.1, 0.05]], dtype=torch.float64),
    "full": ROOTS @ ROOTS.mT,
}
KINDS = pytest.mark.parametrize("kind", COVARIANCES)
ALL_SCHEDULES = pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=list(SCHEDULES))


def mixture(schedule=None, kind="full"):
    return GaussianMixtureDenoiser(WEIGHTS, MEANS, COVARIANCES[kind], schedule or schedules.VPLinear())


def states(schedule, t, count=32):
    """Plausible x_t: (count, 2)."""
    generator = torch.Generator().manual_seed(0)
    x0 = mixture(schedule).sample(count, generator)
    return schedule.alpha(t) * x0 + schedule.sigma(t) * torch.randn(count, 2, dtype=torch.float64, generator=generator)


def as_matrices(kind):
    covariances = COVARIANCES[kind]
    if kind == "full":
        return covariances
    return torch.diag_embed(covariances.view(3, -1).expand(3, 2))


@KINDS
@pytest.mark.parametrize("t", [0.0, 0.1, 0.7])
def test_density_is_the_mixture_of_diffused_components(kind, t):
    schedule = schedules.SubVP()
    alpha, sigma, x = schedule.alpha(t), schedule.sigma(t), states(schedule, t)
    components = torch.distributions.MultivariateNormal(
        alpha * MEANS, alpha**2 * as_matrices(kind) + sigma**2 * torch.eye(2, dtype=torch.float64)
    )
    expected = torch.logsumexp(components.log_prob(x.unsqueeze(1)) + WEIGHTS.log(), 1)
    assert torch.allclose(mixture(schedule, kind).log_prob(x, t), expected, rtol=1e-12, atol=1e-12)


@KINDS
@ALL_SCHEDULES
def test_score_is_the_gradient_of_the_density(schedule, kind):
    exact = mixture(schedule, kind)
    for t in (0.01, 0.5, 1.0):
        x = states(schedule, t).requires_grad_()
        (gradient,) = torch.autograd.grad(exact.log_prob(x, t).sum(), x)
        score = exact.score(x, t)
        assert (score - gradient).abs().max() <= 1e-12 * gradient.abs().max()


@KINDS
@ALL_SCHEDULES
def test_tweedie(schedule, kind):
    """D = (x + sigma^2 score) / alpha, with D and the score computed apart; and eps = -sigma score."""
    exact = mixture(schedule, kind)
    for t in (0.01, 0.3, 0.9):
        alpha, sigma, x = schedule.alpha(t), schedule.sigma(t), states(schedule, t)
        score = exact.score(x, t)
        scale = max(1.0, x.abs().max().item())
        assert (alpha * exact(x, t) - x - sigma**2 * score).abs().max() < 1e-12 * scale
        assert (exact.eps(x, t) + sigma * score).abs().max() < 1e-12 * scale / sigma


def test_posterior_mean_by_quadrature():
    schedule, t = schedules.Flow(), 0.6
    exact = GaussianMixtureDenoiser([0.3, 0.7], [[-1.0], [0.5]], [0.04, 0.25], schedule)
    x0 = torch.linspace(-8, 8, 20001, dtype=torch.float64).unsqueeze(1)
    x_t = torch.tensor([[0.4]], dtype=torch.float64)
    log_joint = exact.log_prob(x0) - ((x_t - schedule.alpha(t) * x0) ** 2 / (2 * schedule.sigma(t) ** 2)).squeeze(1)
    weights = torch.softmax(log_joint, 0)
    assert exact(x_t, t).item() == pytest.approx((weights @ x0).item(), abs=1e-12)


def test_point_set_is_a_softmax_over_the_points():
    schedule, t = schedules.EDM(), 0.01
    exact = GaussianMixtureDenoiser(torch.ones(3), MEANS, torch.zeros(3), schedule)
    x = states(schedule, t)
    distance = torch.cdist(x, MEANS) ** 2
    expected = torch.softmax(-distance / (2 * schedule.sigma(t) ** 2), 1) @ MEANS
    assert torch.allclose(exact(x, t), expected, rtol=1e-12, atol=1e-12)
    near = MEANS + 1e-3
    assert torch.equal(exact(near, schedule.t_min), MEANS)


def test_samples_have_the_moments_of_the_mixture():
    count = 200_000
    x = mixture().sample(count, torch.Generator().manual_seed(1))
    mean = WEIGHTS @ MEANS
    second = torch.einsum("k,kij->ij", WEIGHTS, COVARIANCES["full"]) + torch.einsum(
        "k,ki,kj->ij", WEIGHTS, MEANS, MEANS
    )
    covariance = second - torch.outer(mean, mean)
    assert ((x.mean(0) - mean) / (covariance.diag() / count).sqrt()).abs().max() < 4
    # Var of a product of two coordinates, from the sample itself.
    deviation = x - mean
    products = deviation.unsqueeze(2) * deviation.unsqueeze(1)
    assert ((products.mean(0) - covariance) / (products.var(0) / count).sqrt()).abs().max() < 4
    assert mixture().sample(0).shape == (0, 2)


def test_images_keep_their_shape():
    exact = GaussianMixtureDenoiser([1.0, 1.0], torch.randn(2, 3, 4, 4), [0.1, 0.2], "flow")
    x = torch.randn(5, 3, 4, 4)
    assert exact(x, 0.5).shape == exact.score(x, 0.5).shape == x.shape
    assert exact(x, 0.5).dtype == torch.float32
    assert exact.sample(7).shape == (7, 3, 4, 4)
    # A time per row is each row at its own time.
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    rows = torch.cat([exact(x[i : i + 1], t[i].item()) for i in range(5)])
    assert torch.allclose(exact(x, t), rows, rtol=1e-6)


@ALL_SCHEDULES
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_every_parameterization_recovers_the_exact_denoiser(schedule, name):
    """A perfect network answers E[F* | x_t] = p D + q E[eps | x_t], and sees c_in x_t and c_noise."""
    exact = mixture(schedule)
    parameterization = as_parameterization(name)
    for t in (0.01, 0.4, 0.99):
        x, c = states(schedule, t), parameterization.coefficients(schedule, t)

        def net(y, c_noise, x=x, c=c, t=t):
            assert torch.allclose(y, c.c_in * x) and torch.equal(c_noise, c.c_noise.expand(len(x)))
            return c.p * exact(x, t) + c.q * exact.eps(x, t)

        denoiser = Denoiser(net, schedule, name)
        scale = max(1.0, (schedule.sigma(t) / schedule.alpha(t)))
        assert (denoiser(x, t) - exact(x, t)).abs().max() < 1e-12 * scale
        assert torch.allclose(denoiser.score(x, t), exact.score(x, t), rtol=1e-8, atol=1e-9 / schedule.sigma(t) ** 2)


@ALL_SCHEDULES
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_targets_say_what_their_names_say(schedule, name):
    t = torch.linspace(0.01, 0.99, 30, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    n = torch.sqrt(0.25 * alpha**2 + sigma**2)
    expected = {
        "eps": (zero, one),
        "x0": (one, zero),
        "v": (-sigma, alpha),
        "score": (zero, -1 / sigma),
        "flow": (schedule.d_alpha(t), schedule.d_sigma(t)),
        "edm": (2 * sigma / n, -0.5 * alpha / n),
    }[name]
    c = as_parameterization(name).coefficients(schedule, t)
    assert torch.allclose(c.p, expected[0]) and torch.allclose(c.q, expected[1])
    assert torch.equal(c.weight, sigma**2 if name == "score" else one)
    if name == "edm":
        assert torch.allclose(c.c_in * n, one) and torch.allclose(c.c_noise, torch.log(sigma / alpha) / 4)
    else:
        assert torch.equal(c.c_noise, t)
        assert torch.allclose(c.c_in, 1 / torch.sqrt(torch.clamp(alpha**2 + sigma**2, min=1)))


def test_edm_is_the_table_of_its_paper():
    """Karras et al. 2022, table 1, on their own schedule: as printed; and F* of unit variance."""
    schedule, data = schedules.EDM(), 0.5
    t = torch.linspace(0.001, 1, 50, dtype=torch.float64)
    sigma = schedule.sigma(t)
    c = as_parameterization("edm").coefficients(schedule, t)
    assert torch.allclose(c.c_skip, data**2 / (sigma**2 + data**2))
    assert torch.allclose(c.c_out, sigma * data / torch.sqrt(sigma**2 + data**2))
    assert torch.allclose(c.c_in, 1 / torch.sqrt(sigma**2 + data**2))
    assert torch.allclose(c.c_noise, torch.log(sigma) / 4)
    assert torch.allclose((c.p * data) ** 2 + c.q**2, torch.ones_like(t))


@ALL_SCHEDULES
def test_no_noise_leaves_x_as_it_is(schedule):
    x = torch.randn(3, 2)
    for name in ("eps", "x0", "v"):
        assert torch.equal(Denoiser(lambda y, t: torch.ones_like(y), schedule, name)(x, 0.0), x)


def test_singular_ends_are_named():
    flow = schedules.Flow()
    for name in ("eps", "score", "edm"):
        with pytest.raises(
            ValueError, match=rf"(?i){name} parameterization is singular at t = 1 of Flow, where alpha = 0"
        ):
            as_parameterization(name).coefficients(flow, torch.tensor([0.5, 1.0]))
    for name in ("x0", "v", "flow"):
        as_parameterization(name).coefficients(flow, 1.0)
    with pytest.raises(ValueError, match="Score parameterization is singular at t = 0"):
        as_parameterization("score").coefficients(schedules.VPLinear(), 0.0)


def test_low_precision_only_at_the_network():
    seen = []

    def net(y, c_noise, label):
        seen.append((y.dtype, c_noise.dtype, label))
        return y

    out = Denoiser(net, "vp_linear", "v")(torch.randn(4, 2, dtype=torch.bfloat16), 0.5, label=3)
    assert seen == [(torch.bfloat16, torch.float32, 3)] and out.dtype == torch.float32


def test_bad_input_is_refused():
    denoiser = mixture()
    x = torch.zeros(4, 2)
    for t in (torch.zeros(3), torch.zeros(4, 1)):
        with pytest.raises(ValueError, match=r"t must be a number or have shape \(4,\)"):
            denoiser(x, t)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        denoiser(x, 1.5)
    with pytest.raises(TypeError, match="x_t must be a floating-point tensor"):
        denoiser(x.long(), 0.5)
    with pytest.raises(ValueError, match=r"x_t must have shape \(B, 2\); got \(4, 3\)"):
        denoiser(torch.zeros(4, 3), 0.5)
    with pytest.raises(ValueError, match="t must be positive"):
        denoiser.eps(x, 0.0)
    with pytest.raises(ValueError, match="singular covariance has no density at t = 0"):
        GaussianMixtureDenoiser([1.0], [[0.0]], [0.0], "flow").log_prob(torch.zeros(1, 1), 0.0)
    with pytest.raises(ValueError, match=r"shape of its input, \(4, 2\); got \(4, 1\)"):
        Denoiser(lambda y, t: y[:, :1], "flow", "v")(x, 0.5)
    with pytest.raises(TypeError, match="net must be callable"):
        Denoiser(None, "flow", "v")
    with pytest.raises(ValueError, match="one of eps, x0, v, score, flow, edm; got 'epsilon'"):
        Denoiser(torch.nn.Identity(), "flow", "epsilon")
    with pytest.raises(TypeError, match="a Parameterization or a name"):
        Denoiser(torch.nn.Identity(), "flow", 3)
    for value in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma_data must be a finite number above 0"):
            PARAMETERIZATIONS["edm"](value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([-1.0, 2.0], MEANS[:2], [1.0, 1.0]), "weights must be"),
        (([1.0, 2.0], MEANS, [1.0, 1.0]), r"means must be finite and of shape \(2, \*\)"),
        (([1.0], [[math.nan]], [1.0]), "means must be finite"),
        (([1.0, 2.0], MEANS[:2], [1.0]), "covariances must have one of the shapes"),
        (([1.0], [[0.0]], [-1.0]), "positive semi-definite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "positive semi-definite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "symmetric"),
    ],
)
def test_bad_mixtures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixtureDenoiser(*arguments, "flow")


def test_bad_sample_counts_are_refused():
    for n in (-1, 2.5, True):
        with pytest.raises(ValueError, match="n must be an integer of at least 0"):
            mixture().sample(n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@ALL_SCHEDULES
def test_score_and_noise_at_tiny_times_are_finite_or_refused(schedule, dtype):
    """sigma^2 is 0 in float32 long before sigma is."""
    denoiser = Denoiser(lambda y, c_noise: torch.tanh(y + c_noise[:, None]), schedule, "x0")
    for t in (10.0**-k for k in range(2, 320, 3)):
        for answer in (denoiser.score, denoiser.eps):
            try:
                assert answer(torch.ones(2, 3, dtype=dtype), t).isfinite().all(), (answer, t)
            except ValueError as error:
                assert str(error).startswith("t must be")
    if isinstance(schedule, schedules.EDM | schedules.Flow) and dtype != torch.float64:
        with pytest.raises(ValueError, match=r"t must be larger: torch.float32 can divide by sigma from 5.97e-15 on"):
            denoiser.score(torch.ones(2, 3, dtype=dtype), 1e-25)
