"""A noise schedule given by a table, such as the betas of a model that was trained on discrete timesteps."""

import dataclasses
import math

import torch
from torch.nn.functional import logsigmoid

from ...common.checks import as_tensor
from .schedules import Schedule

_EDGE = 1e-12  # the derivatives at the two ends, which may be infinite, are those so far inside


def _slopes(t, y):
    """Slopes at the knots that keep the cubic through a monotone (t, y) monotone: Fritsch & Butland 1984's weighted
    harmonic means, one-sided at the ends."""
    width, secant = t.diff(), y.diff() / t.diff()
    left, right = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    same = secant[:-1] * secant[1:] > 0
    inner = torch.where(same, (left + right) / (left / secant[:-1] + right / secant[1:]), 0)
    return torch.cat([secant[:1], inner, secant[-1:]])


def _cubic(t, knots, y, slopes):
    """Value and derivative at t of the cubic Hermite interpolant."""
    i = (torch.searchsorted(knots, t, right=True) - 1).clamp(0, len(knots) - 2)
    width = knots[i + 1] - knots[i]
    u = (t - knots[i]) / width
    rise, first, last = y[i + 1] - y[i], slopes[i] * width, slopes[i + 1] * width
    bend, twist = 3 * rise - 2 * first - last, first + last - 2 * rise
    return y[i] + u * (first + u * (bend + u * twist)), (first + u * (2 * bend + 3 * u * twist)) / width


@dataclasses.dataclass(frozen=True, repr=False)
class Tabulated(Schedule):
    """alpha and sigma at the times t = (k + 1) / N, k = 0..N-1, and t = 0 the data itself.

    alphas, sigmas: N >= 3 numbers each, the ratio alpha / sigma falling; only the last alpha may be 0. Between the
    knots the log-SNR and log(alpha^2 + sigma^2) are monotone cubics (Fritsch & Carlson 1980), so that a
    variance-preserving table stays so. Before the first knot, and after the last but one where the last alpha is 0,
    alpha / sigma is a power of the time from the end, with the slope at the knot. Raises ValueError.
    """

    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]

    t_min = property(lambda self: 1 / len(self.alphas))
    t_max = property(lambda self: 1.0 if self.alphas[-1] else 1 - 1 / len(self.alphas))  # where its log-SNR is finite
    prior_std = property(lambda self: math.hypot(self.alphas[-1], self.sigmas[-1]))

    def __post_init__(self):
        for name in ("alphas", "sigmas"):
            table = as_tensor(name, getattr(self, name), torch.float64)
            if table.ndim != 1:
                raise ValueError(f"{name} must have shape (N,), N at least 3; got {tuple(table.shape)}")
            values = tuple(table.tolist())
            object.__setattr__(self, name, values)
            low = 0 if name == "alphas" else math.ulp(0)
            bad = [k for k, v in enumerate(values) if not math.isfinite(v) or v < low]
            if bad or len(values) < 3:
                found = f"{len(values)} values" + (f", {values[bad[0]]} at {bad[0]}" if bad else "")
                raise ValueError(f"{name} must be at least 3 finite numbers, none negative, no sigma 0; got {found}")
        if len(self.alphas) != len(self.sigmas):
            raise ValueError(f"alphas and sigmas must go together; got {len(self.alphas)} and {len(self.sigmas)}")
        alpha = torch.tensor(self.alphas, dtype=torch.float64, device="cpu")
        sigma = torch.tensor(self.sigmas, dtype=torch.float64, device="cpu")
        if bool((alpha[:-1] == 0).any()) or not bool((alpha / sigma).diff().lt(0).all()):
            raise ValueError("alphas / sigmas must fall at every step, to 0 at the last at the earliest")
        count = len(alpha) - int(alpha[-1] == 0)
        knots = torch.arange(1, len(alpha) + 1, dtype=torch.float64, device="cpu") / len(alpha)
        log_snr, size = 2 * (alpha.log() - sigma.log()), torch.log(alpha**2 + sigma**2)
        snr_slopes, size_slopes = _slopes(knots[:count], log_snr[:count]), _slopes(knots, size)
        object.__setattr__(self, "_table", (knots, count, log_snr, snr_slopes, size, size_slopes))

    def _at(self, t):
        """log-SNR and log(alpha^2 + sigma^2) at t, each with its derivative."""
        knots, count, log_snr, snr_slopes, size, size_slopes = (
            v.to(t.device) if isinstance(v, torch.Tensor) else v for v in self._table
        )
        inner = t.clamp(knots[0], knots[count - 1])
        value, rate = _cubic(inner, knots[:count], log_snr[:count], snr_slopes)
        early, late = t < knots[0], t > knots[count - 1]
        power = -snr_slopes[0] * knots[0]  # log-SNR = its value at the first knot - power log(t / knot)
        value = torch.where(early, log_snr[0] - power * torch.log(t / knots[0]), value)
        rate = torch.where(early, -power / t, rate)
        if count < len(knots):
            left = 1 - knots[count - 1]
            power = -snr_slopes[-1] * left
            value = torch.where(late, log_snr[count - 1] + power * torch.log((1 - t) / left), value)
            rate = torch.where(late, -power / (1 - t), rate)
        norm, norm_rate = _cubic(t.clamp(min=knots[0]), knots, size, size_slopes)
        start = size[0] / knots[0]  # linear from 0, where alpha = 1 and sigma = 0
        return value, rate, torch.where(early, start * t, norm), torch.where(early, start, norm_rate)

    def log_snr(self, t):
        return self._at(t)[0]

    def time(self, log_snr):
        knots, count, values, slopes = (
            v.to(log_snr.device) if isinstance(v, torch.Tensor) else v for v in self._table[:4]
        )
        knots, values, wanted = knots[:count], values[:count], log_snr.clamp(values[count - 1], values[0])
        i = torch.searchsorted(-values, -wanted).clamp(1, count - 1) - 1
        low, high = knots[i], knots[i + 1]
        t = low + (wanted - values[i]) / (values[i + 1] - values[i]) * (high - low)
        for _ in range(8):  # Newton, from the chord of an interval in which the cubic falls
            value, rate = _cubic(t, knots, values, slopes)
            t = torch.minimum(torch.maximum(t - (value - wanted) / rate, low), high)
        # The powers at the ends, inverted.
        early = knots[0] * torch.exp((log_snr - values[0]) / (slopes[0] * knots[0]))
        left = 1 - knots[-1]
        late = 1 - left * torch.exp((values[-1] - log_snr) / (slopes[-1] * left)) if count < len(self.alphas) else 1.0
        return torch.where(log_snr > values[0], early, torch.where(log_snr < values[-1], late, t))

    def alpha(self, t):
        value, _, size, _ = self._at(t)
        return torch.exp((size + logsigmoid(value)) / 2)

    def sigma(self, t):
        value, _, size, _ = self._at(t)
        return torch.exp((size + logsigmoid(-value)) / 2)

    def d_alpha(self, t):
        value, rate, size, size_rate = self._at(t.clamp(_EDGE, 1 - _EDGE))
        return torch.exp((size + logsigmoid(value)) / 2) * (size_rate + rate * torch.sigmoid(-value)) / 2

    def d_sigma(self, t):
        value, rate, size, size_rate = self._at(t.clamp(_EDGE, 1 - _EDGE))
        return torch.exp((size + logsigmoid(-value)) / 2) * (size_rate - rate * torch.sigmoid(value)) / 2

    def __repr__(self):
        values = ", ".join(f"{self.log_snr(t):.2f}" for t in (0.1, 0.25, 0.5, 0.75, 0.9))
        return f"Tabulated({len(self.alphas)} times)  # log-SNR {values} at t = 0.1, 0.25, 0.5, 0.75, 0.9"
