"""What a line of the log says, and the bar that moves while there is none."""

import resource
import sys
from typing import TypedDict

import torch
from tqdm import tqdm

REFRESH = 0.2  # seconds between two drawings of the bar


class LogLine(TypedDict, total=False):
    """What `fit` logs. Of models with players also `<player>_loss`, and of models with `watch` what that says."""

    step: int  # done so far
    samples: int  # seen so far
    loss: float  # mean since the last line; with players the sum of theirs
    grad_norm: float  # mean since the last line, before clipping
    lr: float  # of the last step
    skipped: int  # steps so far without a finite gradient
    seconds: float  # spent training, without the caller
    samples_per_second: float  # since the last line
    data_wait: float  # share of the time since the last line that was spent waiting for data
    memory: int  # bytes at the peak, see `memory`
    test_loss: list[float]  # mean, low, high: `HeldOut`
    test_loss_by_snr: list[list[float]]  # 8 times lowest log-SNR, highest, mean, low, high


def memory(device: torch.device) -> int:
    """Bytes at the peak: of torch's tensors on a GPU, of the whole process (resident) elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class Bar:
    """A progress bar on stderr, of `steps` steps of which `done` are done, drawn at most every 0.2 s and at least so
    often, if there are steps: however rare the logs are."""

    def __init__(self, steps: int, done: int = 0, *, shown: bool = True):
        # miniters=1: tqdm asks the clock at every step, which costs a fraction of a microsecond, and does not guess.
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=not shown, mininterval=REFRESH, miniters=1)
        self._known = {}

    def advance(self, step: int) -> None:
        """`step` steps are done."""
        self._bar.update(step - self._bar.n)

    def show(self, log: LogLine) -> None:
        """The losses of a log, or of the last that had them, from the next drawing on."""
        found = {"loss": log["loss"], "held-out": log.get("test_loss", [None])[0]}
        self._known |= {name: f"{value:.4g}" for name, value in found.items() if value is not None}
        self._bar.set_postfix(self._known, refresh=False)

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def say(words: str) -> None:
    """A line on stderr, above a progress bar if there is one."""
    tqdm.write(words, file=sys.stderr)
