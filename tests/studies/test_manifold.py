"""The study of the rolled sheet: its geometry and its measures where the answer is known, and what PCA must leave."""

import math

import pytest
import torch

import genfast as gf
from genfast.studies import manifold
from genfast.studies.manifold import LENGTH, r_squared, sheet, strangers


def test_the_sheet_is_rolled_without_stretching():
    """Points close to one another are as far apart in space as on the sheet, and r = phi / 10 off the axis."""
    x, place = sheet(20_000, 0, noise=0.0)
    one, other = torch.arange(len(x)), gf.ops.nearest(x, x, 2).index[:, 1]
    space, on_it = ((v[one] - v[other]).double().norm(dim=1) for v in (x, place))
    close = space < 0.1
    assert close.double().mean() > 0.99
    torch.testing.assert_close(space[close], on_it[close], rtol=0.02, atol=1e-5)
    radius, phi = x[:, :2].double().norm(dim=1), torch.atan2(x[:, 1], x[:, 0]).double()
    turns = (10 * radius - phi) / (2 * math.pi)
    torch.testing.assert_close(turns, turns.round(), rtol=0, atol=1e-3)


def test_the_noise_is_that_of_every_number():
    (x, _), (clean, _) = sheet(5000, 3), sheet(5000, 3, noise=0.0)
    assert (x - clean).std(0).tolist() == pytest.approx([0.05] * 3, rel=0.05)


def test_measures_where_the_answer_is_known():
    """The sheet itself has no strangers; folded in the middle, layers 0 to LENGTH apart lie on one another, and half of
    the neighbors are those of the other: fewer, where the layers are less than 1 apart."""
    _, place = sheet(4000, 0)
    known, asked = slice(0, 3000), slice(3000, 4000)
    assert strangers(place, place) == 0
    assert min(r_squared((place[known], place[known]), (place[asked], place[asked]))) > 0.99
    folded = torch.stack([(place[:, 0] - LENGTH / 2).abs(), place[:, 1]], 1)
    assert strangers(folded, place) == pytest.approx(0.5 * (1 - 1 / LENGTH), abs=0.02)
    roll, axis = r_squared((folded[known], place[known]), (folded[asked], place[asked]))
    assert roll < 0.2 and axis > 0.99


def test_pca_folds_and_a_vae_bends():
    finding = manifold.study(seed=1, progress=False, starts=1, steps=550)
    pca, vae, truth = finding.rows
    x, _ = sheet(4000, 2)
    least = torch.linalg.eigvalsh(torch.cov(x.double().T))[0]  # what a plane must leave, spread over three numbers
    assert pca[3] == pytest.approx(float((least / 3).sqrt()) / 0.05, rel=0.03)
    assert float(pca[4].rstrip("%")) > 10 and pca[6] > 0.99 and pca[5] < 0.8
    assert truth[2] > vae[2] > pca[2] and truth[3] < vae[3] < pca[3]
