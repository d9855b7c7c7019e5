"""Inverse problems: samples of x_0 given y = A x_0 + noise_std n, by denoisers that wrap a denoiser.

All three correct the denoiser as in gradient.py, D' = D + sigma^2 / alpha grad log p(y | x_t), with a Gaussian for
p(x_0 | x_t), and differ in its covariance V. With J = dD / dx_t, for which V = sigma^2 / alpha J (Tweedie):

    DPS      D' = D - zeta sigma^2 / alpha grad |y - A(D)|                         one pass back through the network
    PiGDM    D' = D + sigma^2 / alpha J^T A^T (s^2 I + r_t^2 A A^T)^-1 (y - A D)   one pass back
    MMPS     D' = D + V A^T (s^2 I + A V A^T)^-1 (y - A D)                         iterations + 1 passes back

The measurement y of each sample is the argument `measurement` of the condition:

    posterior = MMPS(denoiser, A, noise_std=0.1)
    sample(posterior, shape, plan, 64, condition={"measurement": y})

A is any callable on (B, *), each of its rows its own; its adjoint comes from autograd. All reductions are per sample.
A and y are in the data's units, of a denoiser that has any; data_std is of what the network sees.
"""

import torch

from ... import ops
from ...common.checks import as_tensor, require_callable, require_integer, require_names, require_number
from ...common.eval_mode import evaluating
from ...common.units import original
from ...ops.dispatch import per_row
from ..process.denoisers import require_answer
from .gradient import GuidedDenoiser, pullback, take


def _conjugate_gradients(operator, b, iterations, least):
    """v with operator(v) = b of each sample, b: (B, *), for an operator whose eigenvalues are at least `least` >= 0.

    A fixed number of iterations. A sample stops by itself where it is solved, and where its curvature is well below
    `least`: a trained network's Jacobian need not be that of any covariance.
    """
    v, residual, direction = torch.zeros_like(b), b, b
    square = ops.dot(b, b)
    live = torch.ones_like(square, dtype=torch.bool)
    for _ in range(iterations):
        image = operator(direction)
        curvature = ops.dot(direction, image)
        live = live & (curvature > least / 2 * ops.dot(direction, direction))
        step = per_row(torch.where(live, square / torch.where(live, curvature, 1), 0), b)
        v, residual = v + step * direction, residual - step * image
        last, square = square, ops.dot(residual, residual)
        direction = residual + per_row(square / torch.where(last > 0, last, 1), b) * direction
    return v


class _Measured(GuidedDenoiser):
    """What the methods share: the operator, its arguments, and the measurement out of the condition."""

    def __init__(self, denoiser, A, operands):
        super().__init__(denoiser)
        self.A = require_callable("A", A)
        self.operands = require_names("operands", operands)

    def guided(self, x, t, gain, denoise, condition):
        owner = type(self).__name__
        y = as_tensor("measurement", take(("measurement",), condition, owner)["measurement"], x.dtype).to(x.device)
        if y.shape[:1] != x.shape[:1]:
            raise ValueError(f"measurement must have shape ({len(x)}, *), a row a sample; got {tuple(y.shape)}")
        operands = take(self.operands, condition, "the operands of A")

        def A(x_0):
            with evaluating(self.A):
                image = self.A(original(self.units, x_0), **operands)
            return require_answer(image, y, "A", "the measurement", "real floating-point numbers")

        with torch.enable_grad():
            rest = {k: v for k, v in condition.items() if k != "measurement" and k not in self.operands}
            D = denoise(**rest)
            if not D.requires_grad:
                raise ValueError("denoiser must be differentiable in x_t; its answer does not require a gradient")
        return D + self.correction(x, t, gain, D, y, A)

    def correction(self, x, t, gain, D, y, A):
        """sigma^2 / alpha grad log p(y | x_t)."""
        raise NotImplementedError


class DPS(_Measured):
    """D' = D - zeta sigma^2 / alpha grad_{x_t} |y - A(D)|. Chung et al. 2022, "Diffusion posterior sampling",
    arXiv:2209.14687, algorithm 1.

    The norm is that of each sample. The paper subtracts zeta grad |y - A(D)|^2 / |y - A(D)| from x' at each of 1000
    steps; as a part of the score it does not depend on the number of steps. It is not the posterior of any noise_std:
    the size of the residual stands for that.

    A: (B, *) -> (B, ...), differentiable, not necessarily linear; A(x_0, **operands) where `operands` names arguments
    of the condition that are A's and not the network's, such as the mask of each sample. zeta: 0 or more, in units of
    1 / y; judge it by the |y - A(x_0)| that it leaves, 10 to 30 being a start for data of unit scale. Raises TypeError
    and ValueError naming the argument.
    """

    def __init__(self, denoiser, A, zeta=1.0, *, operands=()):
        super().__init__(denoiser, A, operands)
        self.zeta = require_number("zeta", zeta, least=0)

    def correction(self, x, t, gain, D, y, A):
        with torch.enable_grad():
            image = A(D)
        error = y - image
        square = per_row(ops.dot(error, error), error)
        direction = torch.where(square > 0, error / torch.where(square > 0, square, 1).sqrt(), 0 * error)
        return self.zeta * gain * pullback(image, x, direction)


class _Linear(_Measured):
    """A method for linear operators, which checks on random vectors, once for each shape, that it has one."""

    def __init__(self, denoiser, A, noise_std, iterations, operands):
        super().__init__(denoiser, A, operands)
        self.variance = require_number("noise_std", noise_std, least=0) ** 2
        self.iterations = require_integer("iterations", iterations, 1)
        self._checked = set()

    def correction(self, x, t, gain, D, y, A):
        if self.units is not None:  # of the standardized x_0, A is linear and more: what it makes of their mean
            whole, y = A, y - A(torch.zeros_like(D))

            def A(x_0):
                return whole(x_0) - whole(torch.zeros_like(x_0))

        kind = (min(len(D), 2), D.shape[1:], D.dtype, D.device)  # two samples show whether rows mix
        if kind not in self._checked:  # reads the device, this once
            _require_linear(A, D)
            self._checked.add(kind)
        with torch.enable_grad():
            probe = D.detach().requires_grad_()
            image = A(probe)
            if not image.requires_grad:
                raise ValueError("A must be differentiable; its answer does not require a gradient")

        def adjoint(v):
            return pullback(image, probe, v)

        def covariance(u):
            return gain * pullback(D, x, u)

        def solve(spread):
            """(s^2 I + A spread A^T)^-1 (y - A D)."""
            return _conjugate_gradients(
                lambda v: self.variance * v + A(spread(adjoint(v))), y - A(D), self.iterations, self.variance
            )  # fmt: skip

        return covariance(adjoint(self.solution(t, D, covariance, solve)))

    def solution(self, t, D, covariance, solve):
        """(s^2 I + A W A^T)^-1 (y - A D), for the method's W."""
        raise NotImplementedError


def _require_linear(A, like):
    """Raises a ValueError unless A is linear, and each of its rows its own, on two random batches."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        a, b = (
            torch.randn(like.shape, generator=generator, dtype=torch.float32, device="cpu").to(like) for _ in range(2)
        )
        image = A(a)
        scale = 1e-3 * image.abs().amax() if image.numel() else 0
        if bool(((image - 2 * A(b) - A(a - 2 * b)).abs() > scale).any()):
            raise ValueError("A must be linear: A(a - 2 b) is not A(a) - 2 A(b) for random a and b")
        if bool(((A(torch.cat([b[:1], a[1:]])) - image)[1:].abs() > scale).any()):
            raise ValueError("A must treat each sample by itself: the answer to one depends on another of the batch")


class PiGDM(_Linear):
    """D' = D + sigma^2 / alpha J^T A^T (s^2 I + r_t^2 A A^T)^-1 (y - A D). Song et al. 2023, "Pseudoinverse-guided
    diffusion models for inverse problems", ICLR.

    r_t^2 = data_std^2 sigma^2 / (alpha^2 data_std^2 + sigma^2) is the variance of x_0 given x_t for Gaussian data of
    standard deviation data_std, for which D' is exact; the paper's own has data_std = 1.

    A: linear, (B, *) -> (B, ...); `operands` as in `DPS`. noise_std: s, 0 or more. iterations: of conjugate gradients,
    which need no network and are exact after as many as A A^T has distinct eigenvalues: one for a mask. Raises
    TypeError and ValueError naming the argument.
    """

    def __init__(self, denoiser, A, noise_std, *, data_std=1.0, iterations=10, operands=()):
        super().__init__(denoiser, A, noise_std, iterations, operands)
        self.data_variance = require_number("data_std", data_std, above=0) ** 2

    def solution(self, t, D, covariance, solve):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        r2 = self.data_variance * sigma**2 / (alpha**2 * self.data_variance + sigma**2)
        return solve(lambda u: per_row(r2.to(D.dtype), D) * u)


class MMPS(_Linear):
    """D' = D + V A^T (s^2 I + A V A^T)^-1 (y - A D), V = Cov(x_0 | x_t) = sigma^2 / alpha J. Rozet et al. 2024,
    "Learning diffusion priors from observations by expectation maximization", arXiv:2405.13712.

    Exact for Gaussian data. J comes in through its transpose, one pass back through the network per iteration; the
    exact J is symmetric, and a trained one is taken to be.

    A: linear, (B, *) -> (B, ...); `operands` as in `DPS`. noise_std: s, 0 or more. iterations: of conjugate gradients.
    Raises TypeError and ValueError naming the argument.
    """

    def __init__(self, denoiser, A, noise_std, *, iterations=3, operands=()):
        super().__init__(denoiser, A, noise_std, iterations, operands)

    def solution(self, t, D, covariance, solve):
        return solve(covariance)
