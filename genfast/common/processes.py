"""Several processes that do one thing: who they are, and what they tell each other.

All of them come to each of these functions, in the same order. torch.distributed is started by the first of these calls
under torchrun: with gloo, and with nccl for what lies on GPUs, of which each process has its own, cuda:LOCAL_RANK.
"""

import atexit
import contextlib
import datetime
import importlib
import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")
PARTING = 5.0  # seconds in which all processes come to where one of them has failed, if they do
RESCUE = 40.0  # seconds that they wait for what the first one saves of it, at most
_here = threading.local()  # .alone: whether this thread is inside `alone`
_group = {"left": False}  # whether it was left after a failure


class ProcessLost(RuntimeError):
    """Another process has ended while this one waited for it."""


def world() -> tuple[int, int]:
    """(rank, number of processes): those of torch.distributed, which is started under torchrun; else (0, 1)."""
    if getattr(_here, "alone", False) or not distributed.is_available():
        return 0, 1
    if not distributed.is_initialized():
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return 0, 1
        if _group["left"]:
            raise ProcessLost("the processes went apart when one of them failed: start them again")
        _start()
    return distributed.get_rank(), distributed.get_world_size()


def _start() -> None:
    # Optimizers import it. It keeps the group that it finds, and then that stays open when it is left.
    importlib.import_module("torch._dynamo")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    atexit.register(_leave)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside it this thread is a process without others."""
    before, _here.alone = getattr(_here, "alone", False), True
    try:
        yield
    finally:
        _here.alone = before


def gather(part: list) -> list:
    """The parts of all processes, one after the other, in every process."""
    _, ranks = world()
    if ranks == 1:
        return part
    parts = [None] * ranks
    with _waiting():
        distributed.all_gather_object(parts, part)
    return [item for other in parts for item in other]


def first(do: Callable[[], T]) -> T:
    """What do() answers in the first process, which calls it, `alone`; in all of them its answer, or its error."""
    rank, ranks = world()
    if ranks == 1:
        return do()
    answer, error = None, None
    if rank == 0:
        try:
            with alone():
                answer = do()
        except Exception as raised:
            error = raised
    said = [(answer, _told(error))]
    with _waiting():
        distributed.broadcast_object_list(said)
    if error is not None:
        raise error
    answer, told = said[0] if rank else (answer, None)
    if told is not None:
        raise told
    return answer


def together(do: Callable[[], T]) -> T:
    """What do(), in which processes do not wait for each other, answers in this one; where it fails in one of them,
    its error in all."""
    answer, error = None, None
    try:
        answer = do()
    except Exception as raised:
        error = raised
    errors = [other for other in gather([_told(error)]) if other is not None]
    if error is not None or errors:
        raise error or errors[0]
    return answer


def add_up(tensors: Sequence[Tensor]) -> None:
    """Each tensor becomes the sum of those in all processes, by one exchange for each dtype and device."""
    kinds = dict.fromkeys((t.device, t.dtype) for t in tensors)
    for kind in kinds:
        alike = [t for t in tensors if (t.device, t.dtype) == kind]
        flat = torch.cat([t.reshape(-1) for t in alike])
        with _waiting():
            distributed.all_reduce(flat)
        parts = flat.split([t.numel() for t in alike])
        torch._foreach_copy_(alike, [part.view(t.shape) for part, t in zip(parts, alike)])


def beside(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Of each tensor, of one shape in all processes, those of all, (processes, *shape), by one exchange."""
    if not tensors:
        return []
    _, ranks = world()
    flat = torch.cat([t.detach().reshape(-1).view(torch.uint8) for t in tensors])
    every = flat.new_empty(ranks, len(flat))
    with _waiting():
        distributed.all_gather([*every], flat)
    parts = every.split([t.nbytes for t in tensors], 1)
    return [part.contiguous().view(t.dtype).view(ranks, *t.shape) for part, t in zip(parts, tensors)]


def send(tensor: Tensor) -> None:
    """The tensor becomes that of the first process, bit for bit."""
    if not tensor.numel():
        return
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    with _waiting():
        distributed.broadcast(data, 0)
    if world()[0]:
        tensor.detach().copy_(data.view(tensor.dtype).view(tensor.shape))


class Word:
    """Numbers that each process says at each step: what it is told is the largest of those of the step before, so that
    nobody waits for the others. One process is told what it says."""

    def __init__(self):
        self.said: tuple[Tensor, distributed.Work] | None = None

    def of_all(self, *numbers: int) -> list[int]:
        if world()[1] == 1:
            return [*numbers]
        told = [0] * len(numbers) if self.said is None else self._awaited()
        said = torch.tensor(numbers, dtype=torch.int64, device="cpu")
        with _waiting():
            self.said = said, distributed.all_reduce(said, distributed.ReduceOp.MAX, async_op=True)
        return told

    def at_last(self, *numbers: int) -> list[int]:
        """The largest of all that was said and not yet told, these included."""
        told = self.of_all(*numbers)
        return told if self.said is None else [*map(max, told, self._awaited())]

    def _awaited(self) -> list[int]:
        (said, work), self.said = self.said, None
        with _waiting():
            work.wait()
        return said.tolist()


class Parting:
    """What processes tell each other when something fails, through the store that torchrun keeps: others may wait for
    this one in an exchange, so there can be none.

    """

    made = itertools.count()  # of all processes as many, in the same order

    def __init__(self):
        self.where, (self.rank, self.ranks) = f"genfast/parting/{next(self.made)}", world()
        self.store = distributed.distributed_c10d._get_default_store() if self.ranks > 1 else None

    def together(self, place: object, error: BaseException) -> bool:
        """Whether all processes come here, to the same place, within 5 seconds. If not the group is left, so that those
        who wait for this process end."""
        if self.ranks == 1:
            return True
        decided = b""
        with contextlib.suppress(RuntimeError):  # as where the process that kept the store is gone
            self.store.set(f"{self.where}/{self.rank}", f"{place}\n{_words(error)}")
            places = {words.partition("\n")[0] for words in self._others(PARTING).values()}
            decided = self.store.compare_set(f"{self.where}/all", "", "yes" if places == {str(place)} else "no")
        if decided == b"yes":
            return True
        _group["left"] = True
        _leave()
        return False

    def reason(self, error: BaseException) -> BaseException:
        """The error to raise where not all have failed: that of a process whose own it is."""
        if not isinstance(error, ProcessLost):
            return error
        others = {}
        with contextlib.suppress(RuntimeError):
            others = self._others(0.0)
        for rank, words in others.items():
            _, _, words = words.partition("\n")
            if words and not words.startswith(ProcessLost.__name__):
                return ProcessLost(f"process {rank} of {self.ranks} has failed, {words}")
        return error

    def rescued(self) -> None:
        """The first process says that it has saved what there was; the others wait for that."""
        key = f"{self.where}/rescued"
        with contextlib.suppress(RuntimeError):
            if self.rank == 0:
                self.store.set(key, "")
            else:
                self.store.wait([key], datetime.timedelta(seconds=RESCUE))

    def _others(self, seconds: float) -> dict[int, str]:
        """What the other processes have said until then, by rank; of those who have said nothing, ""."""
        keys = {rank: f"{self.where}/{rank}" for rank in range(self.ranks) if rank != self.rank}
        end = time.monotonic() + seconds
        while not self.store.check([*keys.values()]) and time.monotonic() < end:
            time.sleep(0.02)
        return {rank: self.store.get(key).decode() if self.store.check([key]) else "" for rank, key in keys.items()}


@contextlib.contextmanager
def exchanging() -> Iterator[None]:
    """Inside it, among other things, are exchanges of torch's own: where one fails it is a ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise _lost(error) from error
        raise


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """Inside it an exchange that another process does not take part in any more is a ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        raise _lost(error) from error


def _lost(error: RuntimeError) -> ProcessLost:
    return ProcessLost(f"an exchange with the other processes failed, as where one has ended: {error}")


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _told(error: Exception | None) -> Exception | None:
    """The error as others can be told of it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of which there are as many kinds as of errors
        return RuntimeError(_words(error))
    return error


def _leave() -> None:
    """Gloo's threads end with their group; one that outlives it aborts the process when the interpreter is gone."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
