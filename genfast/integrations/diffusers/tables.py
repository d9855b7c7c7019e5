"""What a diffusers scheduler steps through, in our terms: a schedule, times, and how its network is called."""

import dataclasses
import itertools
import math
from typing import NamedTuple

import torch

from ...diffusion.process.denoisers import EDM as EDMParameterization
from ...diffusion.process.denoisers import Parameterization
from ...diffusion.process.schedules import EDM, Flow, Schedule
from ...diffusion.process.tabulated import Tabulated

# The variables that a scheduler's state is in: x_t itself with alpha^2 + sigma^2 = 1, on discrete times; the same, at
# any sigma / alpha; x_t / alpha; x_t of the straight path. EDM's is x_t / alpha with a network scaled as in EDM.
DISCRETE, PRESERVING, EXPLODING, STRAIGHT, KARRAS = "discrete", "preserving", "exploding", "straight", "karras"
VARIABLES = {
    "DDPMScheduler": DISCRETE,
    "DDIMScheduler": DISCRETE,
    "EulerDiscreteScheduler": EXPLODING,
    "EulerAncestralDiscreteScheduler": EXPLODING,
    "HeunDiscreteScheduler": EXPLODING,
    "LMSDiscreteScheduler": EXPLODING,
    "DPMSolverMultistepScheduler": PRESERVING,
    "DPMSolverSinglestepScheduler": PRESERVING,
    "UniPCMultistepScheduler": PRESERVING,
    "DEISMultistepScheduler": PRESERVING,
    "EDMEulerScheduler": KARRAS,
    "EDMDPMSolverMultistepScheduler": KARRAS,
    "FlowMatchEulerDiscreteScheduler": STRAIGHT,
    "FlowMatchHeunDiscreteScheduler": STRAIGHT,
}


@dataclasses.dataclass(frozen=True)
class _Timesteps(Parameterization):
    """times and timesteps: what the network is told at each time, linear between; prediction: diffusers' name of F."""

    prediction: str = "epsilon"
    times: tuple[float, ...] = (0.0, 1.0)
    timesteps: tuple[float, ...] = (0.0, 1.0)

    def c_noise(self, alpha, sigma, t):
        times, timesteps = (torch.tensor(v[::-1], dtype=t.dtype, device=t.device) for v in (self.times, self.timesteps))
        if len(times) == 1:
            return timesteps.expand_as(t)
        i = (torch.searchsorted(times, t, right=True) - 1).clamp(0, len(times) - 2)
        weight = ((t - times[i]) / (times[i + 1] - times[i])).clamp(0, 1)
        return torch.where(weight == 1, timesteps[i + 1], timesteps[i] + weight * (timesteps[i + 1] - timesteps[i]))


@dataclasses.dataclass(frozen=True)
class Prediction(_Timesteps):
    """F* = eps, x_0, v = (alpha eps - sigma x_0) / sqrt(alpha^2 + sigma^2), or the velocity eps - x_0."""

    def target(self, alpha, sigma, d_alpha, d_sigma):
        zero, one, size = torch.zeros_like(alpha), torch.ones_like(alpha), torch.hypot(alpha, sigma)
        return {
            "epsilon": (zero, one),
            "sample": (one, zero),
            "v_prediction": (-sigma / size, alpha / size),
            "flow_prediction": (-one, one),
        }[self.prediction]


@dataclasses.dataclass(frozen=True)
class EDMPrediction(_Timesteps):
    """EDM's F*, "epsilon"; "v_prediction" is its negative. Karras et al. 2022, arXiv:2206.00364, table 1."""

    def c_in(self, alpha, sigma):
        return EDMParameterization.c_in(self, alpha, sigma)

    def target(self, alpha, sigma, d_alpha, d_sigma):
        p, q = EDMParameterization.target(self, alpha, sigma, d_alpha, d_sigma)
        return (p, q) if self.prediction == "epsilon" else (-p, -q)


class Grid(NamedTuple):
    """times: steps + 1, falling."""

    schedule: Schedule
    times: list[float]
    parameterization: Parameterization


def class_of(scheduler):
    """The class of a scheduler, or its nearest base, whose name is in VARIABLES; TypeError if there is none."""
    for base in type(scheduler).__mro__:
        if base.__name__ in VARIABLES:
            return base
    raise TypeError(f"scheduler must be one of {', '.join(VARIABLES)}; got {type(scheduler).__name__}")


def kind_of(scheduler):
    """The name of that class."""
    return class_of(scheduler).__name__


def setting(scheduler, name, default=None):
    """A setting as diffusers' own steps read it: pipelines assign `config.clip_sample`, which leaves `config[...]`."""
    return getattr(scheduler.config, name, default)


def per_step(scheduler, name, rows):
    """Of a tensor with one entry a network call (and perhaps one more), those at the start of a step."""
    if scheduler.order == 1:
        return rows
    ends, starts = rows[1::2], rows[2::2]
    if not ends[: len(starts)].equal(starts):
        raise ValueError(
            f"{name} must be the same at the end of a step as at the start of the next; got {rows.tolist()}"
        )
    return torch.cat([rows[:1], ends])


def read(scheduler, begin=0):
    """The Grid of a scheduler with timesteps set, from network call `begin` on."""
    kind = kind_of(scheduler)
    if begin % scheduler.order:
        raise ValueError(f"sampling must begin at the first of a step's {scheduler.order} calls; got call {begin}")
    timesteps = per_step(scheduler, "timesteps", scheduler.timesteps.detach().cpu().double())
    schedule, times = _READERS[VARIABLES[kind]](scheduler, kind, timesteps)
    begin //= scheduler.order
    times, timesteps = times[begin:], timesteps[begin:].tolist()
    if abs(times[-1] / times[-2] - 1) < 1e-6:
        times[-1] = times[-2] * (1 - 1e-12)  # some schedulers end with a step from a noise level to itself
    if any(s >= t for t, s in itertools.pairwise(times)):
        because = "invert_sigmas must be False, since " if setting(scheduler, "invert_sigmas") else ""
        fault = f"{because}the noise of a scheduler's steps must fall"
        raise ValueError(f"{fault}; its times from 0 (data) to 1 are {times}")
    prediction = _prediction(scheduler, kind)
    arguments = {"prediction": prediction, "times": tuple(times[:-1]), "timesteps": tuple(timesteps)}
    if VARIABLES[kind] == KARRAS:
        return Grid(schedule, times, EDMPrediction(scheduler.config.sigma_data, **arguments))
    return Grid(schedule, times, Prediction(**arguments))


def _prediction(scheduler, kind):
    straight = VARIABLES[kind] == STRAIGHT or setting(scheduler, "use_flow_sigmas", False)
    prediction = "flow_prediction" if VARIABLES[kind] == STRAIGHT else scheduler.config.prediction_type
    prediction = {"original_sample": "sample"}.get(prediction, prediction)
    allowed = ["epsilon", "v_prediction"]
    if VARIABLES[kind] != KARRAS:
        allowed = ["epsilon", "sample", "flow_prediction" if straight else "v_prediction"]
    if prediction not in allowed:
        where = f"{kind} with{'' if straight else 'out'} flow sigmas"
        raise ValueError(f"prediction_type must be one of {', '.join(allowed)} for {where}; got {prediction}")
    return prediction


def _discrete(scheduler, kind, timesteps):
    """Times (k + 1) / N of the timesteps k, and the end of the last step."""
    schedule = _table(scheduler)
    count = len(schedule.alphas)
    if timesteps.max() >= count:
        raise ValueError(f"timesteps must lie below {count}, as many as there are betas; got {timesteps.max():g}")
    last = 0.0
    if kind == "DDIMScheduler" and float(scheduler.final_alpha_cumprod) != 1:  # set_alpha_to_one=False
        last = 1 / count
        final, first = float(scheduler.final_alpha_cumprod), float(scheduler.alphas_cumprod[0])
        if final != first:
            raise ValueError(f"final_alpha_cumprod must be 1 or that of the first timestep, {first:g}; got {final:g}")
    return schedule, [(k + 1) / count for k in timesteps.tolist()] + [last]


def _table(scheduler):
    """alpha = sqrt(alphas_cumprod) and sigma = sqrt(1 - alphas_cumprod), of the scheduler's own float32 numbers."""
    products = scheduler.alphas_cumprod.detach().cpu().double()
    count = int((products > products[-1]).sum())
    if 0 < count < len(products) - 1:
        # Schedulers that cannot divide by a zero terminal SNR raise the last number above its neighbors.
        end = torch.linspace(
            math.log(products[count - 1]), math.log(products[-1]), len(products) - count + 1, device="cpu"
        )
        products[count:-1] = end[1:-1].exp()
    return Tabulated(tuple(products.sqrt().tolist()), tuple((1 - products).sqrt().tolist()))


def _sigmas(scheduler):
    """sigma / alpha at the start of every step and at the end of the last; what follows is never reached."""
    sigmas = scheduler.sigmas.detach().cpu().double()
    return per_step(scheduler, "sigmas", sigmas[: len(scheduler.timesteps) + 1])


def _preserving(scheduler, kind, timesteps):
    sigmas = _sigmas(scheduler)
    if setting(scheduler, "use_flow_sigmas", False):
        return Flow(), sigmas.tolist()
    schedule = _table(scheduler)
    times = schedule.time(-2 * sigmas.log())
    found = schedule.sigma(times) / schedule.alpha(times)
    if not torch.allclose(found, sigmas, rtol=1e-6, atol=0):  # float32 numbers, so the largest may be off by that
        names = ("sigma_max", *(f"use_{grid}_sigmas" for grid in ("karras", "exponential", "beta")))
        fault = " with ".join(name for name in names if setting(scheduler, name))
        top, most = schedule.sigma(times).div(schedule.alpha(times)).max().item(), sigmas.max().item()
        fault = f"{fault}: sigmas" if fault else "sigmas"
        raise ValueError(f"{fault} must not exceed that of the last timestep, {top:g}; got {most:g}")
    return schedule, times.tolist()


def _exploding(scheduler, kind, timesteps):
    sigmas = _sigmas(scheduler)
    top = sigmas.max().item()
    low = min(sigmas[sigmas > 0].min().item(), top / 2)  # a single step has no other level
    return EDM(low, top), (sigmas / top).tolist()


def _straight(scheduler, kind, timesteps):
    return Flow(), _sigmas(scheduler).tolist()


_READERS = {
    DISCRETE: _discrete,
    PRESERVING: _preserving,
    EXPLODING: _exploding,
    STRAIGHT: _straight,
    KARRAS: _exploding,
}
