"""The study dimensionality: the law of overfitting on Gaussian data, the counts, and a small run."""

import pytest
import torch

import genfast as gf
from genfast.studies import dimensionality


def test_the_law_of_overfitting():
    """On Gaussian data of any covariance, over 40 fits; a fit's gap has a standard deviation of about 0.2 of it."""
    dims, n = 20, 50
    root = torch.randn(dims, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    source, gaps = gf.Gaussian.from_moments(torch.ones(dims), root @ root.T), []
    for seed in range(40):
        x = source.sample(n + 500, seed=seed).double()
        model = gf.Gaussian().fit(x[:n])
        seen, held = (dimensionality.nats_a_number(model, part, draws=1)[0] for part in (x[:n], x[n:]))
        gaps.append(dims * (seen - held))
    gaps = torch.tensor(gaps)
    assert abs(gaps.mean() - dimensionality.overfitting(dims, n)) < 3 * gaps.std() / 40**0.5


def test_parameters_are_counted():
    train = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    (full, _, ppca, vae), warned = dimensionality.fitted(train, seed=0, steps=1, progress=False)
    counts = (full.parameters_count - 16, ppca.parameters_count - 16, sum(p.numel() for p in vae.parameters()))
    assert dimensionality.counts(16) == counts and not warned
    assert dimensionality.counts(64 * 64)[0] == 8_390_656


def test_noise_is_new_in_every_pixel():
    x = gf.data.digits().x
    small, large = (dimensionality.pictures(x, side, seed=0) for side in (8, 16))
    noise = small - x.flatten(1)
    assert abs(noise.std() - dimensionality.NOISE) < 1e-3
    assert noise.T.corrcoef().triu(1).abs().max() < 5 / len(x) ** 0.5
    edge = (1 - (256 / len(x)) ** 0.5) ** 2  # of the spectrum of a sample covariance (Marchenko & Pastur 1967)
    assert torch.linalg.eigvalsh(large.double().T.cov()).min() > 0.95 * edge * dimensionality.NOISE**2


def test_what_it_finds():
    """With 66 pictures, 64 numbers are too many."""
    finding = dimensionality.study(seed=0, progress=False, sides=(2, 3, 6, 8), count=66, held_out=300, steps=50)
    assert all(claim.holds for claim in finding.claims[1:]), str(finding)
    numbers = {row[0]: row[4:8] for row in finding.rows}
    full, diagonal, ppca, _ = numbers[64]
    assert full < -3 < diagonal and abs(ppca - diagonal) < 0.2 and numbers[9][0] > numbers[9][1]
    assert "66 samples of 64 numbers are 4,224 numbers, for 2,144 parameters" in str(finding).replace("\n  ", " ")
    assert finding.picture().startswith(b"\x89PNG")


@pytest.mark.parametrize("dims, n", [(10, 1000), (100, 100_000)])
def test_with_many_samples_half_a_nat_a_parameter_is_lost_twice(dims, n):
    """The gap tends to (number of parameters) / n: as Akaike's criterion has it."""
    assert dimensionality.overfitting(dims, n) == pytest.approx(dims * (dims + 3) / 2 / n, rel=0.02)
