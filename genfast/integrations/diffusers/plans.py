"""Plans of diffusers schedulers: each one is a solver of ours at the scheduler's own noise levels."""

import copy
import dataclasses

from torch import nn

from ...common.checks import require_integer
from ...common.state import unwrapped
from ...diffusion import solvers
from ...diffusion.process.denoisers import Denoiser
from ...nn import UNet
from .tables import kind_of, read


def from_scheduler(scheduler, steps=None, *, begin=0, **options):
    """(schedule, plan): a diffusers scheduler as a Schedule and a Plan of ours, in the scheduler's own variables.

    scheduler: one of those in `tables.VARIABLES`, which is left as it is.  steps: of `set_timesteps`; by default those
    that have been set.  begin: the network call to begin at, as image-to-image pipelines do.  options: what the
    scheduler takes at each step instead of in its config: eta of DDIM, order of LMS.
    Raises TypeError for another scheduler or option, ValueError for a setting that has no affine update.
    """
    grid, plan = build(_set(scheduler, steps), require_integer("begin", begin, 0), options)
    return grid.schedule, plan


def denoiser(scheduler, net, steps=None):
    """The Denoiser of a network as diffusers calls it, net(scaled input, timestep); its answer may be in `.sample`.

        sample(denoiser(scheduler, net), shape, from_scheduler(scheduler)[1], n)

    goes through the same states as the loop of a pipeline that starts from the same noise.
    """
    if not callable(net):
        raise TypeError(f"net must be callable; got {type(net).__name__}")
    grid = read(_set(scheduler, steps))
    return Denoiser(_Called(net), grid.schedule, grid.parameterization)


class _Called(nn.Module):
    """A network whose answer may be in `.sample`; a Module, so that its mode and dtype are seen. A `from_unet2d`, which
    counts steps by itself, is told the timestep in its own unit."""

    def __init__(self, net):
        super().__init__()
        self.net, inner = net, unwrapped(net)
        self.unit = (inner.style.timesteps or {}).get("scale", 1.0) if isinstance(inner, UNet) else 1.0
        self.prepares = getattr(net, "prepares", False)

    def prepare(self, timestep, label=None):
        return self.net.prepare(timestep / self.unit, label)

    def forward(self, y, timestep, **condition):
        answer = self.net(y, timestep / self.unit, **condition)
        return getattr(answer, "sample", answer)


def _set(scheduler, steps):
    kind_of(scheduler)
    if steps is not None:
        scheduler, steps = copy.deepcopy(scheduler), require_integer("steps", steps, 1)
        scheduler.set_timesteps(steps)
    if scheduler.num_inference_steps is None:
        raise ValueError("steps must be given for a scheduler whose set_timesteps has not been called")
    return scheduler


def build(scheduler, begin, options):
    """(Grid, Plan) of a scheduler with timesteps set, from network call `begin` on."""
    kind = kind_of(scheduler)
    known = _OPTIONS.get(kind, {})
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"{kind} has no option {', '.join(unknown)}; it takes {', '.join(known) or 'none'}")
    name, arguments = _SOLVERS[kind](scheduler, **{**known, **options})
    grid = read(scheduler, begin)
    plan = solvers.SOLVERS[name](grid.schedule, grid.times, **arguments)
    if begin == 0:  # as pipelines begin, whatever the first timestep
        plan = dataclasses.replace(plan, prior_std=float(getattr(scheduler, "init_noise_sigma", 1.0)))
    return grid, plan


def _only(config, name, *allowed):
    """config[name], which must be one of those that have a plan."""
    value = config.get(name, allowed[0])
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))} to be made a plan; got {value!r}")
    return value


# What each scheduler is: the name of one of our solvers, and its options.


def _ddpm(scheduler):
    # "_log" is about how a learned variance is meant; a fixed one is the same number.
    kind = _only(scheduler.config, "variance_type", "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")
    return "ddpm", {"variance": kind.split("_")[1]}


def _ddim(scheduler, eta):
    return "ddim", {"eta": eta}


def _euler(scheduler):
    return ("lcm" if scheduler.config.get("stochastic_sampling") else "euler"), {}


def _ancestral(scheduler):
    return "euler_ancestral", {}


def _heun(scheduler):
    return "heun", {}


def _lms(scheduler, order):
    return "lms", {"order": order}


def _lower_order_final(scheduler):
    """Whether the last steps are of lower order: the number of all steps counts, not of those from `begin`."""
    return bool(scheduler.config.lower_order_final) and len(scheduler.timesteps) < 15


def _dpm_multistep(scheduler):
    config = scheduler.config
    algorithm = _only(config, "algorithm_type", "dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver")
    order = _only(config, "solver_order", 1, 2, 3)
    arguments = {"solver_type": config.solver_type, "lower_order_final": _lower_order_final(scheduler)}
    if config.get("euler_at_final") and order > 1 and float(scheduler.sigmas[-1]) > 0:
        _only(config, "euler_at_final", False)
    sde = "_sde" if algorithm.startswith("sde") else ""
    if order == 3:
        arguments["curvature"] = 0.5  # the solver authors' own code halves the quadratic term
    if algorithm.endswith("++"):
        if order == 1:
            return ("euler_ancestral" if sde else "dpmpp_1s"), {}
        return f"dpmpp_{order}m{sde}", arguments
    if sde:
        return "dpm_solver_2m_sde", {**arguments, "order": _only(config, "solver_order", 1, 2)}
    return ("dpm_solver_1s", {}) if order == 1 else (f"dpm_solver_{order}m", arguments)


def _dpm_singlestep(scheduler):
    config = scheduler.config
    order = _only(config, "solver_order", 1, 2, 3)
    algorithm = _only(config, "algorithm_type", "dpmsolver++", "dpmsolver")
    name = f"{'dpmpp' if algorithm.endswith('++') else 'dpm_solver'}_{order}s"
    if order == 1:
        return name, {}
    lower = bool(config.lower_order_final)
    return name, {"solver_type": config.solver_type, "stages": "grid", "lower_order_final": lower}


def _unipc(scheduler):
    config = scheduler.config
    _only(config, "predict_x0", True)
    _only(config, "solver_p", None)
    _only(config, "disable_corrector", [])
    lower = bool(config.lower_order_final)
    return "unipc", {"order": config.solver_order, "variant": config.solver_type, "lower_order_final": lower}


def _deis(scheduler):
    return "deis", {"order": scheduler.config.solver_order, "lower_order_final": _lower_order_final(scheduler)}


_OPTIONS = {"DDIMScheduler": {"eta": 0.0}, "LMSDiscreteScheduler": {"order": 4}}
_SOLVERS = {
    "DDPMScheduler": _ddpm,
    "DDIMScheduler": _ddim,
    "EulerDiscreteScheduler": _euler,
    "EulerAncestralDiscreteScheduler": _ancestral,
    "HeunDiscreteScheduler": _heun,
    "LMSDiscreteScheduler": _lms,
    "DPMSolverMultistepScheduler": _dpm_multistep,
    "DPMSolverSinglestepScheduler": _dpm_singlestep,
    "UniPCMultistepScheduler": _unipc,
    "DEISMultistepScheduler": _deis,
    "EDMEulerScheduler": _euler,
    "EDMDPMSolverMultistepScheduler": _dpm_multistep,
    "FlowMatchEulerDiscreteScheduler": _euler,
    "FlowMatchHeunDiscreteScheduler": _heun,
}
