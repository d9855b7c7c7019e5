"""All samples of a source pass by in chunks, in order."""

import weakref

import torch
from toys import Gaussian, normal

import genfast as gf
from genfast.evaluation.chunks import CHUNK, stream
from genfast.evaluation.sources import Drawn


def passed(model, n, function):
    source = Drawn(model, gf.data.Data(normal(9, 4)), n, 0, {})
    return stream(source, function, device="cpu", what="samples", progress=False)


def test_chunks_are_of_one_size_and_in_order():
    sizes = []

    def doubled(x):
        sizes.append(len(x))
        return 2 * x

    assert torch.equal(passed(Gaussian(4), 150, doubled), 2 * Gaussian(4).sample(150))
    assert sizes == [CHUNK, CHUNK, 150 - 2 * CHUNK]


def test_no_samples_are_kept():
    """A model's samples pass by; only what is made of them stays."""
    alive = []

    class Spy(Gaussian):
        def sample(self, n, seed=0):
            assert not any(seen() is not None for seen in alive[:-1])
            x = super().sample(n, seed)
            alive.append(weakref.ref(x))
            return x

    passed(Spy(4), 300, lambda x: x.sum(1, keepdim=True))
    assert len(alive) == 5
