"""Denoisers: D(x_t, t) = E[x_0 | x_t], from a network in any parameterization.

With x_t = alpha x_0 + sigma eps, every parameterization is one choice of what the network predicts,

    F* = p x_0 + q eps,      F = net(c_in x_t, c_noise),

and the denoised estimate solves these two linear equations for x_0:

    D = c_skip x_t + c_out F,      c_skip = q / (alpha q - sigma p),      c_out = -sigma / (alpha q - sigma p),

and at sigma = 0 it is x_t itself.
"""

import dataclasses
from typing import NamedTuple

import torch

from ...common.checks import require_callable, require_choice, require_number
from ...common.conditions import wants_key
from ...common.eval_mode import evaluating
from ...common.precision import as_float64, readable, weights_dtype
from ...common.state import unwrapped
from ...common.units import as_units
from .schedules import as_schedule


class Coefficients(NamedTuple):
    """What one time means to a network and its loss; float64 tensors of the shape of t."""

    c_in: torch.Tensor
    c_noise: torch.Tensor
    c_skip: torch.Tensor
    c_out: torch.Tensor
    p: torch.Tensor
    q: torch.Tensor
    weight: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Parameterization:
    """What the network predicts: `target` gives (p, q) of F* = p x_0 + q eps. The rest has defaults that a subclass
    may change.

    sigma_data: standard deviation of the data, to which c_in scales the network's input.
    """

    sigma_data: float | None = 1.0

    def __post_init__(self):
        object.__setattr__(self, "sigma_data", require_number("sigma_data", self.sigma_data, above=0))

    @property
    def data_std(self):
        """sigma_data, or what it counts as while it is None: 0.5."""
        return 0.5 if self.sigma_data is None else self.sigma_data

    def target(self, alpha, sigma, d_alpha, d_sigma):
        """(p, q) of the network's target F* = p x_0 + q eps."""
        raise NotImplementedError

    def c_in(self, alpha, sigma):
        """Factor of the network's input: 1 / max(1, std x_t), so that only an exploding x_t is scaled, never a VP or
        flow one."""
        return (alpha**2 * self.data_std**2 + sigma**2).clamp(min=1).rsqrt()

    def c_noise(self, alpha, sigma, t):
        """The time that the network sees."""
        return t

    @property
    def tells_time(self):
        """Whether what the network sees is t itself."""
        return type(self).c_noise is Parameterization.c_noise

    def weight(self, alpha, sigma):
        """Default weight of the squared error of F."""
        return torch.ones_like(sigma)

    def coefficients(self, schedule, t):
        """Coefficients at times t: () or (R,). A ValueError names this parameterization and the time where one is not
        finite.

        Times on an accelerator are not read back to be checked.
        """
        schedule, t = as_schedule(schedule), as_float64("t", t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        p, q = self.target(alpha, sigma, schedule.d_alpha(t), schedule.d_sigma(t))
        determinant = alpha * q - sigma * p
        coefficients = Coefficients(
            c_in=self.c_in(alpha, sigma),
            c_noise=self.c_noise(alpha, sigma, t),
            c_skip=torch.where(sigma == 0, 1 / alpha, q / determinant),
            c_out=torch.where(sigma == 0, 0, -sigma / determinant),
            p=p,
            q=q,
            weight=self.weight(alpha, sigma),
        )
        if readable(t):
            finite = torch.stack(coefficients).isfinite().all(0)
            if not bool(finite.all()):
                time = t[~finite].flatten()[0].item()
                a, s = schedule.alpha(time), schedule.sigma(time)
                raise ValueError(
                    f"the {type(self).__name__} parameterization is singular at t = {time:g} of "
                    f"{type(schedule).__name__}, where alpha = {a:g} and sigma = {s:g}"
                )
        return coefficients


@dataclasses.dataclass(frozen=True)
class Eps(Parameterization):
    """F* = eps. Ho et al. 2020, arXiv:2006.11239. Singular where alpha = 0."""

    def target(self, alpha, sigma, d_alpha, d_sigma):
        return torch.zeros_like(alpha), torch.ones_like(alpha)


@dataclasses.dataclass(frozen=True)
class X0(Parameterization):
    """F* = x_0, so D = F."""

    def target(self, alpha, sigma, d_alpha, d_sigma):
        return torch.ones_like(alpha), torch.zeros_like(alpha)


@dataclasses.dataclass(frozen=True)
class V(Parameterization):
    """F* = v = alpha eps - sigma x_0. Salimans & Ho 2022, arXiv:2202.00512. Never singular."""

    def target(self, alpha, sigma, d_alpha, d_sigma):
        return -sigma, alpha


@dataclasses.dataclass(frozen=True)
class Score(Parameterization):
    """F* = -eps / sigma, whose mean is the score grad log p_t(x_t); weight sigma^2. Song et al. 2021, arXiv:2011.13456.

    Singular where alpha = 0 and where sigma = 0.
    """

    def target(self, alpha, sigma, d_alpha, d_sigma):
        return torch.zeros_like(alpha), -1 / sigma

    def weight(self, alpha, sigma):
        return sigma**2


@dataclasses.dataclass(frozen=True)
class Flow(Parameterization):
    """F* = dx_t/dt = alpha' x_0 + sigma' eps, the velocity of the path. Lipman et al. 2022, arXiv:2210.02747."""

    def target(self, alpha, sigma, d_alpha, d_sigma):
        return d_alpha, d_sigma


@dataclasses.dataclass(frozen=True)
class EDM(Parameterization):
    """Karras et al. 2022, arXiv:2206.00364, table 1, applied to x_t / alpha at noise level sigma / alpha. Singular
    where alpha or sigma is 0.

    F* = (sigma x_0 / sigma_data - alpha sigma_data eps) / n with n^2 = alpha^2 sigma_data^2 + sigma^2 has unit
    variance; the input is scaled by 1 / n, and c_noise = log(sigma / alpha) / 4.

    sigma_data: None is not known yet, and counts as 0.5 until `Diffusion.measure` takes sqrt(mean x^2) of the data.
    """

    sigma_data: float | None = None

    def __post_init__(self):
        if self.sigma_data is not None:
            super().__post_init__()

    def target(self, alpha, sigma, d_alpha, d_sigma):
        scale = self.c_in(alpha, sigma)
        return sigma / self.data_std * scale, -alpha * self.data_std * scale

    def c_in(self, alpha, sigma):
        return (alpha**2 * self.data_std**2 + sigma**2).rsqrt()

    def c_noise(self, alpha, sigma, t):
        return torch.log(sigma / alpha) / 4


PARAMETERIZATIONS = {"eps": Eps, "x0": X0, "v": V, "score": Score, "flow": Flow, "edm": EDM}


def as_parameterization(parameterization):
    """A Parameterization as it is, or a new one by its name in PARAMETERIZATIONS; anything else raises."""
    if isinstance(parameterization, Parameterization):
        return parameterization
    if not isinstance(parameterization, str):
        raise TypeError(f"parameterization must be a Parameterization or a name; got {parameterization!r}")
    return PARAMETERIZATIONS[require_choice("parameterization", parameterization, PARAMETERIZATIONS)]()


def require_noised(x_t, shape=None):
    """TypeError unless x_t is a floating-point tensor (B, *), ValueError if not (B, *shape)."""
    if not isinstance(x_t, torch.Tensor) or not x_t.is_floating_point() or x_t.ndim == 0:
        kind = f"{x_t.dtype} of shape {tuple(x_t.shape)}" if isinstance(x_t, torch.Tensor) else type(x_t).__name__
        raise TypeError(f"x_t must be a floating-point tensor (B, *); got {kind}")
    if x_t.layout != torch.strided or x_t.dtype.itemsize == 1:  # float8, with which torch computes nothing
        kind = x_t.dtype if x_t.layout == torch.strided else x_t.layout
        raise TypeError(f"x_t must be a dense tensor of float16, bfloat16, float32 or float64; got {kind}")
    if shape is not None and tuple(x_t.shape[1:]) != shape:
        raise ValueError(f"x_t must have shape (B, {', '.join(map(str, shape))}); got {tuple(x_t.shape)}")


def batch_times(x_t, t):
    """t as a float64 tensor (B,) on x_t's device, or an error."""
    require_noised(x_t)
    times = as_float64("t", t)
    if times.is_meta and not x_t.is_meta:
        raise TypeError("t must be a number or a tensor that holds its values; got a meta one")
    times = times.to(x_t.device)
    if times.ndim > 1 or (times.ndim == 1 and len(times) != len(x_t)):
        raise ValueError(f"t must be a number or have shape ({len(x_t)},); got shape {tuple(times.shape)}")
    return times.expand(len(x_t))


def _rows(coefficient, x):
    """coefficient: (B,) float64 as (B, 1, ..., 1) in x's dtype, to multiply x: (B, *)."""
    return coefficient.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


STEPS = 999  # what t = 1 is to a network that counts steps


class Network:
    """A network as it is called, F = net(y, c_noise, **conditions), in its own dtype, and for inference in eval mode.

    dtype: that of the network's first floating-point parameter, looked up once; None for what has none, such as a plain
    function, which takes its arguments as they are.  A network that says `counts_steps = True` is told 999 c_noise, as
    the last of DDPM's 1000 steps is called 999.
    """

    def __init__(self, net):
        self.net, self.dtype = net, weights_dtype(net)
        self.counts_steps = getattr(unwrapped(net), "counts_steps", False)

    def time(self, c_noise):
        """c_noise, (R,), as the network is told it: in its dtype but at least float32, since half precision does not
        tell a thousand times apart."""
        c_noise = STEPS * c_noise if self.counts_steps else c_noise
        return c_noise.to(torch.promote_types(self.dtype or c_noise.dtype, torch.float32))

    def told(self, y, c_noise, conditions, key=None):
        """F, (B, *), as the network makes it in the mode that it is in. y: (B, *), c_noise: (B,), conditions: the rest
        by name; floating-point ones in its dtype. key: (B, 2), for a network with dropout. Raises as
        `require_answer`."""
        if key is not None and wants_key(self.net):
            conditions = {**conditions, "key": key}
        if self.dtype is not None:
            conditions = {
                name: value.to(self.dtype) if torch.is_tensor(value) and value.is_floating_point() else value
                for name, value in conditions.items()
            }
        return require_answer(self.net(y.to(self.dtype or y.dtype), self.time(c_noise), **conditions), y)

    def __call__(self, y, c_noise, conditions):
        """`told`, in eval mode."""
        with evaluating(self.net):
            return self.told(y, c_noise, conditions)


def require_answer(answer, y, who="the network", whose="its input", numbers="floating-point numbers"):
    """What a function of the user's answers; a ValueError unless it is a floating-point tensor of the shape of y."""
    if not isinstance(answer, torch.Tensor) or answer.shape != y.shape:
        got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ValueError(f"{who} must answer with the shape of {whose}, {tuple(y.shape)}; got {got}")
    if not answer.is_floating_point():
        raise ValueError(f"{who} must answer with {numbers}; got {answer.dtype}")
    return answer


def require_denoiser(denoiser):
    """TypeError unless it is a Denoiser, such as `model.denoiser`."""
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"denoiser must be a Denoiser; got {type(denoiser).__name__} (of a model: model.denoiser)")


class Denoiser:
    """D(x_t, t) = E[x_0 | x_t] from a network F = net(c_in x_t, c_noise, **cond).

    net: callable of y: (B, *) and c_noise: (B,), any keyword arguments passed through; answers with the shape of y. It
    is run in eval mode and in the dtype of its own weights, whatever the state's.
    units: of the data, where the network has learned them standardized. Then x_t, D and noise are standardized, as the
    network sees them; what takes data by the name of x, x_0, source, known or measurement, or answers with samples or
    likelihoods, does so in the data's units.
    """

    def __init__(self, net, schedule, parameterization, units=None):
        self.net = require_callable("net", net)
        self.schedule = as_schedule(schedule)
        self.parameterization = as_parameterization(parameterization)
        self.units = as_units(units)

    def coefficients(self, t):
        """Coefficients at times t: () or (R,), float64."""
        return self.parameterization.coefficients(self.schedule, t)

    def evaluating(self):
        """A context in which the network is in eval mode, as it is in every call of `network` anyway: entered once for
        a whole trajectory, it is not entered anew at each."""
        return evaluating(self.net)

    def network(self, y, c_noise, **conditions):
        """F, (B, *), of `Network`, in the dtype of y, at least float32. y: (B, *), c_in x_t; c_noise: (B,)."""
        return Network(self.net)(y, c_noise, conditions).to(torch.promote_types(y.dtype, torch.float32))

    def __call__(self, x_t, t, **cond):
        """D: (B, *), at least float32. x_t: (B, *); t: a number or (B,)."""
        c = self.coefficients(batch_times(x_t, t))
        x = x_t.to(torch.promote_types(x_t.dtype, torch.float32))
        F = self.network((_rows(c.c_in, x) * x).to(x_t.dtype), c.c_noise.to(x.dtype), **cond)
        return _rows(c.c_skip, x) * x + _rows(c.c_out, x) * F

    def eps(self, x_t, t, **cond):
        """The noise in x_t: E[eps | x_t] = (x_t - alpha D) / sigma. ValueError where sigma is too small to divide by,
        as at t = 0."""
        alpha, sigma = self._signal_and_noise(x_t, t, 1)
        D = self(x_t, t, **cond)
        return (x_t - _rows(alpha, D) * D) / _rows(sigma, D)

    def score(self, x_t, t, **cond):
        """grad log p_t(x_t) = (alpha D - x_t) / sigma^2 (Tweedie). ValueError where sigma^2 is too small to divide
        by, as at t = 0."""
        alpha, sigma = self._signal_and_noise(x_t, t, 2)
        D = self(x_t, t, **cond)
        return (_rows(alpha, D) * D - x_t) / _rows(sigma, D) ** 2

    def _signal_and_noise(self, x_t, t, power):
        """alpha and sigma, a power of which is divided by in the dtype of D; the quotient must be finite."""
        times = batch_times(x_t, t)
        sigma = self.schedule.sigma(times)
        if readable(sigma) and bool((sigma == 0).any()):
            raise ValueError("t must be positive: there is no noise in x_t at t = 0")
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        least = torch.finfo(dtype).tiny ** (0.75 / power)
        if readable(sigma) and bool((sigma < least).any()):
            found = f"sigma = {float(sigma.min()):.3g} at the smallest of t"
            raise ValueError(f"t must be larger: {dtype} can divide by sigma from {least:.3g} on; {found}")
        return self.schedule.alpha(times), sigma


@dataclasses.dataclass(frozen=True)
class Unscaled(X0):
    """x0 of the unscaled x_t: what a denoiser that is a formula, not a network, looks like to the sampling loop."""

    def c_in(self, alpha, sigma):
        return torch.ones_like(sigma)
