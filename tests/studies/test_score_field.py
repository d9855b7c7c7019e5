"""The study of the score field: errors that are known beforehand, and that they are small only where data are."""

import itertools

import pytest
import torch

from genfast.studies import score_field
from genfast.studies.planes import noised, spiral


def test_known_errors():
    """A score that is 10 % too long is off by 1 % of its mean square, and has the right direction."""
    exact = spiral().denoiser("edm")
    t = 0.5 / 80
    x = noised(spiral(), exact.schedule, t, 2000, seed=0)
    found = score_field.errors(lambda p: 1.1 * exact.score(p, t), lambda p: exact.score(p, t), x, 0.5)
    assert found.relative == pytest.approx(0.01) and found.cosine == pytest.approx(1)
    torch.testing.assert_close(found.squared, 0.25 * (0.1 * exact.score(x, t)).square().sum(1))


def test_the_grid_is_the_window():
    cells = score_field.grid(4)
    assert cells[:2].tolist() == [[-3, -3], [-1, -3]] and cells[-1].tolist() == [3, 3] and len(cells) == 16


def test_the_score_is_learned_where_data_are():
    finding = score_field.study(progress=False, steps=200)
    sigma, squared, relative, cosine, dense, _, off, empty = zip(*finding.rows)
    assert sigma == (0.1, 0.3, 1.0) and all(a > b for a, b in itertools.pairwise(empty))
    # a score of zero would be off by sigma^2 E|score|^2, up to 2
    assert max(squared) < 0.2 and max(dense) < 0.2 and max(relative) < 0.2 and min(cosine) > 0.6
    assert all(100 * a < b for a, b in zip(squared[:2], off)) and off[0] > 10
