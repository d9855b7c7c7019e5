"""Mean and sd of data, in parts and in float64."""

import pytest
import torch

from genfast.data import units
from genfast.data.dataset import Data, arrays


def test_vectors_have_them_for_each_feature(monkeypatch):
    monkeypatch.setattr(units, "PART", 7)  # numbers: three rows at a time
    x = torch.randn(100, 2, dtype=torch.float64) * torch.tensor([3.0, 0.01]) + torch.tensor([1e4, -1.0])
    x = x.float()
    data = Data(x).standardized()
    torch.testing.assert_close(data.units.mean, x.double().mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(data.units.sd, x.double().std(0, correction=0), rtol=1e-11, atol=0)
    expected = ((x.double() - data.units.mean) / data.units.sd).float()
    assert torch.equal(data.x, expected) and torch.equal(data.rows([3, 5])["x"], expected[[3, 5]])
    batch, order = data.batch(1, 2, 5), data.order(1, 2, 5)
    assert torch.equal(batch["x"], expected[order]) and data.fingerprint()["units"] == data.units.described()
    assert torch.equal(data.replace(units=None).x, x) and data.standardized().units == data.units


@pytest.mark.parametrize("whole", [False, True])
def test_images_have_them_for_each_channel(whole, monkeypatch):
    monkeypatch.setattr(units, "PART", 100)
    pixels = torch.randint(0, 200, (9, 3, 4, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    pixels[:, 1] //= 2
    x = pixels.float() / 127.5 - 1
    data = arrays(pixels if whole else x, layout="chw").standardized()
    columns = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(data.units.mean, columns.mean(1), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(data.units.sd, columns.std(1, correction=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(data.x.std((0, 2, 3), correction=0), torch.ones(3))
    assert data.levels == (256 if whole else None)


def test_they_are_of_what_is_seen_and_not_of_flips():
    x = torch.randn(5, 1, 4, 6)
    data = Data(x).augmented(crop=(2, 2)).standardized()
    assert data.units == Data(x[:, :, 1:3, 2:4]).standardized().units
    assert data.batch(0, 0, 4)["x"].shape == (4, 1, 2, 2)


def test_what_is_constant_keeps_its_scale_and_is_named():
    x = torch.cat([torch.randn(50, 1), torch.full((50, 1), 7.3), torch.zeros(50, 1)], 1)
    with pytest.warns(UserWarning, match="features 1, 2 are constant: they keep their scale, sd = 1"):
        data = Data(x).standardized()
    assert data.units.sd[1:].tolist() == [1, 1] and not data.x[:, 1:].any()
    with pytest.warns(UserWarning, match="features b, c are constant"):
        Data(x, columns=("a", "b", "c")).standardized()
    with pytest.warns(UserWarning, match="channels 0 are constant"):
        Data(torch.zeros(3, 1, 2, 2)).standardized()
