"""Features of time as a number of steps, as discrete-time models have it."""

from torch import Tensor, nn

from .. import ops


class Sinusoid(nn.Module):
    """phi(t) = [sin(t f_k), cos(t f_k)], with `flip` [cos, sin]; f_k = 10000^(-k / (K - shift)), k < K = features / 2.

    t: (B,) float, up to about 1000 -> (B, features) in float32 or better. (Ho et al. 2020, arXiv:2006.11239.)
    """

    def __init__(self, features: int, shift: float = 0.0, flip: bool = False):
        super().__init__()
        if features < 2 or features % 2 or features <= 2 * shift:
            raise ValueError(f"features must be even and more than 2 shift = {2 * shift}, got {features}")
        self.features, self.shift, self.flip = features, shift, flip

    def forward(self, t: Tensor) -> Tensor:
        return ops.time_embedding(t, ops.sinusoidal_frequencies(self.features // 2, shift=self.shift), flip=self.flip)
