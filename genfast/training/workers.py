"""Processes that read the samples of steps to come."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data.source import Source

DYING = 1.0  # seconds from the first sign of it until a process is seen to have ended
Order = Callable[[int], list[Tensor]]  # the samples of each turn of a step, by its number


class Workers:
    """What a source stores of the samples of each step, read by `workers` processes while the steps before are taken.

    order: the samples of each turn of a step.  The first step that is asked for is where they begin; who asks for
    another one than the next lets them begin anew. A worker that fails ends the run with its error; one that dies, with
    a RuntimeError that says how, within seconds of being missed.
    """

    def __init__(self, source: Source, order: Order, steps: int, workers: int):
        self.source, self.order, self.steps, self.workers = source, order, steps, workers
        self.next, self.rows = None, None  # number of the step that is next, and what comes from the workers

    def __call__(self, step: int) -> list[Tensor]:
        """The rows of each turn of this step."""
        if step != self.next:
            self.rows = self._begin(step)
        self.next = step + 1
        try:
            return next(self.rows)
        except (RuntimeError, OSError, EOFError) as error:  # the latter two where rows of the dead are fetched
            if died := _fates(self.rows):
                raise RuntimeError(f"workers must live as long as the run; of {self.workers}, {died}") from error
            raise

    def close(self) -> None:
        """Ends the processes."""
        self.next = self.rows = None

    def _begin(self, step: int) -> Iterator[list[Tensor]]:
        loader = DataLoader(
            _Steps(self.source), sampler=_Orders(self.order, range(step, self.steps)), batch_size=None,
            num_workers=self.workers, worker_init_fn=_quietly, collate_fn=list,
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            generator=torch.Generator(device="cpu"),  # or it would draw from that of the run
        )  # fmt: skip
        with _children_left_alone():
            return iter(loader)


class _Steps(Dataset):
    """Item s, asked for with the samples of each of its turns, is what the source stores of them."""

    def __init__(self, source: Source):
        self.source = source

    def __getitem__(self, turns: list[np.ndarray]) -> list[Tensor]:
        return [self.source.stored(torch.from_numpy(index)) for index in turns]


class _Orders(Sampler):
    """The samples of each step, in the order of the steps."""

    def __init__(self, order: Order, steps: range):
        self.order, self.steps = order, steps

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return ([index.numpy() for index in self.order(step)] for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)


def _quietly(number: int) -> None:
    """In a worker: Ctrl-C is for the run, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _children_left_alone() -> Iterator[None]:
    """Inside it nobody gets to hear of the death of children: torch would raise an error for it in the midst of a step,
    and the step were lost. It is found out when the rows of a worker are missed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _fates(rows: Iterator) -> str:
    """How workers have died; "" where none has within a moment."""
    workers = getattr(rows, "_workers", ())
    wait([worker.sentinel for worker in workers], timeout=DYING)
    codes = {i: worker.exitcode for i, worker in enumerate(workers)}
    dead = {i: code for i, code in codes.items() if code}
    how = {i: f"killed by {signal.Signals(-code).name}" if code < 0 else f"code {code}" for i, code in dead.items()}
    return ", ".join(f"number {i} died ({words})" for i, words in how.items())
