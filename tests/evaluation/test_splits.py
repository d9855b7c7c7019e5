"""Random parts of n samples."""

import torch

from genfast.evaluation.splits import outside, subset


def test_a_part_is_random_and_ascending():
    """Not the first n: files are often sorted by class."""
    first, again, other, split = (subset(70, 20, *key) for key in ((0,), (0, 0), (1,), (0, 1)))
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, split)
    assert torch.equal(first, first.unique()) and len(first) == 20 and first.max() > 40 and first.dtype == torch.int64
    assert torch.equal(subset(70, 70, 0), torch.arange(70)) and torch.equal(subset(70, 99, 0), torch.arange(70))


def test_the_others():
    part = subset(70, 20, 0)
    rest = outside(part, 70)
    assert torch.equal(torch.cat([part, rest]).sort().values, torch.arange(70)) and torch.equal(rest, rest.unique())
