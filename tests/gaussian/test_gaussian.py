"""Laws that every model in closed form obeys, and the Gaussian against scikit-learn, formulas and its own samples."""

import math

import numpy as np
import pytest
import torch
from helpers import normal
from sklearn.mixture import GaussianMixture as Peer

import genfast as gf
from genfast.gaussian.estimate import check_capacity

SHAPE, SIZE = (1, 2, 3), 6


def correlated(count=400, seed=0):
    """Two clouds, correlated, (count, 1, 2, 3)."""
    x = normal(count, SIZE, seed=seed) @ normal(SIZE, SIZE, seed=9) * 0.4 + 1
    x[::3] = 0.5 * x[::3].flip(1) - 2
    return x.view(count, *SHAPE)


MAKERS = {
    "full": lambda: gf.Gaussian(),
    "diagonal": lambda: gf.Gaussian("diagonal"),
    "low rank": lambda: gf.Gaussian("low_rank", rank=2),
    "isotropic": lambda: gf.Gaussian("low_rank", rank=0),
    "ppca": lambda: gf.PPCA(3),
    "full mixture": lambda: gf.GaussianMixture(2),
    "diagonal mixture": lambda: gf.GaussianMixture(3, "diagonal", tolerance=1e-4),
    "low-rank mixture": lambda: gf.GaussianMixture(2, "low_rank", rank=2),
}
FITTED = {}
every = pytest.mark.parametrize("name", MAKERS)


def fitted(name):
    if name not in FITTED:
        FITTED[name] = MAKERS[name]().fit(correlated())
    return FITTED[name]


def moments(model):
    """Exact mean (D,) and covariance (D, D)."""
    mean = model.weights @ model.means
    apart = model.means - mean
    within = torch.einsum("k,kde->de", model.weights, model._spectral().matrices())
    return mean, within + torch.einsum("k,kd,ke->de", model.weights, apart, apart)


# Density and score ----------------------------------------------------------------------------------------------------


@every
def test_density_is_that_of_the_dense_matrices(name):
    model, x = fitted(name), correlated(50, seed=1)
    components = torch.distributions.MultivariateNormal(model.means, model._spectral().matrices())
    expected = torch.logsumexp(components.log_prob(x.flatten(1).unsqueeze(1)) + model.weights.log(), 1)
    found = model.log_prob(x)
    assert found.dtype == torch.float64 and (found - expected).abs().max() < 1e-9


@every
def test_score_is_the_gradient_of_the_density(name):
    model, x = fitted(name), correlated(50, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(x).sum(), x)
    score = model.score(x.detach())
    assert score.shape == x.shape and (score - gradient).abs().max() < 1e-10 * max(1, float(gradient.abs().max()))


def test_rows_do_not_depend_on_those_beside_them():
    model, x = fitted("full mixture"), correlated(40)
    parts = torch.cat([model.log_prob(x[:7]), model.log_prob(x[7:].numpy())])
    assert torch.allclose(model.log_prob(x), parts, rtol=1e-13)


# Samples --------------------------------------------------------------------------------------------------------------


@every
def test_samples_have_the_moments_of_the_model(name):
    model, count = fitted(name), 40_000
    x = model.sample(count, seed=3).double().flatten(1)
    mean, covariance = moments(model)
    assert ((x.mean(0) - mean) / (covariance.diag() / count).sqrt()).abs().max() < 4
    products = (x - mean).unsqueeze(2) * (x - mean).unsqueeze(1)
    assert ((products.mean(0) - covariance) / (products.var(0) / count).sqrt()).abs().max() < 4.5
    entropy = -model.log_prob(x.view(-1, *SHAPE))
    again = -model.log_prob(model.sample(count, seed=4))  # the density of samples is that of other samples
    assert (entropy.mean() - again.mean()).abs() < 4 * (entropy.var() * 2 / count).sqrt()


@every
def test_sample_i_is_sample_i(name):
    model = fitted(name)
    whole = model.sample(150, seed=5)
    assert whole.dtype == torch.float32 and whole.shape == (150, *SHAPE)
    assert torch.equal(torch.cat([model.sample(range(a, b), seed=5) for a, b in ((0, 1), (1, 70), (70, 150))]), whole)
    scattered = torch.tensor([149, 3, 64, 3, 63])
    assert torch.equal(model.sample(scattered, seed=5), whole[scattered])
    assert not torch.equal(model.sample(150, seed=6), whole)
    assert model.sample(0).shape == (0, *SHAPE)


def test_samples_do_not_depend_on_the_choice_of_eigenvectors():
    model = fitted("low rank")
    turned = gf.Gaussian("low_rank", rank=2)
    turned._set(SHAPE, model.weights, model.means, model._spectral()._replace(basis=-model.basis))
    assert torch.equal(turned.sample(64), model.sample(64))


# Maximum likelihood ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_fit_is_that_of_scikit_learn(covariance):
    x = correlated().flatten(1)
    peer = Peer(1, covariance_type=covariance[:4], reg_covar=0).fit(x.numpy())
    model = gf.Gaussian(covariance).fit(x)
    assert np.abs(model.log_prob(x).numpy() - peer.score_samples(x.numpy())).max() < 1e-9
    assert np.abs(model.mean.numpy() - peer.means_[0]).max() < 1e-12


@pytest.mark.parametrize("name", ["full", "diagonal", "low rank", "isotropic"])
def test_no_change_of_the_parameters_is_likelier(name):
    x, model = correlated(), fitted(name)
    best = model.log_prob(x).mean()
    for factor in (0.98, 1.02):
        other = MAKERS[name]()._set(SHAPE, model.weights, model.means, model._spectral().map(lambda v, f=factor: f * v))
        assert other.log_prob(x).mean() < best
        other._set(SHAPE, model.weights, model.means * factor, model._spectral())
        assert other.log_prob(x).mean() < best


def test_shrinkage_and_ridge():
    x = correlated().flatten(1)
    plain = torch.cov(x.T, correction=0)
    model = gf.Gaussian(shrinkage=0.3, ridge=0.1).fit(x)
    expected = 0.7 * plain + (0.3 * plain.trace() / SIZE + 0.1) * torch.eye(SIZE).double()
    assert torch.allclose(model.covariance_matrix, expected, rtol=0, atol=1e-12)
    low = gf.Gaussian("low_rank", rank=2, shrinkage=1).fit(x)
    assert torch.allclose(low.covariance_matrix, plain.trace() / SIZE * torch.eye(SIZE).double(), atol=1e-12)


def test_from_moments():
    mean, root = normal(2, 2), normal(4, 4)
    model = gf.Gaussian.from_moments(mean, root @ root.T)
    assert model.shape == (2, 2) and torch.equal(model.mean, mean)
    assert torch.allclose(model.covariance_matrix, root @ root.T, atol=1e-13)
    assert torch.equal(gf.Gaussian.from_moments(mean, mean**2).covariance_matrix.diag(), mean.flatten() ** 2)
    with pytest.raises(ValueError, match=r"covariance must have shape \(4, 4\), \(4,\) or that of mean; got \(3,\)"):
        gf.Gaussian.from_moments(mean, torch.ones(3))


@pytest.mark.parametrize("covariance", [[1.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]])
def test_a_singular_covariance_has_samples_but_no_density(covariance):
    model = gf.Gaussian.from_moments([1.0, 2.0], covariance)
    assert model.sample(9).isfinite().all()
    for call in (model.log_prob, model.score):
        with pytest.raises(ValueError, match="covariance: the model's is singular, a variance is zero"):
            call(torch.zeros(3, 2))


# Capacity -------------------------------------------------------------------------------------------------------------


def test_parameters_are_counted():
    size = 64 * 64
    counted = {
        "full": size + size * (size + 1) // 2,
        "diagonal": 2 * size,
        "low_rank": size + 10 * size - 45 + 1,
    }
    assert counted["full"] - size == 8_390_656  # the covariance of 64 x 64 numbers, without the mean
    for covariance, expected in counted.items():
        rank = 10 if covariance == "low_rank" else None
        assert gf.Gaussian(covariance, rank=rank, shape=(64, 64)).parameters_count == expected
    assert gf.GaussianMixture(3, shape=(2,)).parameters_count == 3 * 5 + 2


def test_too_few_samples_are_warned_of_with_the_numbers():
    few = correlated(8).flatten(1)
    with pytest.warns(UserWarning, match="8 samples of 6 numbers are 48 numbers, for 27 parameters") as caught:
        gf.Gaussian().fit(few)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="5 samples of 6 numbers are 30 numbers"):
        gf.Gaussian(shrinkage=0.1).fit(few[:5])
    with pytest.raises(ValueError, match=r"6 samples of 6 numbers are 36 numbers.*it is singular; give shrinkage= or"):
        gf.Gaussian().fit(few[:6])
    with pytest.raises(
        ValueError, match="300 samples of 4,096 numbers are 1,228,800 numbers, for 8,394,752 parameters"
    ):
        check_capacity(300, 4096, 1, regularized=False)
    with pytest.warns(UserWarning, match="20 samples of 6 numbers .* 81 parameters of 3 full") as caught:
        gf.GaussianMixture(3, tolerance=1).fit(correlated(20).flatten(1))
    assert caught[0].filename == __file__


def test_enough_samples_are_not_warned_of(recwarn):
    gf.Gaussian().fit(correlated(9))
    gf.Gaussian("diagonal").fit(correlated(3))
    assert not recwarn.list


def test_singular_data_are_refused_with_a_remedy():
    x = correlated().flatten(1)
    x[:, 2] = 1.5
    for covariance in ("full", "diagonal"):
        with pytest.raises(ValueError, match=r"singular, 1 of its 6 variances are zero.*give ridge= or shrinkage="):
            gf.Gaussian(covariance).fit(x)
        assert math.isfinite(float(gf.Gaussian(covariance, ridge=1e-3).fit(x).log_prob(x).sum()))
    with pytest.raises(ValueError, match=r"singular, 1 of its 6 variances .*take a smaller q"):
        gf.PPCA(5).fit(x)


def test_columns_of_any_unit():
    """Diagonal: in units c times as small, log p is less by log c."""
    x, units = normal(50, 2) + 3, torch.tensor([1e5, 1e-4]).double()
    plain, scaled = (gf.Gaussian("diagonal").fit(data) for data in (x, x * units))
    assert torch.allclose(scaled.log_prob(x * units), plain.log_prob(x) - units.log().sum(), rtol=0, atol=1e-11)


UNITS = [[1e-7, 1.0, 1.0], [1.0, 1e-12, 1e12], [1e-40, 1e3, 1e40], [1e-5, 1e-5, 1.0]]


@pytest.mark.parametrize("units", UNITS)
def test_full_covariances_of_any_unit(units):
    """Density and score as of alike ones; also of a covariance given by hand."""
    x, units = normal(200, 3) @ normal(3, 3, seed=1) + 3, torch.tensor(units, dtype=torch.float64)
    plain, scaled = (gf.Gaussian().fit(data) for data in (x, x * units))
    by_hand = gf.Gaussian.from_moments(plain.mean * units, plain.covariance_matrix * units * units[:, None])
    for model in (scaled, by_hand):
        assert torch.allclose(model.log_prob(x * units), plain.log_prob(x) - units.log().sum(), rtol=0, atol=1e-9)
        assert torch.allclose(model.score(x * units) * units, plain.score(x), rtol=1e-8, atol=1e-8)
    assert torch.allclose(scaled.covariance_matrix / units / units[:, None], plain.covariance_matrix, rtol=1e-9)


@pytest.mark.parametrize("units", UNITS)
def test_dependent_columns_are_singular_in_any_unit(units):
    x = normal(200, 3)
    x[:, 2] = x[:, 0] - 2 * x[:, 1]
    with pytest.raises(ValueError, match="the covariance is singular"):
        gf.Gaussian().fit(x * torch.tensor(units, dtype=torch.float64))


def test_ppca_of_a_narrow_rest():
    x = normal(300, 2) * torch.tensor([1e8, 1.0]).double()
    assert gf.PPCA(1).fit(x).noise_variance == pytest.approx(float(x[:, 1].var(correction=0)), rel=0.02)


@pytest.mark.parametrize("count", [7, 1000])
def test_a_constant_column_is_found_beside_one_of_another_unit(count):
    """Also where it is no sum of few powers of two, so that its mean is not exact."""
    x = normal(count, 3) * torch.tensor([1e5, 0.0, 1e-12]).double() + torch.tensor([0.0, 1234.1, 0.0]).double()
    with pytest.raises(ValueError, match="singular, 1 of its 3 variances are zero"):
        gf.Gaussian("diagonal").fit(x)


# Files ----------------------------------------------------------------------------------------------------------------


@every
def test_saved_and_loaded(name, tmp_path):
    model, x = fitted(name), correlated(20)
    gf.save(model, tmp_path / "model", extra={"note": 1})
    again = gf.load(tmp_path / "model")
    assert type(again) is type(model) and again.shape == model.shape and again.config() == model.config()
    assert torch.equal(again.log_prob(x), model.log_prob(x)) and torch.equal(again.sample(9), model.sample(9))


@pytest.mark.filterwarnings("ignore:EM has not converged")
@pytest.mark.parametrize("max_iterations", [2, 2000])
def test_a_loaded_model_does_not_claim_to_know_whether_em_had_converged(max_iterations, tmp_path):
    x = correlated().flatten(1)
    holed = torch.where(x > 2, math.nan, x)
    for make, data in (
        (lambda n: gf.PPCA(2, max_iterations=n), holed),
        (lambda n: gf.GaussianMixture(4, max_iterations=n), x),
    ):
        assert make(2).converged is None
        model = make(max_iterations).fit(data)
        assert model.converged is (max_iterations > 2) and len(model.trace) > 1
        gf.save(model, tmp_path)
        assert gf.load(tmp_path).converged is None and gf.load(tmp_path).trace == ()
    assert gf.PPCA(2).fit(x).converged is True


def test_parameters_given_by_hand_are_saved_too(tmp_path):
    gf.save(gf.GaussianMixture.from_parameters([1, 3], [[0.0], [1.0]], [1.0, 2.0]), tmp_path)
    assert torch.equal(gf.load(tmp_path).weights, torch.tensor([0.25, 0.75]).double())


# Input ----------------------------------------------------------------------------------------------------------------


def test_data_of_every_kind():
    x = correlated()
    expected = gf.Gaussian().fit(x).mean
    assert torch.equal(gf.Gaussian().fit(x.numpy()).mean, expected)
    assert torch.allclose(gf.Gaussian().fit(gf.data.Data(x)).mean, expected, atol=1e-6)  # which holds float32
    assert torch.equal(gf.Gaussian().fit((x, torch.zeros(len(x)))).mean, expected)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: gf.Gaussian("round"), ValueError, "covariance must be one of full, diagonal, low_rank; got 'round'"),
        (lambda: gf.Gaussian("low_rank"), ValueError, "rank goes with covariance='low_rank'"),
        (lambda: gf.Gaussian(rank=2), ValueError, "rank goes with covariance='low_rank'"),
        (lambda: gf.Gaussian("low_rank", rank=-1), ValueError, "rank must be an integer of at least 0; got -1"),
        (lambda: gf.Gaussian(shrinkage=1.5), ValueError, r"shrinkage must be a number in \[0, 1\]; got 1.5"),
        (lambda: gf.Gaussian(ridge=-1), ValueError, "ridge must be a finite number of at least 0; got -1"),
        (lambda: gf.Gaussian(ridge="1"), ValueError, "ridge must be a finite number .*; got '1'"),
        (
            lambda: gf.Gaussian(shape=(2, 0)),
            ValueError,
            r"shape must be a positive integer or .*; got \(2, 0\)",
        ),
        (lambda: gf.Gaussian(shape=2.0), ValueError, "shape must be a positive integer or a sequence of them; got 2.0"),
        (lambda: gf.GaussianMixture(2, shape=()), ValueError, r"shape must be a positive integer or .*; got \(\)"),
        (lambda: gf.PPCA(1, shape="23"), ValueError, "shape must be a positive integer or .*; got '23'"),
        (lambda: gf.PPCA.from_moments([0.0], [1.0]), TypeError, "PPCA has no from_moments, it is fitted to data; use"),
        (lambda: gf.PPCA(0), ValueError, "q must be an integer of at least 1; got 0"),
        (
            lambda: gf.PPCA(3, shape=(3,)),
            ValueError,
            "q must be below 3, the numbers of a sample of shape",
        ),
        (lambda: gf.PPCA(6).fit(correlated()), ValueError, "q must be below 6, with 400 samples of 6 numbers"),
        (lambda: gf.PPCA(3).fit(correlated(4)), ValueError, "q must be below 3, with 4 samples of 6 numbers"),
        (lambda: gf.GaussianMixture(0), ValueError, "components must be an integer of at least 1; got 0"),
        (
            lambda: gf.GaussianMixture(2, min_variance=0),
            ValueError,
            r"min_variance must be a number in \(0, 1\]",
        ),
        (lambda: gf.Gaussian().fit([[1.0]]), TypeError, "data must be Data, a tensor or an array; got list"),
        (lambda: gf.Gaussian().fit(torch.ones(4, 2).long()), TypeError, "data must hold floating-point numbers"),
        (lambda: gf.Gaussian().fit(torch.ones(4)), ValueError, r"data must have shape \(N, \*\)"),
        (
            lambda: gf.Gaussian().fit(torch.full((4, 2), math.nan)),
            ValueError,
            r"data must be finite; rows \[0, 1, 2, 3",
        ),
        (lambda: gf.PPCA(1).fit(torch.full((4, 2), math.inf)), ValueError, "data must be finite or NaN where missing"),
        (
            lambda: gf.Gaussian(shape=(3,)).fit(torch.ones(4, 2)),
            ValueError,
            r"data must have shape \(N, 3\); got \(4, 2",
        ),
        (lambda: gf.Gaussian().log_prob(torch.ones(4, 2)), RuntimeError, r"Gaussian has no parameters yet: call fit"),
        (lambda: gf.Gaussian(shape=(2,)).sample(3), RuntimeError, r"Gaussian has no parameters yet: call fit"),
        (lambda: gf.Gaussian().denoiser("flow"), RuntimeError, r"has no parameters yet"),
        (lambda: gf.Gaussian().parameters_count, RuntimeError, "shape of a sample is not known yet"),
        (
            lambda: fitted("full").log_prob(torch.ones(4, 2)),
            ValueError,
            r"x must have shape \(N, 1, 2, 3\); got \(4, 2",
        ),
        (lambda: fitted("full").sample(-1), ValueError, "n must be a number of samples or their indices"),
        (lambda: fitted("full").sample(3, seed=-1), ValueError, "seed must be an integer from 0 to"),
        (lambda: fitted("full").denoiser("vp"), ValueError, "vp"),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("mean, covariance", [
    ([math.nan, 0.0], [1.0, 1.0]), ([0.0, -math.inf], [1.0, 1.0]), ([0.0, 0.0], [1.0, math.nan]),
    ([0.0, 0.0], [[1.0, math.nan], [math.nan, 1.0]]), ([0.0, 0.0], [[math.inf, 0.0], [0.0, 1.0]]),
])  # fmt: skip
def test_moments_that_are_not_finite(mean, covariance):
    with pytest.raises(ValueError, match=r"(mean|covariances) must be finite; got (nan|inf|-inf)"):
        gf.Gaussian.from_moments(mean, covariance)


@every
def test_numbers_too_large_to_be_squared(name):
    with pytest.raises(ValueError, match=r"data must hold numbers up to 1e\+150, which can be squared; got"):
        MAKERS[name]().fit(1e200 * correlated(50))
    with pytest.raises(ValueError, match=r"x must hold numbers up to 1e\+150"):
        fitted(name).score(torch.full((2, *SHAPE), 1e200, dtype=torch.float64))


def test_samples_beyond_float32_are_an_error():
    model = gf.Gaussian.from_moments([0.0, 1e60], [1.0, 1.0])
    with pytest.raises(FloatingPointError, match=r"samples \[7, 9\] are not finite in float32"):
        model.sample([7, 9])


def test_what_it_says_of_itself():
    assert repr(gf.Gaussian()) == "Gaussian(shape=None, components=1, covariance=full; not fitted)"
    assert "low_rank, rank=3; " in repr(fitted("ppca")) and "22 parameters" in repr(fitted("ppca"))


@pytest.mark.parametrize("name", MAKERS)
def test_densities_and_scores_under_vmap(name):
    """A row at a time, and by jacrev, whose wrapped tensors have no values to look at."""
    model, x = MAKERS[name]().fit(correlated()), correlated(5, seed=1)
    by_row = torch.func.vmap(lambda row: model.log_prob(row[None])[0])(x)
    torch.testing.assert_close(by_row, model.log_prob(x))
    torch.testing.assert_close(torch.func.vmap(lambda row: model.score(row[None])[0])(x), model.score(x))
    gradient = torch.func.vmap(torch.func.grad(lambda row: model.log_prob(row[None])[0]))(x)
    torch.testing.assert_close(gradient, model.score(x))
