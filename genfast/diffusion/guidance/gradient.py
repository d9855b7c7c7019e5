"""Guidance: denoisers that wrap a denoiser, D'(x_t, t) = E[x_0 | x_t, y] from D(x_t, t) = E[x_0 | x_t].

Bayes' rule adds scores, and Tweedie's formula, D = (x_t + sigma^2 grad log p(x_t)) / alpha, turns that into

    D' = D + sigma^2 / alpha grad_{x_t} log p(y | x_t).

D' is a Denoiser again, so every solver and the whole sampling loop work on it unchanged. What belongs to each sample, a
label or a measurement, travels through `condition` of `sampling.sample`.
"""

import torch

from ...common.checks import require_callable, require_names, require_number
from ...common.eval_mode import evaluating
from ...ops.dispatch import per_row
from ..process.denoisers import Denoiser, Unscaled, require_denoiser


def take(names, condition, owner):
    """The arguments of these names out of condition, or a ValueError that says whose is missing."""
    missing = [name for name in names if name not in condition]
    if missing:
        raise ValueError(f"condition must have {', '.join(missing)}, for {owner}; got {', '.join(condition) or 'none'}")
    return {name: condition[name] for name in names}


class GuidedDenoiser(Denoiser):
    """Base of the denoisers that wrap a denoiser. A subclass gives

        guided(x, t, gain, denoise, condition) -> D'

    x: (B, *) at least float32, which requires its gradient; t: (B,) float64; gain: sigma^2 / alpha, (B, 1, ..., 1);
    denoise(**cond): D(x, t). Gradients are enabled in it only if D' itself is to be differentiated: what it
    differentiates on the way it computes under torch.enable_grad, and pulls back by `pullback`.

    Where alpha = 0 (Flow at t = 1), x_t tells nothing of x_0 and the gain is infinite; there x_t, which is noise, is
    taken for that of the schedule's t_max.  D' is differentiable in x_t where the wrapped network is twice, so that
    wrappers can be wrapped. Raises TypeError if `denoiser` is no Denoiser.
    """

    def __init__(self, denoiser):
        require_denoiser(denoiser)
        super().__init__(self._denoise, denoiser.schedule, Unscaled(), denoiser.units)
        self.denoiser = denoiser

    def guided(self, x, t, gain, denoise, condition):
        raise NotImplementedError

    def evaluating(self):
        return self.denoiser.evaluating()

    def _denoise(self, x_t, t, **condition):
        schedule, t = self.schedule, t.to(torch.float64)
        t = torch.where(schedule.alpha(t) == 0, schedule.t_max, t)
        gain = schedule.sigma(t) ** 2 / schedule.alpha(t)
        x = x_t.to(torch.promote_types(x_t.dtype, torch.float32))
        wanted = torch.is_grad_enabled() and x_t.requires_grad
        if not wanted:
            x = x.detach().requires_grad_()

        def denoise(**cond):
            return self.denoiser(x.to(x_t.dtype), t, **cond)

        with torch.set_grad_enabled(wanted):
            return self.guided(x, t, per_row(gain.to(x.dtype), x), denoise, condition)


def pullback(output, x, cotangent):
    """J^T cotangent of each sample, with J = d output / d x, (B, *). The graph of `output` is kept."""
    return torch.autograd.grad(output, x, cotangent, retain_graph=True, create_graph=torch.is_grad_enabled())[0]


class ClassifierGuidance(GuidedDenoiser):
    """D' = D + scale sigma^2 / alpha grad_{x_t} log p(y | x_t). Dhariwal & Nichol 2021, arXiv:2105.05233; Song et al.
    2021, arXiv:2011.13456, section 5.

    log_prob(x_t, t, **arguments): log p(y | x_t) of each sample, (B,), from x_t: (B, *), unscaled, and t: (B,) float64;
    a classifier of noisy data, differentiable in x_t and each row of it its own. Its `arguments` are those of the
    condition that `conditions` names; the wrapped denoiser gets all the others, and those in `shared` go to both. For a
    scale of each sample's own, name one in `conditions` and multiply by it in log_prob.

        guided = ClassifierGuidance(denoiser, log_prob, scale=2.0)
        sample(guided, shape, plan, 64, condition={"label": labels})

    scale: 1 is Bayes' rule; more sharpens. Raises TypeError and ValueError naming the argument.
    """

    def __init__(self, denoiser, log_prob, scale=1.0, *, conditions=("label",), shared=()):
        super().__init__(denoiser)
        self.log_prob = require_callable("log_prob", log_prob)
        self.scale = require_number("scale", scale)
        self.conditions, self.shared = require_names("conditions", conditions), require_names("shared", shared)

    def guided(self, x, t, gain, denoise, condition):
        arguments = take((*self.conditions, *self.shared), condition, "log_prob")
        with torch.enable_grad(), evaluating(self.log_prob):
            log_prob = self.log_prob(x, t, **arguments)
        if not isinstance(log_prob, torch.Tensor) or log_prob.shape != x.shape[:1]:
            got = tuple(log_prob.shape) if isinstance(log_prob, torch.Tensor) else type(log_prob).__name__
            raise ValueError(f"log_prob must answer with shape ({len(x)},), one number a sample; got {got}")
        if not log_prob.requires_grad:
            raise ValueError("log_prob must be differentiable in x_t; its answer does not require a gradient")
        score = pullback(log_prob, x, torch.ones_like(log_prob))
        rest = {name: value for name, value in condition.items() if name not in self.conditions}
        return denoise(**rest) + self.scale * gain * score
