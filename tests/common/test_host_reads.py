"""What makes the host wait is refused, and nothing else."""

import pytest
import torch

from genfast import ops
from genfast.common.host_reads import HostRead
from genfast.testing import no_host_reads

X, WHERE, KEY = torch.arange(4.0), torch.tensor([1, 2]), ops.make_key(0, 4)
READS = {
    "item": lambda: X.sum().item(),
    "bool": lambda: bool((X > 0).all()),
    "float": lambda: float(X[0]),
    "equal": lambda: torch.equal(X, X),
    "nonzero": lambda: X.nonzero(),
    "mask": lambda: X[X > 1],
    "write by mask": lambda: X.clone().__setitem__(X > 1, 0.0),
    "unique": lambda: X.unique(),
}
ANSWERS = {
    "arithmetic": lambda: 2 * X + 1,
    "index": lambda: X[WHERE],
    "where": lambda: torch.where(X > 1, X, 0),
    "views": lambda: X.view(2, 2)[0].chunk(2),
    "an op": lambda: ops.normal(KEY, (4,)),
    # On a CPU its coefficients are looked at, to be refused; not here.
    "a checked op": lambda: ops.diffuse(X.double()[:, None], KEY, X.double(), X.double()),
}


@pytest.mark.parametrize("name", READS)
def test_reads_are_refused(name):
    READS[name]()
    with no_host_reads(), pytest.raises(HostRead, match="the host would wait for a value on the device: aten"):
        READS[name]()
    READS[name]()


@pytest.mark.parametrize("name", ANSWERS)
def test_the_rest_answers(name):
    with no_host_reads():
        ANSWERS[name]()


def test_of_one_device():
    with no_host_reads("meta"):
        assert X.sum().item() == 6
    with no_host_reads(on="cpu"), no_host_reads(), pytest.raises(HostRead):
        X.sum().item()
    assert X.sum().item() == 6


def test_copies_to_the_cpu_are_refused(cuda):
    there = X.to(cuda)
    for read in (there.cpu, there.tolist, there.numpy):
        with no_host_reads(), pytest.raises((HostRead, TypeError)):
            read()
