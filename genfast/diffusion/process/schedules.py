"""Noise schedules.

Time runs over [0, 1] everywhere in genfast: t = 0 is data, t = 1 is noise, and s < t is the next state.

    x_t = alpha(t) x_0 + sigma(t) eps,      log-SNR(t) = 2 log(alpha(t) / sigma(t))
    dx  = f(t) x dt + g(t) dw,              f = alpha' / alpha,   g^2 = (sigma^2)' - 2 f sigma^2

Every schedule has alpha(0) = 1 and sigma(0) = 0: t = 0 is the data itself. A function of time takes a float, a numpy
array or a tensor, works in float64 and answers with the same kind. Times outside [0, 1] raise a ValueError; tensors on
an accelerator are not read back to be checked.
"""

import dataclasses
import itertools
import math
from typing import ClassVar

import torch
from torch.nn.functional import logsigmoid

from ...common.checks import require_choice, require_number
from ...common.precision import float64_function


class Schedule:
    """Base of all schedules: frozen dataclasses that give `alpha`, `sigma` and their derivatives in closed form.

    t_min: the smallest time at which a solver evaluates the network, before the last step to 0.
    prior_std: standard deviation of the x_1 from which sampling starts.
    t_max: the time from which the karras and log_snr grids are spaced; below 1 where the log-SNR plunges at t = 1.
    rho: exponent of the Karras grid.

    The formulas are written on float64 tensors; `__init_subclass__` lets them take floats and numpy arrays too.
    """

    t_min: ClassVar[float] = 1e-3
    t_max: ClassVar[float] = 1.0
    prior_std: ClassVar[float] = 1.0
    rho: ClassVar[float] = 7.0

    def __init_subclass__(cls):
        formulas = ("alpha", "sigma", "d_alpha", "d_sigma", "log_alpha", "d_log_alpha", "log_snr", "time", "f", "g2")
        for name in formulas:
            formula = getattr(cls, name, None)
            if formula is not None and not hasattr(formula, "__wrapped__"):
                setattr(cls, name, float64_function(formula))

    def alpha(self, t):
        """Factor of the data in x_t."""
        raise NotImplementedError

    def sigma(self, t):
        """Standard deviation of the noise in x_t."""
        raise NotImplementedError

    def d_alpha(self, t):
        """d alpha / dt."""
        raise NotImplementedError

    def d_sigma(self, t):
        """d sigma / dt; infinite at t = 0 where sigma grows like a square root."""
        raise NotImplementedError

    def log_snr(self, t):
        """2 log(alpha / sigma), decreasing in t; +inf at t = 0."""
        return 2 * (torch.log(self.alpha(t)) - torch.log(self.sigma(t)))

    def time(self, log_snr):
        """The inverse of `log_snr`; the nearest end of [0, 1] for values that the schedule does not reach."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(60):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) < log_snr
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return torch.where(log_snr == math.inf, low, high)

    def f(self, t):
        """Drift coefficient alpha' / alpha."""
        return self.d_alpha(t) / self.alpha(t)

    def g2(self, t):
        """Squared diffusion coefficient (sigma^2)' - 2 f sigma^2."""
        return 2 * self.sigma(t) * (self.d_sigma(t) - self.f(t) * self.sigma(t))

    def __repr__(self):
        arguments = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
        values = ", ".join(f"{self.log_snr(t):.2f}" for t in (0.1, 0.25, 0.5, 0.75, 0.9))
        return f"{type(self).__name__}({arguments})  # log-SNR {values} at t = 0.1, 0.25, 0.5, 0.75, 0.9"

    def _require_increasing(self, *names, positive=True):
        """Makes floats of the named fields; a ValueError unless they are finite, increasing and, if asked, positive."""
        for name in names:
            value = require_number(name, getattr(self, name), above=0 if positive else None)
            object.__setattr__(self, name, value)
        for low, high in itertools.pairwise(names):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} must be below {high}; got {getattr(self, low)} and {getattr(self, high)}")


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1: a schedule is its log alpha(t), decreasing from 0, and the derivative of that."""

    def log_alpha(self, t):
        raise NotImplementedError

    def d_log_alpha(self, t):
        raise NotImplementedError

    def alpha(self, t):
        return torch.exp(self.log_alpha(t))

    def sigma(self, t):
        # expm1 keeps every digit of a small sigma, which 1 - alpha^2 loses.
        return torch.sqrt(-torch.expm1(2 * self.log_alpha(t)))

    def d_alpha(self, t):
        return self.alpha(t) * self.d_log_alpha(t)

    def d_sigma(self, t):
        return -(self.alpha(t) ** 2) * self.d_log_alpha(t) / self.sigma(t)

    def g2(self, t):
        return -2 * self.d_log_alpha(t)


@dataclasses.dataclass(frozen=True, repr=False)
class VPLinear(VariancePreserving):
    """beta(t) = beta_min + t (beta_max - beta_min); log alpha = -1/2 int_0^t beta. Ho et al. 2020, arXiv:2006.11239;
    the continuous form of Song et al. 2021, arXiv:2011.13456."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        self._require_increasing("beta_min", "beta_max")

    def log_alpha(self, t):
        return -(self.beta_min * t / 2 + (self.beta_max - self.beta_min) * t**2 / 4)

    def d_log_alpha(self, t):
        return -(self.beta_min + (self.beta_max - self.beta_min) * t) / 2

    def time(self, log_snr):
        return self._time_of_log_alpha(logsigmoid(log_snr) / 2)

    def _time_of_log_alpha(self, log_alpha):
        log_alpha = log_alpha.clamp(min=self.log_alpha(1.0))
        slope = self.beta_max - self.beta_min
        return -4 * log_alpha / (self.beta_min + torch.sqrt(self.beta_min**2 - 4 * slope * log_alpha))


@dataclasses.dataclass(frozen=True, repr=False)
class VPCosine(VariancePreserving):
    """alpha(t) = cos(angle(t)) / cos(angle(0)), angle(0) = pi/2 s/(1+s). Nichol & Dhariwal 2021, arXiv:2102.09672,
    equation 17.

    The paper's angle ends at pi/2, where alpha = 0, and its betas are clipped instead, which leaves log-SNR -19.8
    after 1000 steps. Here the angle is linear in t and ends where the log-SNR is -20: smooth up to t = 1, and within
    5e-5 of the paper's alpha.
    """

    s: float = 0.008

    t_max: ClassVar[float] = 0.9946  # as Lu et al. 2022, arXiv:2206.00927, do for this schedule; log-SNR -9.6

    def __post_init__(self):
        self._require_increasing("s")

    @property
    def _angles(self):
        """The angle at t = 0, and how much it grows to t = 1."""
        start = math.pi / 2 * self.s / (1 + self.s)
        return start, math.acos(math.exp(-10) / math.sqrt(1 + math.exp(-20)) * math.cos(start)) - start

    def log_alpha(self, t):
        start, span = self._angles
        # cos(b) - cos(a) = -2 sin((a+b)/2) sin((b-a)/2): no cancellation near t = 0.
        return torch.log1p(-2 * torch.sin(start + span * t / 2) * torch.sin(span * t / 2) / math.cos(start))

    def d_log_alpha(self, t):
        start, span = self._angles
        return -span * torch.tan(start + span * t)

    def time(self, log_snr):
        start, span = self._angles
        angle = torch.acos(torch.exp(logsigmoid(log_snr) / 2) * math.cos(start))
        return ((angle - start) / span).clamp(0, 1)


@dataclasses.dataclass(frozen=True, repr=False)
class VPSigmoidJabri(VariancePreserving):
    """alpha^2 falls as a sigmoid: 1 - alpha^2 = (1 - floor) (S(u(t)) - S(start)) / (S(end) - S(start)), with S the
    logistic function of (.) / tau and u(t) = start + t (end - start). Jabri et al. 2022, arXiv:2212.11972.

    The paper clips alpha^2 below at floor = 1e-9; the affine map here has the same ends and stays smooth. alpha' is
    close to singular at t = 1 (alpha ~ sqrt(1 - t)): prefer solvers that are exact in alpha and sigma (ddim, dpmpp_2m)
    to euler in t.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    t_max: ClassVar[float] = 0.999
    _floor: ClassVar[float] = 1e-9

    def __post_init__(self):
        self._require_increasing("start", "end", positive=False)
        self._require_increasing("tau")

    def _rise(self, t):
        """S(u(t)) - S(start), without cancellation near t = 0."""
        gap = (self.end - self.start) / self.tau * t
        start = torch.tensor(self.start / self.tau, dtype=torch.float64, device="cpu")
        return -torch.sigmoid(-start) * torch.sigmoid(start + gap) * torch.expm1(-gap)

    @property
    def _whole(self):
        return self._rise(torch.ones((), dtype=torch.float64, device="cpu")).item()

    def log_alpha(self, t):
        return torch.log1p((self._floor - 1) * self._rise(t) / self._whole) / 2

    def d_log_alpha(self, t):
        u = (self.start + t * (self.end - self.start)) / self.tau
        slope = (self.end - self.start) / self.tau * torch.sigmoid(u) * torch.sigmoid(-u) / self._whole
        return (self._floor - 1) * slope / 2 * torch.exp(-2 * self.log_alpha(t))

    def time(self, log_snr):
        rise = torch.sigmoid(-log_snr) / (1 - self._floor) * self._whole
        u = torch.logit(rise + 1 / (1 + math.exp(-self.start / self.tau))) * self.tau
        return ((u - self.start) / (self.end - self.start)).clamp(0, 1)


@dataclasses.dataclass(frozen=True, repr=False)
class VPSigmoidGeoDiff(VariancePreserving):
    """beta(t) = beta_min + (beta_max - beta_min) S(12 t - 6): the sigmoid is in beta, not in alpha^2. Xu et al. 2022
    (GeoDiff), arXiv:2203.02923, whose 1000-step form many libraries call "sigmoid"; log alpha = -1/2 int_0^t beta."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        self._require_increasing("beta_min", "beta_max")

    def log_alpha(self, t):
        # softplus(12 t - 6) - softplus(-6) as one logarithm, without cancellation near t = 0.
        integral = torch.log1p(torch.expm1(12 * t) / (1 + math.exp(6))) / 12
        return -(self.beta_min * t + (self.beta_max - self.beta_min) * integral) / 2

    def d_log_alpha(self, t):
        return -(self.beta_min + (self.beta_max - self.beta_min) * torch.sigmoid(12 * t - 6)) / 2


@dataclasses.dataclass(frozen=True, repr=False)
class SubVP(VPLinear):
    """alpha of VPLinear with sigma = 1 - alpha^2, smaller than VP's. Song et al. 2021, arXiv:2011.13456."""

    def sigma(self, t):
        return -torch.expm1(2 * self.log_alpha(t))

    def d_sigma(self, t):
        return -2 * self.alpha(t) ** 2 * self.d_log_alpha(t)

    g2 = Schedule.g2

    def time(self, log_snr):
        # sigma / alpha = 1 / alpha - alpha = -2 sinh(log alpha)
        return self._time_of_log_alpha(-torch.asinh(torch.exp(-log_snr / 2) / 2))


class VarianceExploding(Schedule):
    """alpha = 1, and sigma grows to sigma_max, which is also the standard deviation of the start."""

    prior_std = property(lambda self: self.sigma_max)

    def alpha(self, t):
        return torch.ones_like(t)

    def d_alpha(self, t):
        return torch.zeros_like(t)


@dataclasses.dataclass(frozen=True, repr=False)
class VE(VarianceExploding):
    """alpha = 1, sigma(t) = sigma_min (sigma_max / sigma_min)^t. Song et al. 2021, arXiv:2011.13456.

    sigma(0) = 0 by the convention of this module: a jump from sigma_min. d_sigma(0) is the limit from the right.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    t_min: ClassVar[float] = 1e-5

    def __post_init__(self):
        self._require_increasing("sigma_min", "sigma_max")

    def sigma(self, t):
        return torch.where(t > 0, self._curve(t), 0)

    def d_sigma(self, t):
        return math.log(self.sigma_max / self.sigma_min) * self._curve(t)

    def _curve(self, t):
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def time(self, log_snr):
        return ((-log_snr / 2 - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)).clamp(0, 1)


@dataclasses.dataclass(frozen=True, repr=False)
class EDM(VarianceExploding):
    """alpha = 1, sigma(t) = sigma_max t, so that time is the noise level. Karras et al. 2022, arXiv:2206.00364.

    sigma_min is the last level that the network sees (t_min = sigma_min / sigma_max); rho spaces the Karras grid.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    t_min = property(lambda self: self.sigma_min / self.sigma_max)

    def __post_init__(self):
        self._require_increasing("sigma_min", "sigma_max")
        self._require_increasing("rho")

    def sigma(self, t):
        return self.sigma_max * t

    def d_sigma(self, t):
        return torch.full_like(t, self.sigma_max)

    def time(self, log_snr):
        return (torch.exp(-log_snr / 2) / self.sigma_max).clamp(0, 1)


@dataclasses.dataclass(frozen=True, repr=False)
class Flow(Schedule):
    """alpha = 1 - t, sigma = t: the straight path of rectified flow and flow matching; the log-SNR at t = 1 is -inf.

    Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747 (who run time the other way).
    """

    t_max: ClassVar[float] = 0.999

    def alpha(self, t):
        return 1 - t

    def d_alpha(self, t):
        return -torch.ones_like(t)

    def sigma(self, t):
        return t.clone()

    def d_sigma(self, t):
        return torch.ones_like(t)

    def time(self, log_snr):
        return torch.sigmoid(-log_snr / 2)


SCHEDULES = {
    "vp_linear": VPLinear,
    "vp_cosine": VPCosine,
    "vp_sigmoid_jabri": VPSigmoidJabri,
    "vp_sigmoid_geodiff": VPSigmoidGeoDiff,
    "sub_vp": SubVP,
    "ve": VE,
    "edm": EDM,
    "flow": Flow,
}


def as_schedule(schedule):
    """A Schedule as it is, or a new one by its name in SCHEDULES; anything else raises."""
    if isinstance(schedule, Schedule):
        return schedule
    if not isinstance(schedule, str):
        raise TypeError(f"schedule must be a Schedule or a name; got {schedule!r}")
    return SCHEDULES[require_choice("schedule", schedule, SCHEDULES)]()
