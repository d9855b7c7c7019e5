"""Shared by tests: a Plan executed by its equations, a mixture of five modes, and networks that do not answer zero."""

import functools

import numpy as np
import torch

from genfast import ops
from genfast.diffusion.process.plans import SLOTS
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

# Five modes on a circle.
WEIGHTS = np.array([0.1, 0.15, 0.2, 0.25, 0.3])
MEANS = 1.5 * np.stack([np.cos(np.arange(5) * 0.4 * np.pi), np.sin(np.arange(5) * 0.4 * np.pi)], 1)
VARIANCES = np.array([0.02, 0.04, 0.06, 0.03, 0.05])


def normal(*shape, seed=0, dtype=torch.float64):
    """Normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


normal32 = functools.partial(normal, dtype=torch.float32)


def five_modes(schedule="vp_linear", device="cpu"):
    """The exact denoiser of the five modes."""
    parts = (torch.tensor(part, device=device) for part in (WEIGHTS, MEANS, VARIANCES))
    return GaussianMixtureDenoiser(*parts, schedule)


def mixture(x_t, alpha, sigma):
    """E[x_0 | x_t] of the five modes. x_t: (B, 2)."""
    variances = alpha**2 * VARIANCES + sigma**2
    deviation = x_t[:, None] - alpha * MEANS
    log_joint = np.log(WEIGHTS / variances) - (deviation**2).sum(-1) / (2 * variances)
    posterior = np.exp(log_joint - log_joint.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    return (posterior[..., None] * (MEANS + (alpha * VARIANCES / variances)[:, None] * deviation)).sum(1)


def run(plan, denoise, x_t, noise=None):
    """The equations of a Plan, row by row, in float64. noise(row, draw) answers with an array like x_t."""
    history = np.zeros((SLOTS, *x_t.shape))
    for r in range(len(plan)):
        denoised = denoise(x_t, plan.alpha[r], plan.sigma[r])
        following = plan.a[r] * x_t + plan.b[r] * denoised + np.tensordot(plan.e[r], history, 1)
        for draw in np.flatnonzero(plan.s[r]):
            following = following + plan.s[r, draw] * noise(r, draw)
        kept = (
            np.multiply.outer(plan.p[r], x_t)
            + np.multiply.outer(plan.q[r], denoised)
            + np.tensordot(plan.m[r], history, 1)
        )
        history[plan.writes[r]] = kept[plan.writes[r]]
        x_t = following
    return x_t


def noise_of(plan, key, shape):
    """noise(row, draw) for `run`: the streams that the plan names, for the samples of a key."""

    def noise(row, draw):
        return ops.normal(key, shape, *ops.split_stream(int(plan.stream[row, draw])), dtype=torch.float64).numpy()

    return noise


def row_wise(y, t, label=None):
    """A network whose rows cannot see each other, whatever the batch: elementwise operations."""
    t, shift = t.view(-1, *[1] * (y.ndim - 1)), 0.0
    if label is not None:
        shift = 0.3 * label.view(-1, *[1] * (y.ndim - 1))
    return torch.tanh(y * (1.5 - t)) + 0.1 * y + shift


def lesser(y, t, label):
    """One that knows less, for autoguidance."""
    return 0.5 * row_wise(y, t, label) - 0.2


def perturbed(net, seed=0):
    """The network with weights that are a function of the seed, and none zero: a fresh one answers zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / p.shape[-1] ** 0.5)
    return net.eval()


def without_zeros(net):
    """The network with small random numbers in place of the parameters that start at zero."""
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return net


def conditions(net):
    """Five rows of all that the network can be told, one of them with a value missing."""
    given = {}
    if net.config["classes"]:
        given["label"] = torch.tensor([0, 1, 2, 3, 0]) % (net.config["classes"] + 1)
    if net.config.get("condition"):
        given["condition"] = torch.randn(5, net.config["condition"])
        given["condition"][3, 0] = torch.nan
    return given
