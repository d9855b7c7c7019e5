"""The log of a run as TensorBoard shows it."""

import math
from collections.abc import Iterator
from numbers import Real
from pathlib import Path

from ..common.files import writable_folder
from .logs import LogLine


class TensorBoard:
    """A callback of `fit` that writes the scalars of the log: `fit(..., callbacks=[gf.training.TensorBoard("board")])`,
    then `tensorboard --logdir board`.

    Of test_loss also `test_loss_low` and `test_loss_high`; of test_loss_by_snr `test_loss_by_snr/0` (noise) to `7`
    (data). What is not finite is left out. A run that goes on after a kill replaces what was written beyond its step.
    Raises ImportError without the package tensorboard; OSError where the folder cannot be written to.
    """

    def __init__(self, folder: str | Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard needs its package: pip install genfast[tensorboard]") from error
        self.folder = writable_folder("folder", folder).absolute()  # better known now than after a hundred steps
        self._kind, self._writer = SummaryWriter, None

    def __call__(self, log: LogLine) -> None:
        step = log["step"]
        if self._writer is None:
            self._writer = self._kind(str(self.folder), purge_step=step)
        for name, value in scalars(log):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a kill loses nothing

    def close(self) -> None:
        """Ends the file; a later log begins another one. Python does it at its exit, too."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalars(log: LogLine) -> Iterator[tuple[str, float]]:
    """The finite numbers of a log by name, those in lists each by a name of its own."""
    for name, value in log.items():
        if name == "test_loss":
            named = {name: value[0], f"{name}_low": value[1], f"{name}_high": value[2]}
        elif name == "test_loss_by_snr":
            named = {f"{name}/{number}": part[2] for number, part in enumerate(value)}
        elif isinstance(value, list | tuple):
            named = {f"{name}/{number}": part for number, part in enumerate(value)}
        else:
            named = {name: value}
        for key, number in named.items():
            if isinstance(number, Real) and math.isfinite(number) and key != "step":
                yield key, number
