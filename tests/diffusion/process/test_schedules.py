"""Laws of the schedules (derivatives, inverses, conventions) and published values."""

import math

import numpy as np
import pytest
import torch

from genfast.diffusion.process import schedules
from genfast.diffusion.process.schedules import SCHEDULES, as_schedule

ALL = pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=list(SCHEDULES))
TIMES = torch.linspace(0.002, 0.998, 499, dtype=torch.float64)


@ALL
def test_time_zero_is_the_data(schedule):
    assert (schedule.alpha(0.0), schedule.sigma(0.0), schedule.log_snr(0.0)) == (1.0, 0.0, math.inf)
    assert schedule.time(math.inf) == 0
    assert schedule.time(-math.inf) == pytest.approx(1, abs=1e-12)


@ALL
def test_derivatives_are_those_of_alpha_and_sigma(schedule):
    h = 1e-6
    for function, derivative in ((schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)):
        difference = (function(TIMES + h) - function(TIMES - h)) / (2 * h)
        assert torch.allclose(derivative(TIMES), difference, rtol=1e-5, atol=1e-7 * schedule.prior_std)


@ALL
def test_time_inverts_the_log_snr(schedule):
    log_snr = schedule.log_snr(TIMES)
    assert (log_snr.diff() < 0).all()
    assert (schedule.time(log_snr) - TIMES).abs().max() < 1e-12
    snr = (schedule.alpha(TIMES) / schedule.sigma(TIMES)) ** 2
    assert torch.allclose(log_snr, snr.log(), atol=1e-6)


@ALL
def test_sde_carries_data_to_the_marginal(schedule):
    """dV/dt = 2 f V + g^2 for V = alpha^2 c + sigma^2, whatever the data variance c."""
    h = 1e-6
    for c in (0.0, 0.7):

        def variance(t, c=c):
            return schedule.alpha(t) ** 2 * c + schedule.sigma(t) ** 2

        slope = (variance(TIMES + h) - variance(TIMES - h)) / (2 * h)
        expected = 2 * schedule.f(TIMES) * variance(TIMES) + schedule.g2(TIMES)
        assert torch.allclose(slope, expected, rtol=1e-5, atol=1e-7)
    assert (schedule.g2(TIMES) > 0).all()


@ALL
def test_answers_in_the_kind_of_the_question(schedule):
    assert type(schedule.alpha(0.3)) is float
    array = schedule.sigma(np.array([0.3, 0.6], dtype=np.float32))
    assert isinstance(array, np.ndarray) and array.dtype == np.float64
    tensor = schedule.log_snr(torch.tensor([[0.25], [0.5]]))
    assert tensor.dtype == torch.float64 and tensor.shape == (2, 1)
    assert tensor[0, 0].item() == pytest.approx(schedule.log_snr(0.25), rel=1e-14)


@ALL
def test_repr_says_the_log_snr_at_five_times(schedule):
    text = repr(schedule)
    assert text.startswith(type(schedule).__name__)
    for t in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert f"{schedule.log_snr(t):.2f}" in text


def test_variance_of_each_kind():
    for name in ("vp_linear", "vp_cosine", "vp_sigmoid_jabri", "vp_sigmoid_geodiff"):
        schedule = SCHEDULES[name]()
        one = schedule.alpha(TIMES) ** 2 + schedule.sigma(TIMES) ** 2
        assert torch.allclose(one, torch.ones_like(one), rtol=1e-14, atol=0)
    sub_vp = schedules.SubVP()
    assert torch.allclose(sub_vp.sigma(TIMES), 1 - sub_vp.alpha(TIMES) ** 2, atol=1e-15)
    flow = schedules.Flow()
    assert torch.equal(flow.alpha(TIMES) + flow.sigma(TIMES), torch.ones_like(TIMES))
    assert flow.log_snr(1.0) == -math.inf


def test_published_values():
    # DDPM's 1000 discrete betas from 1e-4 to 0.02 discretize VPLinear: log of the product of 1 - beta.
    betas = np.linspace(1e-4, 0.02, 1000)
    discrete = np.cumsum(np.log1p(-betas))
    linear = schedules.VPLinear()
    for step in (250, 500, 1000):
        assert 2 * linear.log_alpha(step / 1000) == pytest.approx(discrete[step - 1], rel=0.01)
    # GeoDiff's sigmoid betas in the same 1000-step form.
    betas = 1e-4 + (0.02 - 1e-4) / (1 + np.exp(-np.linspace(-6, 6, 1000)))
    discrete = np.cumsum(np.log1p(-betas))
    geodiff = schedules.VPSigmoidGeoDiff()
    for step in (250, 500, 1000):
        assert 2 * geodiff.log_alpha(step / 1000) == pytest.approx(discrete[step - 1], rel=0.015)
    # Nichol & Dhariwal: cos^2 of an angle that ends at pi / 2.
    t = TIMES.numpy()
    paper = np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)
    cosine = schedules.VPCosine()
    assert np.abs(cosine.alpha(t) - paper).max() < 5e-5
    assert cosine.log_snr(1.0) == pytest.approx(-20, abs=1e-9)
    # Jabri et al.: a sigmoid in alpha^2, symmetric about t = 1/2 for start = -end.
    logistic = 1 / (1 + np.exp(-(6 * t - 3)))
    ends = 1 / (1 + np.exp([3, -3]))
    jabri = schedules.VPSigmoidJabri()
    assert np.abs(jabri.alpha(t) ** 2 - (ends[1] - logistic) / (ends[1] - ends[0])).max() < 2e-9
    # The two schedules that the field calls "sigmoid" differ by almost 5 nats of log-SNR at t = 0.9.
    assert jabri.log_snr(0.9) == pytest.approx(-3.19, abs=0.01)
    assert geodiff.log_snr(0.9) == pytest.approx(-8.06, abs=0.01)
    edm = schedules.EDM()
    assert edm.sigma(edm.t_min) == pytest.approx(0.002, rel=1e-14)
    ve = schedules.VE()
    assert (ve.sigma(1.0), ve.sigma(0.5)) == (pytest.approx(50), pytest.approx(math.sqrt(0.5)))


def test_prior():
    assert [SCHEDULES[name]().prior_std for name in SCHEDULES] == [1, 1, 1, 1, 1, 50, 80, 1]


@pytest.mark.parametrize("t", [-0.1, 1.1, math.nan, np.array([0.5, 2.0]), torch.tensor([0.5, math.nan])])
def test_times_outside_are_refused(t):
    with pytest.raises(ValueError, match=r"^t must"):
        schedules.VPLinear().alpha(t)


@pytest.mark.parametrize("t", ["0.5", None, True, [0.5], torch.tensor([True]), np.array([1j])])
def test_things_that_are_no_times_are_refused(t):
    with pytest.raises(TypeError, match=r"^t must"):
        schedules.Flow().sigma(t)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"beta_min must be below beta_max; got 20\.0 and 0\.1"):
        schedules.VPLinear(20.0, 0.1)
    with pytest.raises(ValueError, match="sigma_min must be a finite number above 0; got 0"):
        schedules.EDM(sigma_min=0)
    with pytest.raises(ValueError, match="s must be a finite number"):
        schedules.VPCosine(math.nan)
    with pytest.raises(ValueError, match="sigma_max must be a finite number"):
        schedules.VE(sigma_max="50")
    with pytest.raises(ValueError, match="log_snr must not hold NaN"):
        schedules.VE().time(math.nan)
    with pytest.raises(ValueError, match=r"one of vp_linear, .*; got 'sigmoid'"):
        as_schedule("sigmoid")
    with pytest.raises(TypeError, match="a Schedule or a name"):
        as_schedule(schedules.VE)
    assert as_schedule("edm") == schedules.EDM()
