"""Moments of a stream: shards, files, fingerprints, and the Frechet distance of what they hold."""

import warnings

import numpy as np
import pytest
import torch
from helpers import normal
from metric_sets import orthogonal

from genfast.common.files import CorruptCheckpoint
from genfast.metrics import Moments, frechet_distance, frechet_of_moments


def streamed(x, batches, fingerprint=None):
    moments = Moments(x.shape[1], fingerprint)
    for batch in x.tensor_split(batches):
        moments.update(batch)
    return moments


def given(mean, covariance):
    """Moments of exactly this mean and covariance: those of the columns of its root, scaled, and their negatives."""
    values, vectors = torch.linalg.eigh(covariance)
    points = (vectors * values.sqrt()).T * (len(mean) - 0.5) ** 0.5
    return streamed(mean + torch.cat([points, -points]), 1)


@pytest.mark.parametrize("batches", [1, 3, 200])
def test_a_stream_is_its_samples(batches):
    """Far from the origin too, where a sum of squares would lose everything."""
    x = 1e6 + normal(200, 7)
    moments = streamed(x, batches)
    assert moments.n == 200 and moments.dim == 7
    assert torch.allclose(moments.mean, x.mean(0), rtol=1e-15)
    assert torch.allclose(moments.covariance, torch.cov(x.T), atol=1e-9)


def test_shards_merge():
    x = normal(300, 5)
    whole = streamed(x, 4)
    for sizes in ([100, 100, 100], [1, 298, 1], [0, 300, 0]):
        merged = Moments(5)
        for shard in x.split(sizes):
            merged.merge(streamed(shard, 2) if len(shard) > 1 else streamed(shard, 1) if len(shard) else Moments(5))
        assert merged.n == whole.n
        assert torch.allclose(merged.mean, whole.mean, atol=1e-15)
        assert torch.allclose(merged.covariance, whole.covariance, atol=1e-14)


@pytest.mark.parametrize("d", [1, 4, 64])
def test_closed_form(d):
    """|dmu|^2 + sum (s_1 - s_2)^2 where the covariances have the same axes."""
    axes, mean = orthogonal(d), normal(1, d, seed=5)[0]
    s1, s2 = torch.linspace(0.1, 3, d).double(), torch.linspace(2, 0.5, d).double()
    a, b = given(mean, (axes * s1**2) @ axes.T), given(-mean, (axes * s2**2) @ axes.T)
    expected = (4 * mean.square().sum() + (s1 - s2).square().sum()).item()
    assert frechet_of_moments(a, b) == pytest.approx(expected, rel=1e-10)


def test_moments_agree_with_samples():
    x, y = normal(100, 12, seed=1), 0.2 + normal(150, 12, seed=2) @ orthogonal(12) * torch.linspace(0.2, 2, 12)
    assert frechet_of_moments(streamed(x, 3), streamed(y, 5)) == pytest.approx(frechet_distance(x, y), rel=1e-10)
    few = x[:6], y[:8]  # singular: half of the digits
    assert frechet_of_moments(*(streamed(z, 1) for z in few)) == pytest.approx(frechet_distance(*few), abs=1e-6)


def test_identical_moments():
    moments = streamed(normal(9, 24), 2)
    assert frechet_of_moments(moments, moments) == 0


def test_what_is_clipped_is_said():
    """One singular covariance, to rounding: the distance comes out on either side of 0, and no lower than 0."""
    x, clipped = normal(9, 24), 0
    for seed in range(10):
        shuffled = x[torch.randperm(9, generator=torch.Generator().manual_seed(seed))]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            distance = frechet_of_moments(streamed(x, 1), streamed(shuffled, 3))
        assert 0 <= distance < 1e-12
        assert not caught or (distance == 0 and "below 0 by rounding" in str(caught[0].message))
        clipped += bool(caught)
    assert clipped


def test_files(tmp_path):
    moments = streamed(normal(20, 6), 2, "sha256:ab")
    moments.save(tmp_path / "real.safetensors")
    loaded = Moments.load(tmp_path / "real.safetensors")
    assert (loaded.n, loaded.dim, loaded.fingerprint) == (20, 6, "sha256:ab")
    assert torch.equal(loaded.mean, moments.mean) and torch.equal(loaded.covariance, moments.covariance)
    assert frechet_of_moments(loaded, moments) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["real.safetensors"]
    loaded.update(normal(5, 6, seed=3))
    assert loaded.n == 25
    streamed(normal(20, 6), 1).save(tmp_path / "nameless.safetensors")
    assert Moments.load(tmp_path / "nameless.safetensors").fingerprint is None


def test_damaged_files(tmp_path):
    """Any flipped bit is seen: in the numbers, in the fingerprint, in the header."""
    path = tmp_path / "real.safetensors"
    streamed(normal(20, 2), 2, "sha256:ab").save(path)
    content = path.read_bytes()
    seen = 0
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        try:
            loaded = Moments.load(path)
        except CorruptCheckpoint as error:
            assert "real.safetensors" in str(error)
            seen += 1
        else:  # white space, or a name of something that is not read
            assert loaded.fingerprint == "sha256:ab" and loaded.n == 20
    assert seen > len(content) / 7 * 0.7
    path.write_bytes(content[:-1])
    with pytest.raises(CorruptCheckpoint):
        Moments.load(path)
    with pytest.raises(FileNotFoundError):
        Moments.load(tmp_path / "none.safetensors")


def test_other_features_are_refused():
    a, b = streamed(normal(9, 3), 1, "one"), streamed(normal(9, 3), 1, "two")
    for compare in (frechet_of_moments, Moments.merge):
        with pytest.raises(ValueError, match=r"'one'.*'two'"):
            compare(a, b)
        with pytest.raises(ValueError, match=r"'one'.*None"):
            compare(a, Moments(3))
        with pytest.raises(ValueError, match=r"3.*4"):
            compare(a, Moments(4, "one"))
        with pytest.raises(TypeError, match=r"Tensor"):
            compare(a, torch.zeros(3))
    assert a.n == 9


@pytest.mark.parametrize("x, error, words", [
    (torch.zeros(3, 4), ValueError, "x.*3 features.*4"),
    (torch.zeros(0, 3), ValueError, "x.*at least 1"),
    (torch.zeros(2, 3, dtype=torch.uint8), TypeError, "x.*uint8"),
    (np.full((2, 3), np.nan), ValueError, "x.*NaN"),
])  # fmt: skip
def test_bad_input(x, error, words):
    moments = Moments(3)
    with pytest.raises(error, match=words):
        moments.update(x)
    assert moments.n == 0
    with pytest.raises(ValueError, match=r"covariance.*2 samples.*0"):
        frechet_of_moments(moments, Moments(3))
    for dim in (0, 2.0, True):
        with pytest.raises(ValueError, match=r"dim.*1"):
            Moments(dim)
    with pytest.raises(TypeError, match=r"fingerprint.*int"):
        Moments(3, 7)
