import math

import pytest
import torch

import genfast as gf
from genfast.diffusion import scale
from genfast.diffusion.scale import log_half_lost, root_mean_square


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def definition(x):
    """m of numpy's covariance, by its eigenvalues."""
    x = x.double().flatten(1)
    l = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))
    l = l[l > 1e-12 * l.max()]
    return float((l * l.sqrt().log()).sum() / l.sum())


def test_root_mean_square():
    x = normal(150, 3, 4) + 2
    assert root_mean_square(x) == pytest.approx(x.double().square().mean().sqrt().item(), rel=1e-12)
    last = normal(9, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert root_mean_square(last) == pytest.approx(root_mean_square(last.contiguous()), rel=1e-12)
    assert root_mean_square(torch.full((3, 2), 1e-30)) == pytest.approx(1e-30)  # whose square float32 does not hold


@pytest.mark.parametrize("shape", [(50, 6), (6, 50), (20, 20), (40, 2, 3, 4), (9, 3, 8, 8), (1000, 5)])
def test_half_is_lost_where_the_definition_says(shape):
    x = normal(*shape) * torch.linspace(0.1, 3, shape[-1]) + 5
    assert log_half_lost(x) == pytest.approx(definition(x), abs=1e-10)
    assert log_half_lost(4 * x) == pytest.approx(log_half_lost(x) + math.log(4), abs=1e-10)


def test_the_best_linear_denoiser_has_lost_half_there():
    """Of one variance l it keeps l / (l + sigma^2): half at sigma^2 = l, whose log m is the mean of."""
    x = 0.3 * normal(1000, 4)
    assert log_half_lost(x) == pytest.approx(math.log(0.3), abs=0.05)


def test_wide_samples_are_taken_in_parts(monkeypatch):
    x = normal(7, 40)
    whole = log_half_lost(x)
    monkeypatch.setattr(scale, "COLUMNS", 9)
    assert log_half_lost(x) == pytest.approx(whole, abs=1e-12)


def test_only_the_first_thousand_samples_count():
    x = normal(1500, 3)
    assert log_half_lost(x) == log_half_lost(x[:1000]) != log_half_lost(x[500:])


def test_what_does_not_vary_has_the_log_of_its_size():
    for x in (torch.full((1, 5), 3.0), torch.full((9, 5), 3.0), torch.full((9, 5), -3.0)):
        assert log_half_lost(x) == pytest.approx(math.log(3))
    assert log_half_lost(1 + 1e-4 * normal(99, 5)) == pytest.approx(math.log(1e-4), abs=0.2)


@pytest.mark.parametrize("x", [torch.zeros(3, 2), torch.full((3, 2), torch.inf), torch.full((3, 2), torch.nan)])
def test_data_without_a_scale_are_refused(x):
    with pytest.raises(ValueError, match="batch must hold finite numbers, not all of them 0"):
        root_mean_square(x)


def test_the_digits_of_the_study():
    x = gf.data.digits("train").x
    assert log_half_lost(x) == pytest.approx(-0.04, abs=0.02) and root_mean_square(x) == pytest.approx(0.847, abs=0.002)
