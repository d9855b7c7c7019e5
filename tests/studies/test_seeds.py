"""studies.seeds: weights of a seed, and the global generator left alone."""

import torch

from genfast.studies.seeds import seeded


def test_weights_are_those_of_the_seed():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(3):
        first = torch.nn.Linear(2, 2).weight
    assert torch.get_rng_state().equal(before)
    with seeded(3):
        again = torch.nn.Linear(2, 2).weight
    with seeded(4):
        other = torch.nn.Linear(2, 2).weight
    assert first.equal(again) and not first.equal(other)
