"""What was read once is kept where it is needed, if it fits a quarter of what is free there."""

import pytest
import torch
from asked import Asked

from genfast.data import kept
from genfast.data.kept import Kept, near
from genfast.data.source import InMemory, as_source

CPU, META = torch.device("cpu"), torch.device("meta")


class Decoded(Asked):
    decoded = True


@pytest.fixture
def free(monkeypatch):
    """Says how much memory there is."""
    return lambda size: monkeypatch.setattr(kept, "free_memory", lambda device: size)


def test_samples_are_read_once():
    x = torch.randn(10, 3)
    source = Decoded(x)
    held = Kept(source, CPU)
    for index in ([4, 2, 4], [2, 9], [*range(10)], [3]):
        assert torch.equal(held.stored(torch.tensor(index)), x[index])
    assert sorted(source.asked) == [*range(10)] and held.left == 0
    assert [*held.identity()] == [*source.identity()] and len(held) == 10 and held.shape == (3,)


def test_what_others_have_read_is_taken():
    x, source = torch.randn(10, 3), Decoded(torch.zeros(10, 3))
    held = Kept(source, CPU)
    held.put(torch.tensor([1, 8]), x[[1, 8]])
    assert held.left == 8 and torch.equal(held.stored(torch.tensor([8, 1])), x[[8, 1]]) and not source.asked


def test_bytes_stay_bytes():
    images = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8)
    held = Kept(InMemory(images), CPU)
    assert held.x.dtype == torch.uint8 and torch.equal(
        held.rows(torch.arange(5)), as_source(images).rows(torch.arange(5))
    )


def test_a_quarter_of_the_memory(free):
    source = Decoded(torch.zeros(10, 3))  # of 120 bytes
    free(480)
    assert isinstance(near(source, CPU), Kept) and near(source, CPU, sharing=2) is source
    free(479)
    assert near(source, CPU) is source


def test_what_is_kept_where(free):
    """Decoded samples everywhere, others on another device only, and nothing that may answer differently."""
    free(10**9)
    there = Asked(torch.zeros(10, 3))
    assert near(there, CPU) is there and near(as_source(torch.zeros(3, 2)), CPU).in_memory
    there.device = META
    assert isinstance(near(there, CPU), Kept)
    there.keepable = False
    assert near(there, CPU) is there
