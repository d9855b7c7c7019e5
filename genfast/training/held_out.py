"""The loss of samples that are not trained on: how sure it is, at which noise level, and whether it still falls."""

import functools
import math

import torch
from torch import Tensor

from ..common.eval_mode import evaluating
from ..common.indices import as_chunk
from ..common.keys import make_key
from ..common.warn import warn_user
from ..data.dataset import Data
from .encoded import encoded_rows
from .step import Batch

SAMPLES, BINS = 512, 8
Z = 1.96  # standard errors on either side of a mean: an interval of 95 %
# Standard errors of a rise. The best of 20 looks was lucky: 1.96 would warn of 1 plateau in 7, not in 100.
RISE = 3.0
SEED, FIRST = 0, 2**62  # of the keys: no run trains with such a counter
PATIENCE = 3  # looks in a row at which the loss has risen, before a warning
LOOKS, SHARE = 20, 0.03  # a run, and share of its time, at most
FORWARD = 0.42  # of the time of a step that a look takes for as many samples: 0.38 to 0.40 on a CPU


class HeldOut:
    """Looks at the loss of the first `SAMPLES` samples of the data, in their order of seed 0, or of all of them.

        L = 1/n sum_i l_i,   interval L -+ 1.96 s / sqrt(n),   s the standard deviation of the losses l_i

    Samples and keys, and so the noise and its levels, are the same at every look, in every run, and no run trains with
    these keys: what differs between two looks is the model. So they are compared in pairs: the loss has risen where
    the mean of l_i - l_i*, with l_i* the losses of the best look so far, is above 0 by more than 3 of its own standard
    errors, which are far smaller than those of L.

    model  has `loss(batch, key) -> (B,)`; where it has `log_snr(key) -> (B,)` too, at which log(alpha^2 / sigma^2) it
           looks, the loss is told by it; a model with players has no loss that means anything, and is not looked at
    data   samples as the model is to be told of them, see `data.matching.for_training`
    best   whether the loss of the last look was the lowest so far, and finite
    """

    def __init__(self, model: object, data: Data, device: torch.device):
        self.model, self.data, self.device, self.best = model, data, device, False
        size = min(len(data), SAMPLES)
        self.key = make_key(SEED, torch.arange(FIRST, FIRST + size, device="cpu"), device)
        self._step, self._lowest = None, None  # of the best look: its step and losses, (n,) float64
        self._rises, self._said = 0, []  # looks in a row that found a rise; warnings that were given

    def apart(self, steps: int, batch: int) -> int:
        """Steps between two looks, the last at the end: 20 of them, or so few that they cost 3 % of the time."""
        cost = FORWARD * len(self.key) / batch  # of a look, in steps
        looks = max(1, min(LOOKS, math.floor(SHARE * steps / cost)))
        return math.ceil(steps / looks)

    def look(self, step: int) -> dict[str, list]:
        """What the log of step number `step` is to say: {} for a model with players, else

        test_loss         [mean, low, high]
        test_loss_by_snr  of a model with `log_snr`: 8 times [lowest log-SNR, highest, mean, low, high], from noise to
                          data, of equally many samples

        In eval mode, float32 and without gradients; each part of the model is in its own mode again afterwards. Warns
        once, by RuntimeWarning, when the loss has risen at three looks in a row, and when it is not finite, which no
        best one is.
        """
        self.best = False
        if hasattr(self.model, "players"):
            return {}
        losses = self._losses()
        self._compare(step, losses)
        found = {"test_loss": _interval(losses)}
        if hasattr(self.model, "log_snr"):
            level = self.model.log_snr(self.key).double().cpu()
            parts = torch.argsort(level, stable=True).tensor_split(min(BINS, len(level)))
            ends = [[float(level[part[0]]), float(level[part[-1]])] for part in parts]
            found["test_loss_by_snr"] = [end + _interval(losses[part]) for end, part in zip(ends, parts)]
        return found

    def state(self) -> dict:
        """What a resumed run needs, for JSON: `load` takes it."""
        lowest = None if self._lowest is None else self._lowest.tolist()
        return {"step": self._step, "lowest": lowest, "rises": self._rises, "said": [*self._said]}

    def load(self, state: dict) -> None:
        """Goes on from `state()` of another HeldOut."""
        lowest = state["lowest"]
        self._lowest = None if lowest is None else torch.tensor(lowest, dtype=torch.float64, device="cpu")
        self._step, self._rises, self._said = state["step"], state["rises"], list(state["said"])

    @functools.cached_property
    def rows(self) -> Batch:
        """The samples, with what the model finds of each once in the place of x (encoded.py)."""
        return encoded_rows(self.model, self.data.rows(self.data.order(SEED, 0, len(self.key))))

    @torch.no_grad()
    def _losses(self) -> Tensor:
        chunk, parts = as_chunk(None, self.rows["x"].shape[1:], self.device), []
        with evaluating(self.model), torch.autocast(self.device.type, enabled=False):
            for first in range(0, len(self.key), chunk):
                part = slice(first, first + chunk)
                batch = {name: None if v is None else v[part].to(self.device) for name, v in self.rows.items()}
                parts.append(self.model.loss(batch, self.key[part]))
        return torch.cat(parts).double().cpu()

    def _compare(self, step: int, losses: Tensor) -> None:
        if bad := int((~losses.isfinite()).sum()):
            self._say(
                "not finite",
                f"the held-out loss is not finite at step {step}, in {bad} of {len(losses)} samples: such a model is "
                "never the best. Lower lr, or look for samples that differ from those of training",
            )
            return
        if self._lowest is None or losses.mean() < self._lowest.mean():
            self._step, self._lowest, self._rises, self.best = step, losses, 0, True
            return
        _, low, _ = _interval(losses - self._lowest, RISE)
        self._rises = self._rises + 1 if low > 0 else 0
        if self._rises == PATIENCE:
            self._say(
                "risen",
                f"the held-out loss has risen from {self._lowest.mean():.4g} at step {self._step} to "
                f"{losses.mean():.4g} at step {step}, {PATIENCE} looks in a row by more than chance: the model begins "
                f"to learn its training data by heart. RUN/best has the model of step {self._step}, where `out` is "
                "given; more data, fewer steps, dropout or a smaller network may help",
            )

    def _say(self, what: str, words: str) -> None:
        if what not in self._said:
            self._said.append(what)
            warn_user(words, RuntimeWarning)


def _interval(values: Tensor, z: float = Z) -> list[float]:
    """[mean, low, high] of values (n,) float64, z standard errors apart; infinite ends for a single one."""
    mean = float(values.mean())
    reach = z * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return [mean, mean - reach, mean + reach]
