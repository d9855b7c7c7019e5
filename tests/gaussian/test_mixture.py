"""The mixture of Gaussians: EM against scikit-learn from the same start, its laws, and where it starts."""

import math
import warnings

import numpy as np
import pytest
import torch
from helpers import normal
from sklearn.datasets import load_breast_cancer
from sklearn.mixture import GaussianMixture as Peer

import genfast as gf
from genfast.gaussian.mixture import _centers


def clouds(count=900, seed=0):
    """Three correlated clouds in three dimensions, overlapping."""
    x = normal(count, 3, seed=seed)
    x[::3] = x[::3] @ normal(3, 3, seed=4) * 0.7 + torch.tensor([2.0, 0.0, 1.0])
    x[1::3] = x[1::3] * torch.tensor([0.3, 0.8, 0.2]) - torch.tensor([1.0, 1.5, 0.0])
    return x


START = gf.GaussianMixture.from_parameters(
    [0.2, 0.5, 0.3], [[1.0, 0.0, 0.0], [-1.0, -1.0, 0.0], [0.0, 1.0, 0.5]], [[1.0, 2.0, 1.0]] * 3
)


def peer_from_start(covariance, **settings):
    precisions = 1 / START.variances.numpy()
    if covariance == "full":
        precisions = np.stack([np.diag(p) for p in precisions])
    return Peer(
        3, covariance_type=covariance[:4], weights_init=START.weights.numpy(), means_init=START.means.numpy(),
        precisions_init=precisions, reg_covar=0, init_params="random_from_data", **settings,
    )  # fmt: skip


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_from_the_same_start_em_ends_where_scikit_learn_ends(covariance):
    x = clouds()
    peer = peer_from_start(covariance, tol=1e-13, max_iter=5000).fit(x.numpy())
    model = gf.GaussianMixture(3, covariance, tolerance=1e-13, max_iterations=5000).fit(x, start=START)
    assert np.abs(model.log_prob(x).numpy() - peer.score_samples(x.numpy())).max() < 1e-6
    assert model.trace[-1] == pytest.approx(peer.score(x.numpy()), abs=1e-9)
    assert np.abs(model.means.numpy() - peer.means_).max() < 1e-5
    assert np.abs(model.responsibilities(x).numpy() - peer.predict_proba(x.numpy())).max() < 1e-5


def test_likelihood_of_the_same_parameters_is_that_of_scikit_learn():
    x = clouds()
    with pytest.warns(match="did not converge"):
        peer = peer_from_start("full", max_iter=3, tol=0).fit(x.numpy())
    model = gf.GaussianMixture.from_parameters(
        peer.weights_, peer.means_, (peer.covariances_ + peer.covariances_.swapaxes(1, 2)) / 2
    )
    assert np.abs(model.log_prob(x).numpy() - peer.score_samples(x.numpy())).max() < 1e-9


@pytest.mark.parametrize("covariance, rank", [("full", None), ("diagonal", None), ("low_rank", 1), ("low_rank", 0)])
@pytest.mark.filterwarnings("ignore:data. the smallest variance")  # at 0.2
@pytest.mark.parametrize("min_variance", [1e-6, 0.2])
def test_em_never_loses(covariance, rank, min_variance):
    """Also where the smallest variance binds."""
    model = gf.GaussianMixture(4, covariance, rank=rank, min_variance=min_variance, tolerance=1e-6).fit(clouds())
    assert model.converged and len(model.trace) > 5 and min(np.diff(model.trace)) > -1e-12
    floor = min_variance * clouds().var(0, correction=0)
    floor = floor if covariance == "diagonal" else floor.mean()
    assert all((part >= floor * (1 - 1e-12)).all() for part in (model.variances, model.residual) if part is not None)
    assert model.trace[-1] == pytest.approx(float(model.log_prob(clouds()).mean()), abs=1e-12)


def test_one_component_is_the_gaussian():
    x = clouds()
    for covariance, rank in (("full", None), ("diagonal", None), ("low_rank", 1)):
        mixture = gf.GaussianMixture(1, covariance, rank=rank).fit(x)
        assert torch.allclose(mixture.log_prob(x), gf.Gaussian(covariance, rank=rank).fit(x).log_prob(x), atol=1e-12)


def test_a_unit_changes_the_density_by_its_logarithm():
    """Diagonal, also from centers of its own: in units c times as small, log p is less by log c, to rounding."""
    x, units = clouds(), torch.tensor([1e4, 1.0, 1e-3]).double()
    plain, scaled = (gf.GaussianMixture(4, "diagonal").fit(data) for data in (x, x * units))
    assert torch.allclose(scaled.log_prob(x * units), plain.log_prob(x) - units.log().sum(), rtol=0, atol=1e-9)
    assert torch.allclose(scaled.means, plain.means * units, rtol=1e-9)


def test_columns_of_any_scale():
    """Diagonal, as good as scikit-learn where variances are from 7e-6 to 3e5; full, with a warning of what is lost."""
    x = load_breast_cancer().data
    peer = Peer(2, covariance_type="diag", random_state=0).fit(x)
    assert gf.GaussianMixture(2, "diagonal").fit(x).trace[-1] > peer.score(x) - 0.1
    low = int((np.linalg.eigvalsh(np.cov(x.T)) < 1e-6 * x.var(0).mean()).sum())
    with pytest.warns(UserWarning, match=f"data: {low} of the 30 eigenvalues .* scale the coordinates alike") as caught:
        gf.GaussianMixture(2, tolerance=0.1).fit(x)
    assert low > 5 and caught[0].filename == __file__


@pytest.mark.parametrize("covariance, rank", [("full", None), ("diagonal", None), ("low_rank", 1), ("low_rank", 0)])
@pytest.mark.parametrize("far", [[[1e6, 1e6]], [[1e6, 0.0], [0.0, 1e6]], [[1e6, 0.0]]])
def test_a_floor_above_the_spread_of_most_samples_is_told(covariance, rank, far):
    """One outlier makes the smallest standard deviation 57; without it, and of many zeros, nothing is said."""
    x = torch.cat([normal(300, 2), torch.tensor(far).double()])
    with pytest.warns(UserWarning, match=r"data: .*take a smaller min_variance") as caught:
        gf.GaussianMixture(2, covariance, rank=rank).fit(x)
    assert caught[0].filename == __file__
    spike = torch.where(normal(300, 2, seed=1) > 0.7, normal(300, 2), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = gf.GaussianMixture(2, covariance, rank=rank, min_variance=1e-15, tolerance=1e-3).fit(x)
        gf.GaussianMixture(2, covariance, rank=rank, tolerance=1e-2).fit(spike)
    if len(far) == 1:  # beside a component of its own: the others have a standard deviation of 1
        large = model._spectral().component(int(model.weights.argmax()))
        assert large.matrices()[0].diagonal().sqrt() == pytest.approx([1, 1], rel=0.1)


@pytest.mark.parametrize("covariance, rank", [("full", None), ("diagonal", None), ("low_rank", 1), ("low_rank", 0)])
def test_a_floor_above_the_spread_of_narrow_clusters_is_told(covariance, rank):
    """Standard deviations of 1, and centers so far apart that the smallest is 50; nothing is said where it is 0.05."""
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).double().repeat(200, 1)
    with pytest.warns(UserWarning, match=r"above that of most samples .*take a smaller min_variance") as caught:
        gf.GaussianMixture(3, covariance, rank=rank).fit(normal(600, 2) + 1e5 * centers)
    assert caught[0].filename == __file__ and len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gf.GaussianMixture(3, covariance, rank=rank).fit(normal(600, 2) + 1e2 * centers)
        one = torch.where(centers.sum(1, keepdim=True) > 0, 1e3, 1.0)  # the floor smooths a third of the samples
        gf.GaussianMixture(3, covariance, rank=rank).fit(one * normal(600, 2) + 1e6 * centers)


def test_unlike_units_with_a_smaller_floor():
    """Full: what the warning advises."""
    x, units = clouds(), torch.tensor([1.0, 1e-7, 1e4]).double()
    start = gf.GaussianMixture(2).fit(x)
    moved = gf.GaussianMixture.from_parameters(
        start.weights, start.means * units, start._spectral().matrices() * units * units[:, None]
    )
    plain = gf.GaussianMixture(2).fit(x, start=start)
    scaled = gf.GaussianMixture(2, min_variance=1e-25).fit(x * units, start=moved)
    assert torch.allclose(scaled.log_prob(x * units), plain.log_prob(x) - units.log().sum(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_clouds_far_from_the_origin(covariance):
    """float64: the same start and the same end."""
    near, far = (gf.GaussianMixture(3, covariance).fit(clouds() + c) for c in (0.0, 1e8))
    assert len(near.trace) == len(far.trace)
    assert torch.allclose(far.log_prob(clouds() + 1e8), near.log_prob(clouds()), rtol=0, atol=1e-5)


def test_a_constant_column_has_the_smallest_share_of_the_mean_variance():
    x = clouds()
    x[:, 1] = 0.1
    model = gf.GaussianMixture(2, "diagonal", min_variance=1e-3).fit(x)
    assert torch.allclose(model.variances[:, 1], 1e-3 * x.var(0, correction=0).mean(), rtol=1e-12)


def test_repeated_points_do_not_become_a_spike():
    x = torch.cat([clouds(), torch.ones(30, 3).double()])
    model = gf.GaussianMixture(4, min_variance=1e-3).fit(x)
    assert model.log_prob(x).isfinite().all() and model._spectral().smallest() > 1e-4


def test_planted_clouds_are_found():
    centers = torch.tensor([[0.0, 8.0], [8.0, 0.0], [-8.0, 0.0], [0.0, -8.0]]).double()
    x = centers.repeat(200, 1) + normal(800, 2)
    for seed in range(3):
        model = gf.GaussianMixture(4, seed=seed).fit(x)
        assert torch.cdist(model.means, centers).min(0).values.max() < 0.4
        assert torch.allclose(model.weights, torch.full((4,), 0.25).double(), atol=0.01)
        assert torch.allclose(model.responsibilities(x).sum(1), torch.ones(800).double())


def test_more_starts_are_at_least_as_good():
    x = clouds()
    ends = [gf.GaussianMixture(5, "diagonal", starts=n, tolerance=1e-4).fit(x).trace[-1] for n in (1, 2, 5)]
    assert ends == sorted(ends)
    assert torch.equal(gf.GaussianMixture(3, seed=1).fit(x).means, gf.GaussianMixture(3, seed=1).fit(x).means)


def test_centers_are_drawn_by_squared_distance():
    """Of three points, the second center is the far one with probability d_far^2 / (d_near^2 + d_far^2)."""
    x = torch.tensor([[0.0], [1.0], [3.0]]).double()
    drawn = torch.stack([_centers(x, 2, seed, 0).flatten() for seed in range(3000)])
    first = torch.tensor([float((drawn[:, 0] == v).double().mean()) for v in (0, 1, 3)])
    assert ((first - 1 / 3).abs() < 4 * math.sqrt(2 / 9 / 3000)).all()
    second = drawn[drawn[:, 0] == 0, 1]
    share = float((second == 3).double().mean())
    assert abs(share - 0.9) < 4 * math.sqrt(0.09 / len(second))


def test_unfinished_em_says_so():
    with pytest.warns(
        UserWarning, match=r"not converged in max_iterations=2: the last gained .* nats a sample"
    ) as caught:
        model = gf.GaussianMixture(3, max_iterations=2).fit(clouds())
    assert not model.converged and len(model.trace) == 3 and caught[0].filename == __file__


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="data: all 9 samples are alike"):
        gf.GaussianMixture(2).fit(torch.ones(9, 2))
    with pytest.raises(ValueError, match="components must be at most the 2 different samples; got 3"):
        gf.GaussianMixture(3, "diagonal").fit(torch.tensor([[0.0], [1.0]]).repeat(9, 1))
    with pytest.raises(TypeError, match="start must be a GaussianMixture; got Gaussian"):
        gf.GaussianMixture(3).fit(clouds(), start=gf.Gaussian())
    for start in (gf.GaussianMixture(3), gf.GaussianMixture.from_parameters([1.0], [[0.0] * 3], [1.0])):
        with pytest.raises(ValueError, match=r"start must be fitted, with 3 components and samples of shape \(3,\)"):
            gf.GaussianMixture(3).fit(clouds(), start=start)
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"weights must be \(K,\), positive and finite"):
            gf.GaussianMixture.from_parameters([weight], [[0.0]], [1.0])
    for mean, variance in ((math.nan, 1.0), (math.inf, 1.0), (0.0, math.nan), (0.0, math.inf)):
        with pytest.raises(ValueError, match=r"(means|covariances) must be finite"):
            gf.GaussianMixture.from_parameters([1.0], [[mean]], [variance])
