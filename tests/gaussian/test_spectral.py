"""Functions of covariances by their eigenvalues, against the dense matrices."""

import pytest
import torch
from helpers import normal

from genfast.gaussian.spectral import Spectral, as_spectral, eigen

K, D, B = 3, 5, 4


def frames(q):
    return torch.linalg.qr(normal(K, D, q)).Q


MADE = {
    "diagonal": Spectral(normal(K, D).square()),
    "full": Spectral(normal(K, D).square(), frames(D)),
    "rank 2": Spectral(normal(K, 2).square(), frames(2), normal(K).square()),
    "rank 0": Spectral(torch.zeros(K, 0).double(), torch.zeros(K, D, 0).double(), normal(K).square()),
}
every = pytest.mark.parametrize("spectral", MADE.values(), ids=MADE)


def times_dense(matrices, x):
    return torch.einsum("kde,bke->bkd", matrices, x)


@every
def test_a_vector_is_put_together_again(spectral):
    x = normal(B, K, D)
    assert torch.allclose(spectral.join(*spectral.split(x)), x, rtol=0, atol=1e-14)


@every
def test_product_and_inverse_are_those_of_the_matrix(spectral):
    x, parts = normal(B, K, D), spectral.split(normal(B, K, D))
    dense = spectral.matrices()
    assert torch.allclose(spectral.join(*spectral.times(*parts)), times_dense(dense, x), rtol=1e-12, atol=1e-13)
    solved = spectral.join(*spectral.solve(*parts))
    assert torch.allclose(times_dense(dense, solved), x, rtol=1e-9, atol=1e-9)


@every
def test_the_root_squared_is_the_matrix(spectral):
    root = spectral.map(torch.sqrt).matrices()
    assert torch.allclose(root, root.mT, atol=1e-14)
    assert torch.allclose(root @ root, spectral.matrices(), rtol=0, atol=1e-13)


@every
def test_noise_adds_to_every_direction(spectral):
    alpha, sigma = normal(B).abs(), normal(B, seed=1).abs()
    noised = spectral.noised(alpha, sigma)
    for b in range(B):
        one = Spectral(noised.variances[b], spectral.basis, None if noised.residual is None else noised.residual[b])
        expected = alpha[b] ** 2 * spectral.matrices() + sigma[b] ** 2 * torch.eye(D).double()
        assert torch.allclose(one.matrices(), expected, rtol=0, atol=1e-13)
        assert one.smallest() == pytest.approx(float(torch.linalg.eigvalsh(expected).min()), abs=1e-13)


@every
def test_a_component_alone(spectral):
    assert torch.equal(spectral.component(1).matrices()[0], spectral.matrices()[1])


def test_from_matrices():
    root = normal(K, D, D)
    full = root @ root.mT
    assert torch.allclose(as_spectral(full, K, D).matrices(), full, rtol=0, atol=1e-13)
    assert torch.equal(as_spectral(torch.ones(K), K, D).matrices(), torch.eye(D).double().expand(K, D, D))
    singular = as_spectral(normal(1, D, 1) @ normal(1, D, 1).mT, 1, D)
    assert singular.smallest() == 0 and (singular.variances > 0).sum() == 1
    assert as_spectral(MADE["rank 2"], K, D) is MADE["rank 2"]


@pytest.mark.parametrize("size", [2, 7, 12, 40])
def test_eigenvalues_to_a_relative_error(size):
    """Of units from 1e-20 to 1e20 the product of the eigenvalues is the determinant, and axes are orthogonal."""
    root, units = normal(size, 2 * size), 10 ** torch.linspace(-20, 20, size).double()[torch.randperm(size)]
    matrix = (root @ root.T) * units * units[:, None]
    variances, basis = eigen(matrix)
    assert (variances.diff() >= 0).all()
    assert torch.allclose(variances.log().sum(), torch.logdet(root @ root.T) + 2 * units.log().sum(), rtol=1e-12)
    assert torch.allclose(basis.T @ basis, torch.eye(size).double(), rtol=0, atol=1e-13)
    rebuilt = (basis * variances) @ basis.T
    assert torch.allclose(rebuilt / units / units[:, None], root @ root.T, rtol=1e-10, atol=1e-10)


def test_eigenvalues_of_alike_units_are_those_of_lapack():
    root = normal(6, 9)
    assert all(torch.equal(a, b) for a, b in zip(eigen(root @ root.T), torch.linalg.eigh(root @ root.T)))


def test_symmetric_to_rounding_is_symmetric():
    """Entries near zero differ by a rounding error of the largest, each matrix by its own."""
    U = torch.linalg.qr(normal(2, 40, 40)).Q
    v = torch.linspace(1, 1 + 1e-6, 40).double() * torch.tensor([[1.0], [1e8]]).double()
    full = (U * v.unsqueeze(1)) @ U.mT
    assert not torch.allclose(full, full.mT, rtol=1e-12, atol=0)
    found = as_spectral(full, 2, 40)
    assert torch.allclose(found.variances, v, rtol=1e-13)
    assert ((found.matrices() - full).abs().amax((1, 2)) < 1e-13 * v[:, 0]).all()
    assert torch.equal(as_spectral(full.mT, 2, 40).variances, found.variances)  # no half of it is preferred
    for index in range(2):
        skewed = full.clone()
        skewed[index, 0, 1] += 1e-11 * full[index].max()
        with pytest.raises(ValueError, match="covariances must be symmetric; entries differ by up to"):
            as_spectral(skewed, 2, 40)


@pytest.mark.parametrize("name, size", [("diagonal", D + 1), ("full", D + 1), ("rank 2", D + 1)])
def test_wrong_sizes_are_refused(name, size):
    with pytest.raises(ValueError, match=rf"covariances must be {K} of {size} numbers each"):
        as_spectral(MADE[name], K, size)
    with pytest.raises(ValueError, match=rf"covariances must be {K - 1} of"):
        as_spectral(MADE[name], K - 1, D)


def test_a_negative_variance_is_refused():
    with pytest.raises(ValueError, match="positive semi-definite; the smallest variance is -1"):
        as_spectral(MADE["rank 2"]._replace(residual=-torch.ones(K).double()), K, D)
