"""The study of the linear VAE: its formulas against what they stand for, and PPCA as the known answer."""

import pytest
import torch
from torch import nn

import genfast as gf
from genfast.studies import linear_vae
from genfast.studies.linear_vae import LinearEncoder, elbo, principal_angles


def test_the_elbo_is_that_of_the_model():
    torch.manual_seed(0)
    vae = gf.VAE(LinearEncoder(5, 2), nn.Linear(2, 5), latent=2, likelihood=gf.vae.likelihoods.Gaussian(0.7))
    x = torch.randn(200, 5) * torch.arange(1, 6) / 3 + 1
    draws = torch.stack([vae.elbo(x, gf.ops.make_key(seed, len(x))).double() for seed in range(300)]).mean(1)
    found = elbo(vae, x.double().mean(0), torch.cov(x.double().T, correction=0))
    assert abs(draws.mean() - found) < 4 * draws.std() / len(draws) ** 0.5


def test_principal_angles():
    """Of two planes through the first axis; small ones keep their digits."""
    for degrees in (1e-5, 0.5, 30.0, 90.0):
        turn = torch.deg2rad(torch.tensor(degrees).double())
        a = torch.eye(4).double()[:, :2]
        b = torch.stack([a[:, 0], torch.tensor([0, turn.cos(), turn.sin(), 0]).double()], 1)
        torch.testing.assert_close(principal_angles(a, b), torch.tensor([0, degrees]).double(), rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def finding():
    return linear_vae.study(progress=False, steps=500)


@pytest.mark.slow
def test_it_is_ppca_and_not_above(finding):
    x = gf.data.digits().x.flatten(1).double()
    learned, held, nothing = finding.rows
    ppca = gf.PPCA(10).fit(x)
    assert learned[2] == pytest.approx(float(ppca.log_prob(x).mean()))
    assert learned[1] == pytest.approx(float(ppca.noise_variance), rel=0.01)
    assert nothing[2] == pytest.approx(
        float(torch.distributions.Normal(x.mean(0), nothing[1] ** 0.5).log_prob(x).sum(1).mean())
    )
    assert 0 < learned[4] < 0.2 and 0 < held[4] < 0.02 and 0 < nothing[4] < 0.02
    assert learned[7] < 2


def test_what_is_of_no_use_collapses(finding):
    assert [row[6] for row in finding.rows] == ["10 of 10", "4 of 10", "0 of 10"] and finding.claims[2].holds


def test_too_short_a_run_bears_out_nothing():
    assert not any(claim.holds for claim in linear_vae.study(progress=False, steps=1).claims)
