"""Plans of diffusers schedulers: each one is a solver of ours at the scheduler's own noise levels."""

import copy
import dataclasses

from torch import nn

from ... import ops
from ...common.checks import require_integer
from ...common.state import unwrapped
from ...diffusion import solvers
from ...diffusion.process.denoisers import Denoiser, Network
from ...nn import UNet
from ...ops.dispatch import per_row
from .tables import DISCRETE, VARIABLES, class_of, kind_of, read, setting


def from_scheduler(scheduler, steps=None, *, begin=0, **options):
    """(schedule, plan): a diffusers scheduler as a Schedule and a Plan of ours, in the scheduler's own variables.

    scheduler: one of those in `tables.VARIABLES`, which is left as it is.  steps: of `set_timesteps`; by default those
    that have been set.  begin: the network call to begin at, as image-to-image pipelines do.  options: what the
    scheduler takes at each step instead of in its config: eta and use_clipped_model_output of DDIM, order of LMS.
    A plan holds no clip_sample and no thresholding: of DDPM, and of DDIM with use_clipped_model_output, `denoiser` has
    them; other schedulers with them are refused, for they take the noise from what is not clipped.
    Raises TypeError for another scheduler or option, ValueError for a setting that has no affine update.
    """
    grid, plan = build(_set(scheduler, steps), require_integer("begin", begin, 0), options)
    kind = kind_of(scheduler)
    clipped = kind == "DDPMScheduler" or (kind == "DDIMScheduler" and options.get("use_clipped_model_output", False))
    name = clipping(scheduler)
    if name and not clipped:
        unless = ", or use_clipped_model_output True," if kind == "DDIMScheduler" else ""
        raise ValueError(f"{name} must be False{unless} to make {kind} a plan; got True")
    return grid.schedule, plan


def denoiser(scheduler, net, steps=None):
    """The Denoiser of a network as diffusers calls it, net(scaled input, timestep); its answer may be in `.sample`.

        sample(denoiser(scheduler, net), shape, from_scheduler(scheduler)[1], n)

    goes through the same states as the loop of a pipeline that starts from the same noise. With clip_sample or
    thresholding (of DDPM and DDIM) its D is clipped so.
    """
    if not callable(net):
        raise TypeError(f"net must be callable; got {type(net).__name__}")
    scheduler = _set(scheduler, steps)
    grid = read(scheduler)
    if not clipping(scheduler):
        return Denoiser(_Called(net), grid.schedule, grid.parameterization)
    if VARIABLES[kind_of(scheduler)] != DISCRETE:
        raise ValueError(f"{clipping(scheduler)} must be False to make {kind_of(scheduler)} a plan; got True")
    as_data = dataclasses.replace(grid.parameterization, prediction="sample")
    return Denoiser(_Clipped(net, grid, scheduler), grid.schedule, as_data)


def clipping(scheduler):
    """The name of the setting by which the estimate of x_0 is clipped, or None."""
    return next((name for name in ("thresholding", "clip_sample") if setting(scheduler, name)), None)


def threshold(D, ratio, limit):
    """Dynamic thresholding with s from 1 to `limit`, or s = limit where that is below 1, as diffusers has it."""
    return D.clamp(-limit, limit) / limit if limit < 1 else ops.dynamic_threshold(D, ratio, limit=limit)


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


class _Clipped:
    """What answers with the D of a scheduler that clips: its network, and what comes after it in float32 at least."""

    def __init__(self, net, grid, scheduler):
        self.net, self.grid, config = Network(_Called(net)), grid, scheduler.config
        self.ratio = config.dynamic_thresholding_ratio if setting(scheduler, "thresholding") else None
        self.bound = config.clip_sample_range if self.ratio is None else config.sample_max_value

    def __call__(self, y, timestep, **condition):
        schedule = self.grid.schedule
        c = self.grid.parameterization.coefficients(schedule, (timestep.double() + 1) / len(schedule.alphas))
        D = per_row(c.c_skip.to(y.dtype), y) * y
        D = D + per_row(c.c_out.to(y.dtype), y) * self.net(y, timestep, condition).to(y.dtype)
        return D.clamp(-self.bound, self.bound) if self.ratio is None else threshold(D, self.ratio, self.bound)


def _set(scheduler, steps):
    kind_of(scheduler)
    if steps is not None:
        scheduler, steps = copy.deepcopy(scheduler), require_integer("steps", steps, 1)
        scheduler.set_timesteps(steps)
    # DDPM's own timesteps, set_timesteps(timesteps=...), leave no number of steps.
    known = vars(scheduler)
    if known.get("num_inference_steps") is None and not known.get("custom_timesteps"):
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
    if "stages" in arguments:
        arguments["stages"] = _stages(scheduler.order_list[begin:])
    grid = read(scheduler, begin)
    plan = solvers.SOLVERS[name](grid.schedule, grid.times, **arguments)
    if begin == 0:  # as pipelines begin, whatever the first timestep
        plan = dataclasses.replace(plan, prior_std=float(getattr(scheduler, "init_noise_sigma", 1.0)))
    return grid, plan


def _only(scheduler, name, *allowed):
    """The setting, which must be one of those that have a plan."""
    return _one_of(name, setting(scheduler, name, allowed[0]), *allowed)


def _one_of(name, value, *allowed):
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))} to be made a plan; got {value!r}")
    return value


# What each scheduler is: the name of one of our solvers, and its options.


def _ddpm(scheduler):
    # "_log" is about how a learned variance is meant; a fixed one is the same number.
    allowed = "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"
    kind = _only(scheduler, "variance_type", *allowed)
    # diffusers reads both, and only in these two ways.
    _one_of("variance_type", scheduler.variance_type, *([kind] if kind == allowed[1] else allowed[:1] + allowed[2:]))
    if not scheduler.custom_timesteps and scheduler.num_inference_steps is None:
        # Then diffusers steps to t - 1, whatever the timesteps are.
        _require_own_timesteps(scheduler, range(len(scheduler.timesteps) - 1, -1, -1))
    return "ddpm", {"variance": kind.split("_")[1]}


def _ddim(scheduler, eta, use_clipped_model_output):
    # diffusers' steps all go down by the same number of timesteps, whatever the timesteps are.
    again = object.__new__(class_of(scheduler))
    vars(again).update(vars(scheduler))
    again.set_timesteps(scheduler.num_inference_steps)
    _require_own_timesteps(scheduler, again.timesteps.tolist())
    return "ddim", {"eta": eta}


def _require_own_timesteps(scheduler, own):
    if scheduler.timesteps.tolist() != list(own):
        raise ValueError("timesteps must be those of set_timesteps to be made a plan; got others, which were assigned")


def _euler(scheduler):
    return ("lcm" if setting(scheduler, "stochastic_sampling") else "euler"), {}


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
    algorithm = _only(scheduler, "algorithm_type", "dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver")
    order = _only(scheduler, "solver_order", 1, 2, 3)
    _only(scheduler, "variance_type", None)
    lower = _lower_order_final(scheduler)
    arguments = {"solver_type": config.solver_type, "lower_order_final": lower}
    if order > 1 and not lower and float(scheduler.sigmas[len(scheduler.timesteps)]) > 0:
        # These make the last step one of first order, which it is in a plan if it ends at 0 or both last ones are lower
        _only(scheduler, "euler_at_final", False)
        _one_of("final_sigmas_type with a last sigma above 0", config.final_sigmas_type, "sigma_min")
    sde = "_sde" if algorithm.startswith("sde") else ""
    if order == 3:
        arguments["curvature"] = 0.5  # the solver authors' own code halves the quadratic term
    if algorithm.endswith("++"):
        if order == 1:
            return ("euler_ancestral" if sde else "dpmpp_1s"), {}
        return f"dpmpp_{order}m{sde}", arguments
    if sde:
        return "dpm_solver_2m_sde", {**arguments, "order": _only(scheduler, "solver_order", 1, 2)}
    return ("dpm_solver_1s", {}) if order == 1 else (f"dpm_solver_{order}m", arguments)


def _dpm_singlestep(scheduler):
    order = _only(scheduler, "solver_order", 1, 2, 3)
    _only(scheduler, "variance_type", None)
    algorithm = _only(scheduler, "algorithm_type", "dpmsolver++", "dpmsolver")
    name = f"{'dpmpp' if algorithm.endswith('++') else 'dpm_solver'}_{order}s"
    if order == 1:
        return name, {}
    return name, {"solver_type": scheduler.config.solver_type, "stages": "grid"}


def _stages(orders):
    """How many calls each step has, from the orders of all calls. A trajectory that begins inside a step has no values
    of the calls before: an order is at most the number of calls so far."""
    orders = [min(order, count) for count, order in enumerate(orders, 1)]
    ends = [*(k for k, order in enumerate(orders) if order == 1 and k), len(orders)]
    return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))


def _unipc(scheduler):
    config = scheduler.config
    _one_of("predict_x0", scheduler.predict_x0, True)
    _one_of("solver_p", scheduler.solver_p, None)
    _one_of("disable_corrector", scheduler.disable_corrector, [])
    lower = bool(config.lower_order_final)
    return "unipc", {"order": config.solver_order, "variant": config.solver_type, "lower_order_final": lower}


def _deis(scheduler):
    return "deis", {"order": scheduler.config.solver_order, "lower_order_final": _lower_order_final(scheduler)}


_OPTIONS = {"DDIMScheduler": {"eta": 0.0, "use_clipped_model_output": False}, "LMSDiscreteScheduler": {"order": 4}}
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
