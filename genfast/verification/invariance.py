"""Checks that a sample is a function of (network, seed, index, settings) and of nothing else, bit for bit.

The network works element by element in operations that IEEE rounds correctly, so that whatever differs is ours.
"""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .._extension import extension
from ..common.indices import as_index
from ..diffusion.process.denoisers import Denoiser
from ..diffusion.process.plans import Plan
from ..diffusion.sampling.sample import sample
from .problems import SCHEDULE, plan_of
from .report import Record

SAMPLES, CHUNK = 8, 8
SHAPE, WIDE = (3, 8, 8), (3, 32, 48)  # a chunk of wide ones is shared out among threads
ISAS = ("scalar", "avx2", "avx512")


def _net(y: Tensor, t: Tensor, shift: Tensor) -> Tensor:
    t, shift = (c.to(y.dtype).view(-1, 1, 1, 1) for c in (t, shift))
    return (y * t + shift) / (1 + y * y)


DENOISER = Denoiser(_net, SCHEDULE, "v")


def _plan(solver: str) -> Plan:
    """Five steps, for multistep solvers to come to their own; two of those that take many rows a step."""
    plan = plan_of(solver, 5)
    return plan if len(plan) < 100 else plan_of(solver, 2)


def _draw(solver: str, index: int | Sequence[int] = SAMPLES, others: float = 0.0, shape=SHAPE, **settings) -> Tensor:
    """Samples under guidance; `others` is added to condition and guidance of all but the first."""
    indices = as_index("index", index)
    changed = torch.full(indices.shape, others, device="cpu")
    changed[:1] = 0
    values = indices % 5 / 4 + changed
    settings = {"seed": 3, "chunk": CHUNK} | settings
    return sample(
        DENOISER, shape, _plan(solver), indices, condition={"shift": values},
        unconditional={"shift": torch.zeros_like(values)}, guidance=1 + values, progress=False, **settings,
    )  # fmt: skip


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Torch's thread count, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _isa(name: str) -> Iterator[None]:
    before = extension.isa()
    extension.set_isa(name)
    try:
        yield
    finally:
        extension.set_isa(before)


def _seeds(solver: str) -> bool:
    """The same seed gives the same samples, another one others, and no two samples are alike."""
    whole, other = _draw(solver), _draw(solver, seed=4)
    distinct = len(torch.cat([whole, other]).flatten(1).unique(dim=0)) == 2 * SAMPLES
    return torch.equal(_draw(solver), whole) and distinct


def _splits(solver: str) -> bool:
    whole = _draw(solver)
    cuts = ((range(cut), range(cut, SAMPLES)) for cut in range(1, SAMPLES))
    return all(torch.equal(torch.cat([_draw(solver, list(part)) for part in parts]), whole) for parts in cuts)


def _alone(solver: str) -> bool:
    return torch.equal(torch.cat([_draw(solver, [i]) for i in range(SAMPLES)]), _draw(solver))


def _order(solver: str) -> bool:
    index = [6, 1, 7, 7, 0, 3, 1]
    return torch.equal(_draw(solver, index), _draw(solver)[index])


def _mates(solver: str) -> bool:
    """Other samples beside it, in other conditions."""
    whole = _draw(solver)
    return all(torch.equal(_draw(solver, [i, 2**40, 11, 5], others=0.75)[0], whole[i]) for i in (0, 3))


def _chunks(solver: str) -> bool:
    whole = _draw(solver)
    return all(torch.equal(_draw(solver, chunk=chunk), whole) for chunk in (1, 3, 16))


def _thread_counts(solver: str) -> bool:
    samples = []
    for number in (1, 2):
        with threads(number):
            samples.append(_draw(solver, shape=WIDE))
    return torch.equal(*samples)


def _at_once(solver: str) -> bool:
    """Two threads sample from one denoiser at the same time."""
    whole = _draw(solver)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return all(torch.equal(one, whole) for one in pool.map(lambda _: _draw(solver), range(4)))


def _isas(solver: str) -> bool:
    whole, results = _draw(solver), []
    for name in ISAS[: ISAS.index(extension.best_isa()) + 1]:
        with _isa(name):
            results.append(torch.equal(_draw(solver), whole))
    return all(results)


def _cuda(solver: str) -> bool:
    return torch.equal(_draw(solver, device="cuda").cpu(), _draw(solver))


def properties() -> dict[str, Callable[[str], bool]]:
    """What must not matter: name, and a function of a solver that says whether it does not."""
    available = ", ".join(ISAS[: ISAS.index(extension.best_isa()) + 1])
    table = {
        "one seed, one result; other seeds, others": _seeds,
        "a batch of 8 equals 8 batches of 1": _alone,
        "every split of the batch": _splits,
        "order and repetition of the indices": _order,
        "batch-mates and their conditions changed": _mates,
        "chunks of 1, 3, 8 and 16": _chunks,
        "1 and 2 threads": _thread_counts,
        "two samplers at once equal one": _at_once,
        f"instruction sets: {available}": _isas,
    }
    if torch.cuda.is_available() and extension.build_info()["cuda"]:
        table["CUDA equals CPU"] = _cuda
    return table


def check_invariance(name: str, solvers: Sequence[str]) -> Record:
    """The Record of one of the properties, for all the solvers."""
    holds = properties()[name]
    failures = [f"{solver} gives other samples" for solver in solvers if not holds(solver)]
    return Record(name, "invariance", tuple(failures), figures={"solvers": len(solvers)})
