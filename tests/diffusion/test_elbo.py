"""The bound of diffusion models: its exact value on a Gaussian, below log p, tight on a mixture, the same noise for all
conditions."""

import math

import pytest
import torch
from helpers import normal, perturbed

import genfast as gf
from genfast.diffusion.elbo import elbo
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.process.schedules import EDM, VE, Flow, SubVP, VPCosine, VPLinear
from genfast.ops import make_key

SCHEDULES = pytest.mark.parametrize(
    "schedule", [EDM(), VE(), Flow(), VPLinear(), VPCosine(), SubVP()], ids=lambda s: type(s).__name__
)


class ExactNet(torch.nn.Module):
    """F of the exact D of N(mean, c I) in any parameterization, plus `shift` s in every number of D."""

    def __init__(self, parameterization, schedule, c, mean=0.0, shift=0.0):
        super().__init__()
        self.parameterization, self.schedule = gf.denoisers.as_parameterization(parameterization), schedule
        self.c, self.mean, self.shift = c, mean, shift

    def forward(self, y, c_noise, label=None):
        # c_noise is t, but of EDM's parameterization log(s) / 4
        edm = isinstance(self.parameterization, gf.denoisers.EDM)
        t = self.schedule.time(-8 * c_noise) if edm else c_noise
        k = self.parameterization.coefficients(self.schedule, t)
        rows = [v.view(-1, *[1] * (y.ndim - 1)) for v in (*k[:4], self.schedule.alpha(t), self.schedule.sigma(t))]
        c_in, _, c_skip, c_out, alpha, sigma = rows
        x_t, s = y / c_in, sigma / alpha
        mean = self.mean if label is None else label.view(-1, *[1] * (y.ndim - 1)) / 5
        D = mean + self.c / (self.c + s**2) * (x_t / alpha - mean) + self.shift * s
        return (D - c_skip * x_t) / c_out


def exact(x, schedule, c, mean=0.0):
    """The bound in closed form for the exact D of N(mean, c I): log p(x) less what the prior loses at t_max, E log
    p_t(x_t) / N(x_t; 0, V), and what the decoder of variance s_min^2 loses to the posterior's, c s^2 / (c + s^2)."""
    d, far, square = x.shape[1], (x - mean).square().sum(1), x.square().sum(1)

    def log_normal(squares, variance):
        return -(squares / variance + d * math.log(2 * math.pi * variance)) / 2

    alpha, sigma = schedule.alpha(schedule.t_max), schedule.sigma(schedule.t_max)
    V = (schedule.prior_std * sigma / schedule.sigma(1.0)) ** 2
    at_end = log_normal(alpha**2 * far + sigma**2 * d, alpha**2 * c + sigma**2)
    at_end -= log_normal(alpha**2 * square + sigma**2 * d, V)
    v = (schedule.sigma(schedule.t_min) / schedule.alpha(schedule.t_min)) ** 2
    missed = v * (c**2 * d + v * far) / (c + v) ** 2  # E|x - D|^2 at t_min
    at_start = log_normal(missed, c * v / (c + v)) - log_normal(missed, v)
    return log_normal(far, c) - at_end - at_start


# Known answers --------------------------------------------------------------------------------------------------------


@SCHEDULES
@pytest.mark.parametrize("parameterization", ["x0", "eps", "v", "flow", "edm"])
def test_of_the_reference_gaussian_nothing_is_left_to_chance(schedule, parameterization):
    """c = sigma_data^2 and mean 0: e = e_0, so one time is as good as many, and the bound is its closed form."""
    parameterization = gf.denoisers.PARAMETERIZATIONS[parameterization](sigma_data=0.6)
    denoiser = Denoiser(ExactNet(parameterization, schedule, 0.36), schedule, parameterization)
    x = 0.6 * normal(20, 3)
    found = elbo(denoiser, x, make_key(0, 20), samples=1)
    assert found.dtype == torch.float64 and (found - exact(x, schedule, 0.36)).abs().max() < 1e-6


@SCHEDULES
@pytest.mark.parametrize("parameterization", ["v", "edm", "x0"])
def test_of_another_gaussian_it_is_unbiased(schedule, parameterization):
    """N(0.7, 0.25 I) against the reference N(0, sigma_data^2 I): the mean over 2000 keys, each with 16 times."""
    denoiser = Denoiser(ExactNet(parameterization, schedule, 0.25, 0.7), schedule, parameterization)
    x = 0.7 + 0.5 * normal(4, 3)
    draws = elbo(denoiser, x.repeat(2000, 1), make_key(0, 8000), samples=16, chunk=8000).view(2000, 4)
    error, se = draws.mean(0) - exact(x, schedule, 0.25, 0.7), draws.std(0) / 2000**0.5
    assert se.max() < 0.07 and (error.abs() < 4.5 * se).all()


@SCHEDULES
def test_it_bounds_log_p_and_is_tight_for_an_exact_denoiser(schedule):
    weights, means = torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0, 0.5], [1.0, -0.5]]).double()
    mixture = gf.GaussianMixture.from_parameters(weights, means, torch.tensor([0.2, 0.4]).double())
    x = mixture.sample(4000, seed=1)
    bound = elbo(mixture.denoiser(schedule), x, make_key(0, 4000), samples=16, chunk=4000)
    gap = mixture.log_prob(x) - bound
    se = float(gap.std()) / 4000**0.5
    # The prior at t_max is not exactly p_t: 1e-2 nats at most (see log_likelihood).
    assert se < 0.02 and -3 * se < float(gap.mean()) < 0.01 + 3 * se


def test_what_a_wrong_denoiser_loses():
    """D shifted by b s moves e by b, orthogonal to the exact error: |b|^2 (log s_max - log s_min + 1/2) is lost."""
    schedule, x, key = EDM(), normal(8000, 3), make_key(0, 8000)
    right, wrong = (
        elbo(
            Denoiser(ExactNet("x0", schedule, 1.0, shift=b), schedule, "x0"),
            x,
            key,
            samples=16,
            chunk=8000,
        )
        for b in (0.0, 0.5)
    )
    lost, expected = right - wrong, 3 * 0.5**2 * (math.log(80 / 0.002) + 0.5)
    se = float(lost.std()) / 8000**0.5
    assert se < 0.01 * expected and abs(float(lost.mean()) - expected) < 4 * se


def test_more_samples_leave_less_noise():
    denoiser = Denoiser(ExactNet("v", Flow(), 0.25, 0.7), Flow(), "v")
    x, key = torch.full((2000, 2), 0.3).double(), make_key(0, 2000)
    few, many = (float(elbo(denoiser, x, key, samples=n).std()) for n in (4, 64))
    assert many < few / 3.9  # independent times would give 4; an offset shared by all of them, more


# What it is a function of ---------------------------------------------------------------------------------------------


def model(**options):
    torch.manual_seed(0)
    net = perturbed(gf.nn.UNet(channels=1, width=8, multipliers=(1, 2), classes=3))
    return gf.Diffusion(net, shape=(1, 8, 8), **options)


@pytest.mark.parametrize("schedule", ["edm", "flow"])
def test_a_row_is_a_function_of_its_key(schedule):
    diffusion, x = model(schedule=schedule), normal(7, 1, 8, 8).float()
    key, label = make_key(5, 7), torch.tensor([0, 1, 2, 0, 1, 2, -1])
    whole = diffusion.elbo(x, key, label, samples=3)
    assert whole.shape == (7,) and torch.equal(whole, diffusion.elbo(x, key, label, samples=3))
    order = torch.tensor([6, 2, 4])
    part = diffusion.elbo(x[order], key[order], label[order], samples=3, chunk=2)
    assert torch.allclose(whole[order], part, rtol=1e-5)
    assert not torch.isclose(whole, diffusion.elbo(x, make_key(6, 7), label, samples=3)).any()


def test_all_labels_meet_the_same_noise():
    """So what is common to two labels cancels in their difference."""
    schedule = Flow()
    diffusion = gf.Diffusion(ExactNet("v", schedule, 0.25), schedule, "v", classes=3, shape=(2,))
    x, key = torch.full((500, 2), 0.4).double(), make_key(0, 500)
    first, second = (diffusion.elbo(x, key, k, samples=8) for k in (0, 1))
    expected = exact(x[:1], schedule, 0.25, 0.0) - exact(x[:1], schedule, 0.25, 0.2)
    difference, independent = first - second, first - diffusion.elbo(x, make_key(1, 500), 1, samples=8)
    assert abs(float(difference.mean() - expected)) < 4 * float(difference.std()) / 500**0.5
    assert difference.std() < 0.4 * independent.std()


def test_the_model_is_as_it_was_and_no_gradient_is_kept():
    diffusion = model().train()
    found = diffusion.elbo(normal(2, 1, 8, 8).float(), make_key(0, 2), 1, samples=1)
    assert diffusion.training and not found.requires_grad
    assert diffusion.elbo(torch.zeros(0, 1, 8, 8), make_key(0, 0), samples=1).shape == (0,)


# Input ----------------------------------------------------------------------------------------------------------------

X, KEY = torch.zeros(4, 2), make_key(0, 4)
MLP = Denoiser(gf.nn.MLP(2, 4), "flow", "v")


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: elbo(gf.nn.MLP(2, 4), X, KEY), TypeError, "denoiser must be a Denoiser; got MLP"),
        (lambda: elbo(MLP, [1.0], KEY), TypeError, "x must be a tensor or an array; got list"),
        (lambda: elbo(MLP, X / 0, KEY), ValueError, r"x must be finite; rows \[0, 1, 2, 3\] are not"),
        (lambda: elbo(MLP, X, KEY[:3]), ValueError, r"key must have shape \(4, 2\), one row a sample; got \(3, 2\)"),
        (lambda: elbo(MLP, X, 0), TypeError, r"key must be a tensor \(4, 2\), one row a sample; got int"),
        (lambda: elbo(MLP, X, KEY, samples=0), ValueError, "samples must be an integer of at least 1; got 0"),
        (lambda: elbo(MLP, X, KEY, chunk=True), ValueError, "chunk must be an integer of at least 1; got True"),
        (lambda: model().elbo(X, KEY), ValueError, r"x must have shape \(N, 1, 8, 8\); got \(4, 2\)"),
        (lambda: model().elbo(torch.zeros(4, 1, 8, 8), KEY, 4), ValueError, r"label must lie in \[0, 3\), or be -1"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_answer_that_is_not_finite_is_refused():
    broken = Denoiser(lambda y, c_noise: y * torch.tensor([1.0, 1.0, math.nan, 1.0]).view(4, 1), "flow", "v")
    with pytest.raises(FloatingPointError, match=r"of samples \[2\] are not finite"):
        elbo(broken, X, KEY, samples=1)
