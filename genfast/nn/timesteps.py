"""Features of time as a number of steps, as discrete-time models have it."""

from .. import ops
from ..common.checks import require_bool, require_integer, require_number
from .conditioning import TimeFeatures


class Sinusoid(TimeFeatures):
    """phi(t) = [sin(s t f_k), cos(s t f_k)], with `flip` [cos, sin]; f_k = 10000^(-k / (K - shift)), k < K, twice K
    being `features`, and s = scale.

    t: (B,) float, s t up to about 1000 -> (B, features). (Ho et al. 2020, arXiv:2006.11239.)
    """

    def __init__(self, features: int, shift: float = 0.0, flip: bool = False, scale: float = 1.0):
        features, shift = require_integer("features", features, 2), require_number("shift", shift)
        if features % 2 or features <= 2 * shift:
            raise ValueError(f"features must be even and more than 2 shift, {2 * shift:g}; got {features}")
        scale, flip = require_number("scale", scale, above=0), require_bool("flip", flip)
        super().__init__(scale * ops.sinusoidal_frequencies(features // 2, shift=shift), flip=flip)
