"""Plans of diffusers schedulers: each one is a solver of ours at the scheduler's own noise levels."""

import copy
import dataclasses

import numpy as np

from genfast import solvers
from genfast.denoisers import Denoiser
from genfast.plans import PURPOSES, Plan

from .tables import kind_of, read


def from_scheduler(scheduler, steps=None, *, begin=0, **options):
    """(schedule, plan): a diffusers scheduler as a Schedule and a Plan of ours, in the scheduler's own variables.

    scheduler: one of those in `tables.VARIABLES`, which is left as it is.  steps: of `set_timesteps`; by default those
    that have been set.  begin: the network call to begin at, as image-to-image pipelines do.  options: what the
    scheduler takes at each step instead of in its config: eta of DDIM, order of LMS.
    Raises TypeError for another scheduler or option, ValueError for a setting that has no affine update.
    """
    scheduler = _set(scheduler, steps)
    grid = read(scheduler, begin)
    return grid.schedule, _plan(scheduler, grid, begin, options)


def denoiser(scheduler, net, steps=None):
    """The Denoiser of a network as diffusers calls it, net(scaled input, timestep); its answer may be in `.sample`.

        sample(denoiser(scheduler, net), shape, from_scheduler(scheduler)[1], n)

    goes through the same states as the loop of a pipeline that starts from the same noise.
    """
    if not callable(net):
        raise TypeError(f"net must be callable; got {type(net).__name__}")
    grid = read(_set(scheduler, steps))

    def call(y, timestep, **condition):
        answer = net(y, timestep, **condition)
        return getattr(answer, "sample", answer)

    return Denoiser(call, grid.schedule, grid.parameterisation)


def _set(scheduler, steps):
    kind_of(scheduler)
    if steps is not None:
        scheduler = copy.deepcopy(scheduler)
        scheduler.set_timesteps(steps)
    if scheduler.num_inference_steps is None:
        raise ValueError("steps must be given for a scheduler whose set_timesteps has not been called")
    return scheduler


def _plan(scheduler, grid, begin, options):
    kind, config = kind_of(scheduler), scheduler.config
    known = _OPTIONS.get(kind, {})
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"{kind} has no option {', '.join(unknown)}; it takes {', '.join(known) or 'none'}")
    plan = _SOLVERS[kind](grid.schedule, grid.times, config, **{**known, **options})
    plan = dataclasses.replace(plan, prior_std=float(getattr(scheduler, "init_noise_sigma", 1.0)))
    return _idle(plan) if grid.idle else plan


def _idle(plan):
    """The plan with one more row, in which nothing happens: a scheduler's last step from a noise level to itself."""
    columns = {f.name: getattr(plan, f.name) for f in dataclasses.fields(Plan)}
    for name, value in columns.items():
        if isinstance(value, np.ndarray):
            extra = value[-1:] if name in ("t", "alpha", "sigma") else np.zeros_like(value[-1:])
            columns[name] = np.concatenate([value, extra])
    columns["a"][-1] = 1
    columns["stream"][-1] = [len(plan) << 8 | purpose for purpose in PURPOSES]
    return Plan(**{**columns, "steps": plan.steps + 1})


def _ddpm(schedule, times, config):
    # "_log" says how a learned variance is meant; a fixed one is the same number.
    variance = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large", "fixed_large_log": "large"}
    if config.variance_type not in variance:
        raise ValueError(f"variance_type must be one of {', '.join(variance)}; got {config.variance_type}")
    return solvers.ddpm(schedule, times, variance=variance[config.variance_type])


def _ddim(schedule, times, config, eta):
    return solvers.ddim(schedule, times, eta=eta)


def _euler(schedule, times, config):
    if config.get("stochastic_sampling"):
        raise ValueError("stochastic_sampling=True is not supported")
    return solvers.euler(schedule, times)


def _ancestral(schedule, times, config):
    return solvers.ddpm(schedule, times)


def _heun(schedule, times, config):
    return solvers.heun(schedule, times)


_OPTIONS = {"DDIMScheduler": {"eta": 0.0}, "LMSDiscreteScheduler": {"order": 4}}
_SOLVERS = {
    "DDPMScheduler": _ddpm,
    "DDIMScheduler": _ddim,
    "EulerDiscreteScheduler": _euler,
    "EulerAncestralDiscreteScheduler": _ancestral,
    "HeunDiscreteScheduler": _heun,
    "EDMEulerScheduler": _euler,
    "FlowMatchEulerDiscreteScheduler": _euler,
    "FlowMatchHeunDiscreteScheduler": _heun,
}
