"""p(x | z) of a variational autoencoder: what a decoder's output says of an observation.

A likelihood is a Module with, for the decoder's output f, in the shape of x,

    log_prob(x, f) -> (B,)        log p(x | z) in nats, summed over the elements of x: a density, or a probability
    mean(f) -> x's shape          E[x | z]
    draw(f, key) -> x's shape     x ~ p(x | z), row b a function of key[b]

Its spread is a parameter of its own, not an output of the decoder: one number for all elements, or one each of `shape`,
which broadcasts against x.  (An output of its own for each x lets a decoder's density go to infinity on a sample.)
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..common.checks import require_choice, require_count, require_number, require_samples, require_shape
from ..common.keys import require_key
from ..common.precision import readable


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which to compute: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _total(terms: Tensor) -> Tensor:
    return terms.flatten(1).sum(1)


# Adam moves a parameter by its learning rate a step, and a logarithm has further to go than a weight.
RATE = 10.0


def _spread(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a spread, () for one of all elements."""
    return () if isinstance(shape, tuple | list) and not shape else require_shape("shape", shape)


def _checked(**tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, of floating-point numbers and of one shape; TypeError or ValueError names the one that is not."""
    checked = {name: require_samples(name, value, batch="B") for name, value in tensors.items()}
    (first, like), *others = checked.items()
    for name, value in others:
        if value.shape != like.shape:
            raise ValueError(f"{name} must have the shape of {first}, {tuple(like.shape)}; got {tuple(value.shape)}")
    return tuple(checked.values())


def _held(free: Tensor, floor: float) -> Tensor:
    """RATE times a free parameter, but never below `floor`."""
    return floor + F.softplus(RATE * free.to(wide(free.dtype)) - floor)


class _Likelihood(nn.Module):
    shape: tuple[int, ...] = ()  # of its spread
    levels: int | None = None  # x has so many, -1 to 1 at equal distances, each with a probability; None: a density

    def check(self, x: Tensor) -> None:
        """Raises ValueError if x cannot be an observation; on a GPU, or under `no_host_reads`, its values are
        not looked at."""
        wanted = tuple(require_samples("x", x).shape[1:])
        fits = zip(self.shape[::-1], wanted[::-1], strict=False)
        if len(self.shape) > len(wanted) or any(n not in (1, m) for n, m in fits):
            raise ValueError(f"shape of a likelihood must broadcast against that of x, {wanted}; got {self.shape}")

    def check_data(self, x: Tensor) -> None:
        """`check` of all data, a part at a time, wherever they are."""
        for part in require_samples("x", x).split(4096):
            self.check(part.cpu())

    def config(self) -> dict:
        """The constructor's arguments, for a checkpoint."""
        return {}


class Gaussian(_Likelihood):
    """x | z ~ N(f, sigma^2 I), sigma given."""

    def __init__(self, sigma: float = 1.0):
        super().__init__()
        self.sigma = require_number("sigma", sigma, above=0)

    def log_variance(self, f: Tensor) -> Tensor:
        return f.new_full((), 2 * math.log(self.sigma), dtype=wide(f.dtype))

    def log_prob(self, x: Tensor, f: Tensor) -> Tensor:
        x, f = _checked(x=x, f=f)
        l = self.log_variance(f)
        # In place where backward keeps nothing: an x of many draws is large.
        return -0.5 * _total(((x - f).square() * (-l).exp()).add_(l).add_(math.log(2 * math.pi)))

    def mean(self, f: Tensor) -> Tensor:
        return _checked(f=f)[0]

    def draw(self, f: Tensor, key: Tensor) -> Tensor:
        (f,) = _checked(f=f)
        require_key(key, len(f))
        z = ops.normal(key, f.shape[1:], ops.Purpose.TRAIN).to(wide(f.dtype))
        return (f + (0.5 * self.log_variance(f)).exp() * z).to(f.dtype)

    def config(self) -> dict:
        return {"sigma": self.sigma}


class LearnedVariance(Gaussian):
    """x | z ~ N(f, diag(sigma^2)), sigma^2 a parameter, of one element or of `shape`. (Rybkin et al. 2021,
    arXiv:2006.13202.)

    log sigma^2 = floor + softplus(10 parameter - floor): never below `floor`, by default -12, sigma = 0.0025, so that
    the likelihood of data without spread stays finite. It starts at 0.
    """

    def __init__(self, shape: Sequence[int] = (), floor: float = -12.0):
        super().__init__()
        self.shape, self.floor = _spread(shape), require_number("floor", floor)
        self.free = nn.Parameter(torch.zeros(self.shape))

    def log_variance(self, f: Tensor) -> Tensor:
        return _held(self.free, self.floor)

    def config(self) -> dict:
        return {"shape": list(self.shape), "floor": self.floor}


class Bernoulli(_Likelihood):
    """x in {-1, 1}, P(x = 1 | z) = 1 / (1 + e^-f). Gray values between, which `fit` and `evaluate` refuse, count in
    `VAE.loss` as that share of either: no longer a likelihood, but a common loss."""

    levels = 2

    def check(self, x: Tensor) -> None:
        super().check(x := require_samples("x", x))
        if readable(x) and x.numel() and not bool((x.abs() <= 1).all()):
            raise ValueError(f"x must lie in [-1, 1] for a Bernoulli likelihood; got {x.min():g} to {x.max():g}")

    def check_data(self, x: Tensor) -> None:
        """Values between -1 and 1 are refused too: of data from 0 to 1, 0 would be taken for a gray of one half."""
        if not all(bool((part.abs() == 1).all()) for part in require_samples("x", x).split(4096)):
            got = f"others, from {x.min():g} to {x.max():g}"
            raise ValueError(f"x must hold -1 and 1 alone for a Bernoulli likelihood; got {got}")

    def log_prob(self, x: Tensor, f: Tensor) -> Tensor:
        x, f = _checked(x=x, f=f)
        return _total((x + 1) / 2 * f - F.softplus(f))

    def mean(self, f: Tensor) -> Tensor:
        return (_checked(f=f)[0] / 2).tanh()

    def draw(self, f: Tensor, key: Tensor) -> Tensor:
        (f,) = _checked(f=f)
        require_key(key, len(f))
        u = ops.uniform(key, f.shape[1:], ops.Purpose.TRAIN).to(f.dtype)
        return torch.where(u < f.sigmoid(), 1.0, -1.0).to(f.dtype)


class DiscretizedLogistic(_Likelihood):
    """x at `levels` equal distances from -1 to 1; with h = 1 / (levels - 1) and s the scale,

        P(x | z) = sigmoid((x + h - f) / s) - sigmoid((x - h - f) / s),

    the bins of -1 and 1 reaching to infinity. (Salimans et al. 2017, arXiv:1701.05517, equation 2; s is a parameter
    as in Kingma et al. 2016, arXiv:1606.04934.)  log s, of one element or of `shape`, is held above -7 as by
    `LearnedVariance`, and starts at -1. With a and b the two arguments the difference is
    sigmoid(a) sigmoid(-b) (1 - e^(b - a)), which keeps its digits in the tails.
    """

    def __init__(self, levels: int = 256, shape: Sequence[int] = (), floor: float = -7.0):
        super().__init__()
        self.levels, self.shape = require_count("levels", levels, 2, 2**53), _spread(shape)
        self.floor = require_number("floor", floor)
        self.free = nn.Parameter(torch.full(self.shape, -1.0 / RATE))

    @property
    def log_scale(self) -> Tensor:
        return _held(self.free, self.floor)

    def check(self, x: Tensor) -> None:
        super().check(x := require_samples("x", x))
        if not readable(x) or not x.numel():
            return
        place = (x.double() + 1) * ((self.levels - 1) / 2)
        if not bool(((place - place.round()).abs() < 0.01).all()) or x.abs().max() > 1 + 1e-6:
            raise ValueError(f"x must hold {self.levels} levels at equal distances from -1 to 1; got other values")

    def log_prob(self, x: Tensor, f: Tensor) -> Tensor:
        x, f = _checked(x=x, f=f)
        h, per_scale = 1 / (self.levels - 1), (-self.log_scale).exp()
        lowest, highest = x < h - 1, x > 1 - h
        under_the_upper_edge = torch.where(highest, 0.0, F.logsigmoid((x + h - f) * per_scale))
        over_the_lower_edge = torch.where(lowest, 0.0, F.logsigmoid((f - x + h) * per_scale))
        width = torch.where(lowest | highest, 0.0, (-torch.expm1(-2 * h * per_scale)).log())
        return _total(under_the_upper_edge + over_the_lower_edge + width)

    def mean(self, f: Tensor) -> Tensor:
        """f itself, held to [-1, 1]: what the mean is but for rounding to a level and for the edges."""
        return _checked(f=f)[0].clamp(-1, 1)

    def draw(self, f: Tensor, key: Tensor) -> Tensor:
        (f,) = _checked(f=f)
        require_key(key, len(f))
        u = ops.uniform(key, f.shape[1:], ops.Purpose.TRAIN, dtype=torch.float64) + 2.0**-25
        x = (f + self.log_scale.exp() * u.logit()).clamp(-1, 1)
        h = 1 / (self.levels - 1)
        return (((x + 1) / (2 * h)).round() * (2 * h) - 1).to(f.dtype)

    def config(self) -> dict:
        return {"levels": self.levels, "shape": list(self.shape), "floor": self.floor}


LIKELIHOODS = {
    "gaussian": Gaussian,
    "learned_variance": LearnedVariance,
    "bernoulli": Bernoulli,
    "discretized_logistic": DiscretizedLogistic,
}


def as_likelihood(value: str | nn.Module) -> nn.Module:
    """A likelihood, or the one of that name with its defaults; a ValueError or TypeError says which there are."""
    if isinstance(value, str):
        return LIKELIHOODS[require_choice("likelihood", value, LIKELIHOODS)]()
    if not isinstance(value, tuple(LIKELIHOODS.values())):
        raise TypeError(f"likelihood must be a name or one of genfast.vae.likelihoods; got {type(value).__name__}")
    return value


def describe(likelihood: nn.Module) -> dict:
    """{"name", "arguments"} of a likelihood, for a checkpoint; its parameters are in its state."""
    name = next(name for name, kind in LIKELIHOODS.items() if type(likelihood) is kind)
    return {"name": name, "arguments": likelihood.config()}
