"""Several processes that do one thing: who they are, and what they tell each other."""

import atexit
import os
import pickle
from collections.abc import Callable
from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def world() -> tuple[int, int]:
    """(rank, number of processes): those of torch.distributed; under torchrun it is started, with gloo; else (0, 1)."""
    if not distributed.is_available():
        return 0, 1
    if not distributed.is_initialized():
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return 0, 1
        distributed.init_process_group("gloo")
        atexit.register(_leave)
    return distributed.get_rank(), distributed.get_world_size()


def gather(part: list) -> list:
    """The parts of all processes, one after the other, in every process."""
    _, ranks = world()
    if ranks == 1:
        return part
    parts = [None] * ranks
    distributed.all_gather_object(parts, part)
    return [item for other in parts for item in other]


def first(do: Callable[[], T]) -> T:
    """What do() answers in the first process, which alone calls it; in all of them its answer, or its error."""
    rank, ranks = world()
    if ranks == 1:
        return do()
    answer, error = None, None
    if rank == 0:
        try:
            answer = do()
        except Exception as raised:
            error = raised
    said = [(answer, error)]
    distributed.broadcast_object_list(said)
    answer, error = said[0]
    if error is not None:
        raise error
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


def _told(error: Exception | None) -> Exception | None:
    """The error, or one with its words where that cannot be sent to others."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _leave() -> None:
    """Gloo's threads end with their group; one that outlives it aborts the process when the interpreter is gone."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
