"""Inverse problems against the closed-form posterior of Gaussian data, and the promise that a sample is its own."""

import functools
import math

import numpy as np
import pytest
import torch
from helpers import MEANS, VARIANCES, WEIGHTS, five_modes, normal, perturbed

from genfast import nn
from genfast.diffusion import sampling
from genfast.diffusion.guidance.gradient import ClassifierGuidance
from genfast.diffusion.guidance.inverse import DPS, MMPS, PiGDM, _conjugate_gradients
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.process.grids import log_snr
from genfast.diffusion.solvers import plan
from genfast.diffusion.solvers.repaint import repaint
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

VP, EDM, FLOW = schedules.VPLinear(), schedules.EDM(), schedules.Flow()
every_schedule = pytest.mark.parametrize("schedule", [VP, EDM, FLOW], ids=["vp", "edm", "flow"])
sample = functools.partial(sampling.sample, progress=False)


MEAN = normal(4, seed=1)
ROOT = normal(4, 4, seed=2) / 2
FULL = ROOT @ ROOT.T + 0.05 * torch.eye(4, dtype=torch.float64)
ISOTROPIC = 0.6**2 * torch.eye(4, dtype=torch.float64)
MATRIX = normal(2, 4, seed=3)
STD = 0.3


def A(x_0):
    return x_0.flatten(1) @ MATRIX.to(x_0.dtype).T


def gaussian(covariance, schedule=VP, shape=(4,)):
    return GaussianMixtureDenoiser([1.0], MEAN.view(1, *shape), covariance[None], schedule)


def posterior(covariance, y, x_t=None, alpha=1.0, sigma=1.0):
    """Mean and covariance of x_0 ~ N(MEAN, covariance) given y = A x_0 + STD n and, where given, x_t."""
    precision = torch.linalg.inv(covariance) + MATRIX.T @ MATRIX / STD**2
    linear = torch.linalg.inv(covariance) @ MEAN + y @ MATRIX / STD**2
    if x_t is not None:
        precision = precision + (alpha / sigma) ** 2 * torch.eye(4, dtype=torch.float64)
        linear = linear + alpha / sigma**2 * x_t
    return linear @ torch.linalg.inv(precision), torch.linalg.inv(precision)


METHODS = {
    "mmps": (FULL, lambda denoiser: MMPS(denoiser, A, STD, iterations=4)),
    "pigdm": (ISOTROPIC, lambda denoiser: PiGDM(denoiser, A, STD, data_std=0.6)),
}
every_method = pytest.mark.parametrize("covariance, method", METHODS.values(), ids=METHODS)


@every_method
@every_schedule
@pytest.mark.parametrize("t", [0.01, 0.2, 0.6, 0.95])
def test_the_mean_of_the_posterior_is_exact(schedule, covariance, method, t):
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    y, noise = normal(9, 2, seed=4), normal(9, 4, seed=5)
    x_t = alpha * (MEAN + 0.7 * normal(9, 4, seed=6)) + sigma * noise
    expected, _ = posterior(covariance, y, x_t, alpha, sigma)
    out = method(gaussian(covariance, schedule))(x_t, t, measurement=y)
    assert (out - expected).abs().max() < 1e-9
    shaped = method(gaussian(covariance, schedule, (1, 2, 2)))(x_t.view(9, 1, 2, 2), t, measurement=y)
    assert (shaped - expected.view(9, 1, 2, 2)).abs().max() < 1e-9
    assert (gaussian(covariance, schedule)(x_t, t) - expected).abs().max() > 1e-3


@every_method
def test_without_signal_the_posterior_is_that_of_the_measurement(covariance, method):
    y = normal(9, 2, seed=4)
    out = method(gaussian(covariance, FLOW))(normal(9, 4, seed=5), 1.0, measurement=y)
    assert (out - posterior(covariance, y)[0]).abs().max() < 0.02  # up to alpha(t_max) = 1e-3 of x_1


@every_method
@every_schedule
def test_samples_follow_the_posterior(schedule, covariance, method):
    n, y = 1000, torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    one = plan("heun", schedule, 16, "karras" if schedule == EDM else "log_snr")
    out = sample(
        method(gaussian(covariance, schedule)), (4,), one, n,
        condition={"measurement": y.expand(n, 2)}, chunk=n, dtype=torch.float64,
    )  # fmt: skip
    mean, spread = posterior(covariance, y)
    variance = spread.diagonal()
    assert ((out.mean(0) - mean[0]).abs() < 5 * (variance / n).sqrt()).all()
    error = ((variance[:, None] * variance + spread**2) / n).sqrt()
    assert ((torch.cov(out.T) - spread).abs() < 5 * error).all()


def test_wrappers_wrap_wrappers():
    """A mixture guided to one component, then measured, is that component's posterior: MMPS needs its Jacobian."""
    modes = GaussianMixtureDenoiser([0.5, 0.5], torch.stack([MEAN, -MEAN]), torch.stack([FULL, ISOTROPIC]), VP)

    def log_prob(x_t, t):
        return modes._components(x_t, t)[0].log_softmax(1)[:, 0]

    t, y, x_t = 0.4, normal(9, 2, seed=4), normal(9, 4, seed=5)
    out = MMPS(ClassifierGuidance(modes, log_prob, conditions=()), A, STD, iterations=4)(x_t, t, measurement=y)
    expected, _ = posterior(FULL, y, x_t, VP.alpha(t), VP.sigma(t))
    assert (out - expected).abs().max() < 1e-9


def test_dps_moves_along_the_gradient_of_the_norm():
    t, y, x_t = 0.3, normal(9, 2, seed=4), normal(9, 4, seed=5)
    denoiser, zeta = gaussian(FULL), 0.7
    out = DPS(denoiser, A, zeta)(x_t, t, measurement=y)
    x = x_t.clone().requires_grad_()
    D = denoiser(x, t)
    gradient = torch.autograd.grad((y - A(D)).norm(dim=1).sum(), x)[0]
    assert torch.allclose(out, D - zeta * VP.sigma(t) ** 2 / VP.alpha(t) * gradient, rtol=1e-12, atol=1e-12)
    assert ((y - A(out)).norm(dim=1) < (y - A(D)).norm(dim=1)).all()
    at_rest = DPS(denoiser, A, zeta)(x_t, t, measurement=A(denoiser(x_t, t)))
    assert torch.equal(at_rest, denoiser(x_t, t))  # and no 0 / 0

    def absolute(x_0):  # not linear
        return A(x_0).abs()

    assert DPS(denoiser, absolute)(x_t, t, measurement=y.abs()).isfinite().all()


# A sample is its own --------------------------------------------------------------------------------------------------


def pooled(x_0):
    """Every second sum of neighbors: elementwise, so that rounding does not depend on the batch either."""
    return x_0[..., ::2] + 0.5 * x_0[..., 1::2]


ROWWISE = Denoiser(lambda y, t: torch.tanh(y.roll(1, -1) + y) * t.view(-1, 1, 1), VP, "v")
WRAPPERS = {
    "dps": DPS(ROWWISE, pooled, 2.0),
    "pigdm": PiGDM(ROWWISE, pooled, 0.1),
    "mmps": MMPS(ROWWISE, pooled, 0.1),
}
every_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)


@every_wrapper
def test_a_sample_does_not_depend_on_its_batch(wrapper):
    x_t, y = normal(64, 3, 10, dtype=torch.float32), normal(64, 3, 5, seed=1, dtype=torch.float32)
    t = torch.linspace(0.01, 0.99, 64)
    whole = wrapper(x_t, t, measurement=y)
    assert whole.dtype == torch.float32
    for i in (0, 5, 63):
        assert torch.equal(wrapper(x_t[i : i + 1], t[i : i + 1], measurement=y[i : i + 1])[0], whole[i])
    assert torch.equal(wrapper(x_t[:8], t[:8], measurement=y[:8]), whole[:8])
    x_t[1:], y[1:] = 5.0, -30.0
    assert torch.equal(wrapper(x_t, t, measurement=y)[0], whole[0])
    x_t[1] = math.nan
    assert torch.equal(wrapper(x_t, t, measurement=y)[0], whole[0])
    assert wrapper(x_t, t, measurement=y)[1].isnan().any()
    assert wrapper(x_t[:0], t[:0], measurement=y[:0]).shape == (0, 3, 10)


@every_wrapper
def test_samples_take_their_measurements_along(wrapper):
    y, one = normal(11, 3, 5, dtype=torch.float32), plan("dpmpp_2m_sde", VP, 5)
    whole = sample(wrapper, (3, 10), one, 11, condition={"measurement": y}, chunk=4)
    for index in ([10, 2, 2], [0]):
        some = sample(wrapper, (3, 10), one, index, condition={"measurement": y[index]}, chunk=4)
        assert torch.equal(some, whole[index])
    assert torch.equal(sample(wrapper, (3, 10), one, 11, condition={"measurement": y}, chunk=7), whole)
    assert not torch.equal(sample(wrapper, (3, 10), one, 11, condition={"measurement": y + 1}, chunk=4), whole)


def test_the_strength_of_dps_does_not_depend_on_the_batch():
    x_t, y = normal(1, 4), normal(1, 2, seed=1)
    denoiser = gaussian(FULL)
    alone = (DPS(denoiser, A)(x_t, 0.3, measurement=y) - denoiser(x_t, 0.3)).norm()
    for B in (4, 64):
        shift = DPS(denoiser, A)(x_t.expand(B, 4), 0.3, measurement=y.expand(B, 2)) - denoiser(x_t.expand(B, 4), 0.3)
        assert torch.allclose(shift.norm(dim=1), alone, rtol=1e-12)


@pytest.mark.parametrize(
    "method", [DPS, functools.partial(PiGDM, noise_std=1.0), functools.partial(MMPS, noise_std=1.0)]
)
def test_the_fused_network_and_the_composed_one_agree(method):
    """float32, by the kernels, against float64, by plain torch; a bfloat16 network is guided in float32."""
    x_t, y, t = normal(5, 8), normal(5, 1, 4, seed=1), torch.linspace(0.1, 0.9, 5)
    net = perturbed(nn.MLP(8, width=16, depth=1))

    def guide(dtype):
        wrapper = method(Denoiser(net.to(dtype), VP, "v"), lambda x_0: pooled(x_0).view(-1, 1, 4))
        with torch.no_grad():
            return wrapper(x_t.to(dtype), t, measurement=y)

    half, wide, narrow = (guide(dtype) for dtype in (torch.bfloat16, torch.float64, torch.float32))
    scale = wide.abs().max()
    assert narrow.dtype == half.dtype == torch.float32 and wide.dtype == torch.float64
    assert (narrow - wide).abs().max() < 1e-4 * scale and half.isfinite().all()
    assert all(p.grad is None for p in net.parameters())


# Inpainting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [PiGDM, MMPS])
def test_inpainting_with_a_mask_of_each_samples_own(method):
    """Exact measurements: D' agrees with what is known, and a sample's known entries are that, up to the last step."""
    five_modes = GaussianMixtureDenoiser(WEIGHTS, MEANS, VARIANCES, VP)
    mask = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]], dtype=torch.float64).repeat(3, 1)
    known = mask * torch.tensor([[1.5, 0.0], [0.3, 1.4], [9.0, 9.0], [1.5, 0.0]], dtype=torch.float64).repeat(3, 1)
    inpainter = method(five_modes, lambda x_0, mask: mask * x_0, 0.0, operands=("mask",))
    condition = {"measurement": known, "mask": mask}
    if method is MMPS:
        D = inpainter(0.5 * normal(12, 2), 0.2, **condition)
        assert (mask * D - known).abs().max() < 1e-9
    free = mask.sum(1) == 0
    assert torch.equal(inpainter(normal(12, 2), 0.2, **condition)[free], five_modes(normal(12, 2), 0.2)[free])
    out = sample(inpainter, (2,), plan("heun", VP, 24, "log_snr"), 12, condition=condition, dtype=torch.float64)
    assert (mask * out - known).abs().max() < 0.05
    plain = sample(five_modes, (2,), plan("heun", VP, 24, "log_snr"), 12, dtype=torch.float64)
    assert torch.allclose(out[free], plain[free], rtol=0, atol=1e-12)
    nearest = (out[0::4, None] - torch.tensor(MEANS)).norm(dim=-1).min(1).values
    assert (nearest < 5 * max(VARIANCES) ** 0.5).all()  # the unknown half of (1.5, ?) fits the only mode there


@every_schedule
def test_repaint_keeps_the_distribution_of_a_point_at_every_row(schedule):
    """For x_0 = m, D = m and every row, jumps included, takes N(alpha m, sigma^2) of its time to that of the next."""
    one = repaint(schedule, torch.tensor([1.0, 0.7, 0.3, 0.01, 0.0]), resample=3)
    assert one.t.tolist() == pytest.approx([1.0] * 3 + [0.7] * 3 + [0.3] * 3 + [0.01])
    for row in range(len(one) - 1):
        mean = one.a[row] * one.alpha[row] + one.b[row]
        variance = (one.a[row] * one.sigma[row]) ** 2 + (one.s[row] ** 2).sum()
        assert mean == pytest.approx(one.alpha[row + 1], rel=1e-12, abs=1e-12)
        assert variance == pytest.approx(one.sigma[row + 1] ** 2, rel=1e-12)
    assert (one.a[-1], one.b[-1]) == (0, 1) and len({*one.stream.flatten()}) == 2 * len(one)
    # The rows that stay at t are the step to s and the forward process from s, composed.
    step, jump = 2, 0
    ratio = one.alpha[0] / one.alpha[3]
    assert one.a[jump] == pytest.approx(ratio * one.a[step], abs=1e-15)
    assert one.b[jump] == pytest.approx(ratio * one.b[step], abs=1e-15)
    assert one.s[jump, 0] == pytest.approx(ratio * one.s[step, 0], abs=1e-15)
    assert one.s[jump, 1] == pytest.approx(math.sqrt(one.sigma[0] ** 2 - (ratio * one.sigma[3]) ** 2), rel=1e-9)


def test_repaint_harmonizes_what_replacement_alone_does_not():
    """x_2 given x_1 = 1.5, of a pair with correlation 0.9, has mean 1.35."""
    pair = torch.tensor([[[1.0, 0.9], [0.9, 1.0]]])
    denoiser = GaussianMixtureDenoiser([1.0], torch.zeros(1, 2), pair, VP)
    errors = []
    for resample in (1, 8):
        out = sample(
            denoiser, (2,), repaint(VP, log_snr(VP, 20), resample=resample), 500,
            known=torch.tensor([1.5, 0.0]), mask=torch.tensor([1.0, 0.0]), chunk=500,
        )  # fmt: skip
        assert (out[:, 0] == 1.5).all()
        errors.append(abs(out[:, 1].mean().item() - 1.35))
    assert errors[1] < 0.1 < 0.4 < errors[0]


def test_repaint_without_resampling_is_ddpm():
    times = torch.linspace(1, 0, 11)
    one, ddpm = repaint(VP, times, resample=1), plan("ddpm", VP, 10, lambda *_: times)
    assert all((getattr(one, field) == getattr(ddpm, field)).all() for field in ("t", "a", "b", "s", "stream"))
    for resample in (0, True, 1.5):
        with pytest.raises(ValueError, match="resample must be an integer of at least 1; got"):
            repaint(VP, times, resample=resample)


# The parts ------------------------------------------------------------------------------------------------------------


def test_conjugate_gradients():
    root, b = normal(5, 6, 6), normal(5, 6, seed=1)
    matrix = root @ root.mT + torch.eye(6)

    def operator(v):
        return torch.einsum("bij,bj->bi", matrix, v)

    expected = torch.linalg.solve(matrix, b)
    assert torch.allclose(_conjugate_gradients(operator, b, 8, 1.0), expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(_conjugate_gradients(operator, b, 2, 0.0), expected, rtol=1e-3, atol=1e-3)
    sign = torch.tensor([1.0, -1.0, 1.0, 0.0, 1.0]).double()[:, None]
    # Without positive curvature a sample stays where it is; the rest go on.
    stopped = _conjugate_gradients(lambda v: sign * operator(v), b, 8, 0.0)
    assert torch.allclose(stopped, expected * (sign > 0), rtol=1e-9, atol=1e-9)
    # Below half of what its eigenvalues are said to be at least: a sample stops, though the curvature is positive.
    assert _conjugate_gradients(lambda v: 0.4 * v, b, 3, 1.0).abs().max() == 0
    assert torch.allclose(_conjugate_gradients(lambda v: 0.4 * v, b, 3, 0.4), b / 0.4)
    assert _conjugate_gradients(operator, torch.zeros_like(b), 3, 0.0).abs().max() == 0


CASES = [
    (lambda: MMPS("net", A, 0.1), TypeError, "denoiser must be a Denoiser; got str"),
    (lambda: MMPS(gaussian(FULL), MATRIX, 0.1), TypeError, "A must be callable; got Tensor"),
    (lambda: MMPS(gaussian(FULL), A, -0.1), ValueError, "noise_std must be a finite number of at least 0; got -0.1"),
    (lambda: PiGDM(gaussian(FULL), A, "0.1"), ValueError, "noise_std must be a finite number"),
    (lambda: PiGDM(gaussian(FULL), A, 0.1, data_std=0), ValueError, "data_std must be a finite number above 0; got 0"),
    (
        lambda: MMPS(gaussian(FULL), A, 0.1, iterations=0),
        ValueError,
        "iterations must be an integer of at least 1",
    ),
    (lambda: MMPS(gaussian(FULL), A, 0.1, iterations=2.0), ValueError, "iterations must be an integer .*; got 2.0"),
    (lambda: DPS(gaussian(FULL), A, -1), ValueError, "zeta must be a finite number of at least 0; got -1"),
    (lambda: DPS(gaussian(FULL), A, operands="mask"), TypeError, "operands must be a sequence of names"),
]


@pytest.mark.parametrize("call, error, message", CASES)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "method", [DPS, functools.partial(PiGDM, noise_std=0.1), functools.partial(MMPS, noise_std=0.1)]
)
def test_bad_calls(method):
    x_t, y, denoiser = normal(3, 4), normal(3, 2), gaussian(FULL)
    for A_of, condition, message in [
        (A, {}, "condition must have measurement, for .*; got none"),
        (A, {"measurement": y[:, :1]}, r"A must answer with the shape of the measurement, \(3, 1\); got \(3, 2\)"),
        (lambda x_0: 3, {"measurement": y}, r"A must answer with the shape .* got int"),
    ]:
        with pytest.raises(ValueError, match=message):
            method(denoiser, A_of)(x_t, 0.5, **condition)
    with pytest.raises(ValueError, match="condition must have mask, for the operands of A; got measurement"):
        method(denoiser, A, operands=("mask",))(x_t, 0.5, measurement=y)
    frozen = gaussian(FULL)
    frozen.__class__ = type("Frozen", (GaussianMixtureDenoiser,), {"__call__": lambda self, x_t, t: x_t.detach()})
    with pytest.raises(ValueError, match="denoiser must be differentiable in x_t"):
        method(frozen, A)(x_t, 0.5, measurement=y)


@pytest.mark.parametrize("method", [PiGDM, MMPS])
@pytest.mark.parametrize(
    "operator, message",
    [
        (lambda x_0: A(x_0) + 1, "A must be linear"),
        (lambda x_0: A(x_0).abs(), "A must be linear"),
        (lambda x_0: A(x_0) - A(x_0).mean(0), "A must treat each sample by itself"),
        (lambda x_0: A(x_0.detach()), "A must be differentiable"),
    ],
)
def test_operators_that_are_not_linear_maps_of_each_sample(method, operator, message):
    with pytest.raises(ValueError, match=message):
        method(gaussian(FULL), operator, 0.1)(normal(3, 4), 0.5, measurement=normal(3, 2))


def test_measurements_that_are_refused():
    """A complex one would lose its imaginary part."""
    posterior, x = DPS(five_modes(), lambda x_0: x_0[:, :1]), torch.zeros(3, 2)
    for y, kind, words in (
        (torch.ones(3, 1) * 1j, TypeError, "measurement must hold real numbers; got torch.complex64"),
        ("x", TypeError, "measurement must be a tensor, an array, or numbers in lists of equal length; got 'x'"),
        (torch.ones(2, 1), ValueError, r"measurement must have shape \(3, \*\), a row a sample; got \(2, 1\)"),
    ):
        with pytest.raises(kind, match=words):
            posterior(x, 0.5, measurement=y)
    with pytest.raises(ValueError, match="A must answer with real floating-point numbers"):
        DPS(five_modes(), lambda x_0: x_0[:, :1] * 1j)(x, 0.5, measurement=torch.ones(3, 1))
    y = np.array([[0.1], [0.2], [0.3]], ">f8")
    expected = posterior(x, 0.5, measurement=torch.tensor([[0.1], [0.2], [0.3]]))
    assert torch.equal(posterior(x, 0.5, measurement=y[::-1][::-1]), expected)
