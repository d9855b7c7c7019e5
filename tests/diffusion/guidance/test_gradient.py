"""Guidance by a classifier against the exact one: a mixture guided by its own component posterior is that component."""

import functools

import numpy as np
import pytest
import torch
from helpers import MEANS, VARIANCES, WEIGHTS, five_modes, perturbed

from genfast import nn
from genfast.diffusion import sampling
from genfast.diffusion.guidance.gradient import ClassifierGuidance
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.solvers import plan
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

VP, EDM, FLOW = schedules.VPLinear(), schedules.EDM(), schedules.Flow()
every_schedule = pytest.mark.parametrize("schedule", [VP, EDM, FLOW], ids=["vp", "edm", "flow"])
sample = functools.partial(sampling.sample, progress=False)


def component(k, schedule=VP):
    return GaussianMixtureDenoiser([1.0], MEANS[k : k + 1], VARIANCES[k : k + 1], schedule)


def log_posterior(x_t, t, label, schedule=VP):
    """log p(k | x_t) of the five modes, from their densities."""
    x = x_t.double()
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    variances = alpha**2 * torch.tensor(VARIANCES) + sigma**2
    square = (x[:, None] - alpha[..., None] * torch.tensor(MEANS)).square().sum(-1)
    log_joint = torch.tensor(WEIGHTS).log() - variances.log() - square / (2 * variances)
    return log_joint.log_softmax(1)[torch.arange(len(x)), label]


def guided(schedule=VP, scale=1.0):
    return ClassifierGuidance(five_modes(schedule), functools.partial(log_posterior, schedule=schedule), scale)


def points(n, schedule, t):
    scale = float((schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2) ** 0.5)
    return scale * 1.5 * torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@every_schedule
@pytest.mark.parametrize("t", [0.02, 0.3, 0.7, 0.99])
def test_the_component_posterior_turns_the_mixture_into_the_component(schedule, t):
    x_t = points(20, schedule, t)
    for k in range(5):
        out = guided(schedule)(x_t, t, label=torch.full((20,), k))
        assert torch.allclose(out, component(k, schedule)(x_t, t), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(out, five_modes(schedule)(x_t, t), rtol=0, atol=1e-3)


def test_where_there_is_no_signal_the_time_before_counts():
    x_1 = points(20, FLOW, 1.0)
    out = guided(FLOW)(x_1, 1.0, label=torch.full((20,), 3))
    assert torch.equal(out, guided(FLOW)(x_1, FLOW.t_max, label=torch.full((20,), 3)))
    assert (out - torch.tensor(MEANS[3])).abs().max() < 1e-3  # E[x_0 | y], up to alpha(t_max) of Cov(x_0 | y) x


@every_schedule
def test_samples_are_those_of_the_component(schedule):
    n, k = 500, 4
    one = plan("heun", schedule, 20, "karras" if schedule == EDM else "log_snr")
    arguments = {"shape": (2,), "plan": one, "index": n, "chunk": n, "dtype": torch.float64}
    out = sample(guided(schedule), condition={"label": torch.full((n,), k)}, **arguments)
    assert (out - sample(component(k, schedule), **arguments)).abs().max() < 1e-2 * VARIANCES[k] ** 0.5
    error = (out.mean(0) - torch.tensor(MEANS[k])) / (VARIANCES[k] / n) ** 0.5
    assert error.abs().max() < 5
    covariance = torch.cov(out.T) / VARIANCES[k]
    assert ((covariance - torch.eye(2)).abs() < 5 * (2 / n) ** 0.5).all()


def test_a_label_goes_with_its_sample():
    label = torch.tensor([0, 1, 2, 3, 4, 2, 0])
    one = plan("dpmpp_2m", VP, 12)
    whole = sample(guided(), (2,), one, 7, condition={"label": label}, chunk=4)
    nearest = (whole[:, None] - torch.tensor(MEANS)).square().sum(-1).argmin(1)
    assert torch.equal(nearest, label)
    order = torch.tensor([6, 0, 3])
    assert torch.equal(sample(guided(), (2,), one, order, condition={"label": label[order]}, chunk=4), whole[order])


def test_scale():
    x_t, label = points(20, VP, 0.5), torch.arange(20) % 5
    plain, once, thrice = (guided(scale=scale)(x_t, 0.5, label=label) for scale in (0, 1, 3))
    assert torch.equal(plain, five_modes()(x_t, 0.5))
    assert torch.allclose(thrice - plain, 3 * (once - plain), rtol=1e-12, atol=1e-12)

    def scaled(x_t, t, label, scale):
        return scale * log_posterior(x_t, t, label)

    each = ClassifierGuidance(five_modes(), scaled, conditions=("label", "scale"))
    scale = torch.tensor([0.0, 1.0, 3.0, 3.0]).double().repeat(5)
    out = each(x_t, 0.5, label=label, scale=scale)
    assert torch.allclose(out, plain + scale[:, None] * (once - plain), rtol=1e-12, atol=1e-12)


def test_who_gets_which_argument():
    seen = {}

    def net(y, t, **arguments):
        seen["net"] = set(arguments)
        return y

    def log_prob(x_t, t, **arguments):
        seen["log_prob"] = set(arguments)
        assert t.dtype == torch.float64 and t.shape == (2,)
        return -x_t.square().sum(1)

    x_t, arguments = torch.ones(2, 3), {"label": torch.zeros(2), "text": torch.zeros(2), "size": torch.zeros(2)}
    ClassifierGuidance(Denoiser(net, VP, "v"), log_prob)(x_t, 0.5, **arguments)
    assert seen == {"net": {"text", "size"}, "log_prob": {"label"}}
    ClassifierGuidance(Denoiser(net, VP, "v"), log_prob, conditions=("text",), shared=("label",))(x_t, 0.5, **arguments)
    assert seen == {"net": {"label", "size"}, "log_prob": {"label", "text"}}


def rowwise_log_prob(x_t, t, label):
    return (x_t[:, 0] * label - x_t[:, 1].square() - x_t[:, 2].sin()) * t.to(x_t.dtype)


def test_a_sample_does_not_depend_on_its_batch():
    one = ClassifierGuidance(Denoiser(lambda y, t: torch.tanh(y) * t[:, None], VP, "v"), rowwise_log_prob, 2.0)
    x_t, label, t = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8.0), torch.rand(8)
    whole = one(x_t, t, label=label)
    for i in range(8):
        assert torch.equal(one(x_t[i : i + 1], t[i : i + 1], label=label[i : i + 1])[0], whole[i])
    other = x_t.clone()
    other[1:] = 7.0
    assert torch.equal(one(other, t, label=label)[0], whole[0])


def test_the_guided_denoiser_is_differentiable():
    """Its Jacobian is that of the component; without a gradient asked for, it keeps no graph and no gradients."""
    x_t, label = points(6, VP, 0.4).requires_grad_(), torch.arange(6) % 5
    jacobian = torch.autograd.grad(guided()(x_t, 0.4, label=label)[:, 0].sum(), x_t)[0]
    for i, k in enumerate(label.tolist()):
        expected = torch.autograd.grad(component(k)(x_t[i : i + 1], 0.4)[:, 0].sum(), x_t)[0][i]
        assert torch.allclose(jacobian[i], expected, rtol=1e-8, atol=1e-9)
    with torch.no_grad():
        assert not guided()(x_t, 0.4, label=label).requires_grad
    net = perturbed(nn.MLP(2, width=16, depth=1))
    classifier = torch.nn.Linear(2, 5)

    def log_prob(x_t, t, label):
        return classifier(x_t).log_softmax(1)[torch.arange(len(x_t)), label]

    out = ClassifierGuidance(Denoiser(net, VP, "v"), log_prob)(torch.randn(6, 2), 0.4, label=label)
    with torch.no_grad():
        sampled = ClassifierGuidance(Denoiser(net, VP, "v"), log_prob)(torch.randn(6, 2), 0.4, label=label)
    assert not sampled.requires_grad and out.shape == (6, 2)
    assert all(p.grad is None for p in (*net.parameters(), *classifier.parameters()))


def test_a_network_in_bfloat16():
    net = perturbed(nn.MLP(2, width=16, depth=1)).bfloat16()

    def log_prob(x_t, t, label):
        assert x_t.dtype == torch.float32
        return -x_t.square().sum(1)

    label = torch.zeros(3)
    x_t = torch.randn(3, 2)
    out = ClassifierGuidance(Denoiser(net, VP, "v"), log_prob)(x_t.bfloat16(), 0.5, label=label)
    wide = ClassifierGuidance(Denoiser(net.float(), VP, "v"), log_prob)(x_t.bfloat16().float(), 0.5, label=label)
    assert out.dtype == torch.float32 and torch.allclose(out, wide, rtol=0, atol=0.05 * float(wide.abs().max()))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ClassifierGuidance("net", log_posterior), TypeError, "denoiser must be a Denoiser; got str"),
        (lambda: ClassifierGuidance(five_modes(), 3), TypeError, "log_prob must be callable; got int"),
        (lambda: guided(scale="1"), ValueError, "scale must be a finite number; got '1'"),
        (lambda: guided(scale=np.nan), ValueError, "scale must be a finite number; got nan"),
        (
            lambda: ClassifierGuidance(five_modes(), log_posterior, conditions="label"),
            TypeError,
            "conditions must be a sequence of names",
        ),
        (
            lambda: ClassifierGuidance(five_modes(), log_posterior, shared=(3,)),
            TypeError,
            "shared must be a sequence of names",
        ),
        (lambda: guided()(torch.zeros(2, 2), 0.5), ValueError, "condition must have label, for log_prob; got none"),
        (
            lambda: ClassifierGuidance(five_modes(), lambda x, t: x, conditions=())(torch.zeros(3, 2), 0.5),
            ValueError,
            r"log_prob must answer with shape \(3,\).*got \(3, 2\)",
        ),
        (
            lambda: ClassifierGuidance(five_modes(), lambda x, t: 1.0, conditions=())(torch.zeros(3, 2), 0.5),
            ValueError,
            r"log_prob must answer with shape \(3,\).*got float",
        ),
        (
            lambda: ClassifierGuidance(five_modes(), lambda x, t: t, conditions=())(torch.zeros(3, 2), 0.5),
            ValueError,
            "log_prob must be differentiable in x_t",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
