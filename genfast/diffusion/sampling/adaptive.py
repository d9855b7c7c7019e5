"""Adaptive sampling: Dormand-Prince 5(4) on the probability-flow ODE, each sample at its own time with its own step.

    dx/dt = (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) D        Song et al. 2021, arXiv:2011.13456

The error of a step is that of its sample alone, and so are the decision to keep it and the size of the next: a sample
is a function of (network, seed, sample index, tolerances, condition), and a stiff one costs its batch-mates nothing but
network calls in which they rest.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from ... import ops
from ...common.checks import (
    require_bool,
    require_choice,
    require_chunk,
    require_device,
    require_integer,
    require_number,
    require_shape,
)
from ...common.indices import as_index, chunk_index, chunk_passes, require_finite, spread
from ...common.keys import MAX_SEED
from ...common.units import original
from ...ops.dispatch import per_row
from ..process.denoisers import Denoiser, require_denoiser
from .sample import network_arguments
from .settings import DTYPES

# Dormand & Prince 1980, J. Comput. Appl. Math. 6, 19-26: the nodes, the stages, and fifth minus fourth order.  The last
# stage is the result itself, so its slope is the first of the next step.
_NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

# The controller: Hairer, Norsett, Wanner 1993, Solving Ordinary Differential Equations I, section II.4.
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0


class _Field:
    """The right-hand side for a chunk, and its denoiser, as factors of x and of the network's output at given times."""

    def __init__(self, denoiser: Denoiser, condition: dict[str, Tensor]):
        self.denoiser, self.condition = denoiser, condition

    def slope(self, times: Tensor) -> Tensor:
        """c_in, c_noise and the factors of x and F in dx/dt: (4, *) for times (*), float64."""
        t, schedule = times.flatten(), self.denoiser.schedule
        c = self.denoiser.coefficients(t)
        rate = schedule.d_sigma(t) / schedule.sigma(t)
        D_rate = schedule.d_alpha(t) - schedule.alpha(t) * rate
        # D = c_skip x + c_out F is put in before rounding: where F is nearly dx/dt, its factors nearly cancel.
        factors = torch.stack([c.c_in, c.c_noise, rate + D_rate * c.c_skip, D_rate * c.c_out])
        return factors.view(4, *times.shape)

    def denoised(self, times: Tensor) -> Tensor:
        """The same of D."""
        c = self.denoiser.coefficients(times)
        return torch.stack([c.c_in, c.c_noise, c.c_skip, c.c_out])

    def __call__(self, x: Tensor, factors: Tensor) -> Tensor:
        """x_factor x + F_factor F at x: (B, *), for factors (4, B) or longer.

        Each operation is rounded by itself, the same anywhere in a tensor.
        """
        c_in, c_noise, x_factor, F_factor = factors[:, : len(x)].to(x.dtype)
        y = per_row(c_in, x) * x
        F = self.denoiser.network(y, c_noise, **self.condition)
        return per_row(x_factor, x) * x + per_row(F_factor, x) * F


def _longer(values: Tensor, count: int) -> Tensor:
    """(B,) as float64 (count,)."""
    return pad(values.double(), (0, count - len(values)))


def _integrate(field: _Field, x: Tensor, rtol: float, atol: float, max_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """x from t = 1 to t_min, evaluations of each sample, and whether it is still on its way after max_steps.

    What is known of a sample's time is float64, on the device, in tensors whose length is a multiple of 64: torch's
    vector loops then have no remainder, for which they use other code with other last digits, and a sample does not
    depend on where in its chunk it is.
    """
    batch, end = len(x), field.denoiser.schedule.t_min
    count = -(-batch // 64) * 64
    t = torch.ones(count, dtype=torch.float64, device=x.device)
    k = x.new_empty(7, *x.shape)
    k[0] = field(x, field.slope(t))
    # The first step moves x by a hundredth of its norm.
    ratio = torch.sqrt(ops.dot(x, x) / ops.dot(k[0], k[0]))
    h = 0.01 * _longer(ratio, count).nan_to_num(1.0, 1.0).clamp(max=1 - end)
    active = torch.arange(count, device=x.device) < batch
    growth = torch.full_like(t, _GROW)
    evaluations = torch.ones_like(t, dtype=torch.int64)
    stages = [x.new_tensor(row, dtype=torch.float64) for row in (*_STAGES, _ERROR)]

    for _ in range(max_steps):
        s = torch.where(t - 1.01 * h <= end, end, t - h)  # a last step is stretched rather than followed by a sliver
        s = torch.where(active, s, t)
        span = s - t  # 0 for a sample that is done: it keeps its bits

        factors = field.slope(torch.stack([s if node == 1 else t + node * span for node in _NODES]))
        weights = [(span[:batch, None] * row).to(x.dtype) for row in stages]
        for i in range(1, 7):
            k[i] = field(ops.runge_kutta(x, k[:i], weights[i])[0], factors[:, i])
        following, err = ops.runge_kutta(x, k, pad(weights[6], (0, 1)), weights[7], rtol=rtol, atol=atol)
        err = _longer(err, count)
        evaluations += 6 * active
        accept = active & (err <= 1)
        kept = per_row(accept[:batch], x)
        x, k[0] = torch.where(kept, following, x), torch.where(kept, k[6], k[0])
        t = torch.where(accept, s, t)
        # An error that is not finite shrinks the step as a large one does; after a rejection no step grows.
        factor = torch.minimum((_SAFETY * err**-0.2).nan_to_num(_SHRINK).clamp(min=_SHRINK), growth)
        h = torch.where(active, -span * factor, h)
        growth = torch.where(accept, _GROW, 1.0)
        active = active & (t > end)
        stuck = active & (h <= 1e-15 * t)  # no step is small enough: the slope is not finite
        x = torch.where(per_row(stuck[:batch], x), math.nan, x)
        active = active & ~stuck
        if not bool(active.any()):
            break
    return x, evaluations[:batch], active[:batch]


@torch.no_grad()
def sample_adaptively(
    denoiser: Denoiser,
    shape: Sequence[int],
    index: int | Sequence[int] | Tensor,
    *,
    seed: int = 0,
    condition: dict[str, Tensor] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    chunk: int = 64,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    max_steps: int = 10_000,
    progress: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""Samples x_0, (N, *shape) in `dtype`, and the number of network evaluations of each, (N,) int64.

    From x_1 = prior_std z, as `sampling.sample`, along dx/dt to t_min by Dormand-Prince 5(4), then x_0 = D. A step from
    x to x' is kept if the root mean square of its error over atol + rtol max(|x|, |x'|) is at most 1 (Hairer, Norsett,
    Wanner 1993, Solving Ordinary Differential Equations I, section II.4). A sample takes 2 evaluations and 6 more for
    each step, kept or not.

    index: N, for samples 0 to N - 1, or the (N,) indices themselves.  condition: keyword arguments of the network, each
    (N, *).  chunk: samples per network call, slot = index mod chunk, as in `sampling.sample`; samples that are done go
    on with steps of 0 until all of their chunk are.  dtype: of the state; float64 runs by plain torch.  rtol: at least
    8 eps of the dtype, which it can resolve.  max_steps: that a sample may try.

    This is the one sampler that must read the device: one flag a step, whether any sample is still on its way.

    Raises ValueError naming the argument, RuntimeError if a sample needs more than max_steps, FloatingPointError if one
    is not finite.
    """
    require_denoiser(denoiser)
    index, device = as_index("index", index), require_device("device", device)
    shape, seed = require_shape("shape", shape), require_integer("seed", seed, 0, MAX_SEED)
    chunk, max_steps = require_chunk(chunk), require_integer("max_steps", max_steps, 1)
    dtype = require_choice("dtype", dtype, DTYPES)
    rtol = require_number("rtol", rtol, least=8 * torch.finfo(dtype).eps)
    atol = require_number("atol", atol, above=0)
    condition = network_arguments(None, condition, None, index, dtype)[0]
    progress = require_bool("progress", progress)

    out = torch.empty(len(index), *shape, dtype=dtype, device=device)
    evaluations = torch.zeros(len(index), dtype=torch.int64, device="cpu")
    schedule = denoiser.schedule
    passes = list(chunk_passes(index, chunk))
    bar = tqdm(passes, desc="sampling", unit="chunk", leave=False, delay=2, disable=not progress)
    with denoiser.evaluating():
        for first, where in bar:
            slots = index[where] - first
            key = ops.make_key(seed, chunk_index(first, chunk), device)
            field = _Field(denoiser, {name: spread(v[where], slots, chunk).to(device) for name, v in condition.items()})
            start = schedule.prior_std * ops.normal(key, shape, ops.Purpose.PRIOR, dtype=dtype)
            x, used, active = _integrate(field, start, rtol, atol, max_steps)
            if bool(active.any()):
                late = (first + active.nonzero().flatten()).tolist()
                raise RuntimeError(f"samples {late[:5]} are not done after max_steps = {max_steps} steps")
            last = torch.full((chunk,), schedule.t_min, dtype=torch.float64, device=device)
            out[where.to(device)] = field(x, field.denoised(last))[slots.to(device)]
            evaluations[where] = used.cpu()[slots] + 1
    require_finite(out, index)
    return original(denoiser.units, out), evaluations
