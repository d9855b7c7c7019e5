"""Watches a GAN in training for the two ways in which it fails, and says so in plain words."""

import sys
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from ..common.checks import shown

ROWS = 512  # of a batch that are looked at
PATIENCE = 10  # reports in a row before a warning: one batch says little
BETTER = 0.9  # of the least excess so far: the patience starts anew, since a generator starts collapsed and learns


class Health(NamedTuple):
    """overconfidence: mean sign of D(x_i) - D(G(z_i)), 0 where the two look alike, 1 where the discriminator is never
    wrong: r_t of Karras et al. 2020 (arXiv:2006.06676), of pairs, because not every loss gives its logits a level.
    diversity: mean distance between samples, over that between real ones; 0 where all are the same.
    gap: how much farther a real sample is from the nearest generated one than from the nearest real one, over the mean
    distance between real ones; grows with each mode that is missing.
    """

    overconfidence: float
    diversity: float
    gap: float


class Limit(NamedTuple):
    name: str
    value: float
    above: bool
    words: str


LIMITS = (
    Limit(
        "overconfidence", 0.95, True, "the discriminator is hardly ever wrong (overconfidence {:.2f}, above {}): the "
        "generator gets no direction from it. Raise r1 and r2, lower lr, or augment, if the data are few",
    ),
    Limit(
        "diversity", 0.5, False, "the samples are much more alike than real ones (diversity {:.2f}, below {}): the "
        "generator has collapsed. Take the relativistic loss with r1 and r2, or a lower lr",
    ),
    Limit(
        "gap", 0.05, True, "real samples have no generated ones near them (gap {:.2f}, above {}): the generator has "
        "dropped modes, or all samples are off. Take the relativistic loss with r1 and r2, a larger batch, a lower lr",
    ),
)  # fmt: skip


def health(x: Tensor, fake: Tensor, real_logits: Tensor, fake_logits: Tensor) -> Health:
    """Of one batch: x and fake (B, *), their logits (B,). NaN where B is too small to say."""
    # The squares and products that distances are made of cancel, far from the origin: float64 has the digits for it.
    x, fake = (v.detach()[:ROWS].flatten(1).double() for v in (x, fake))
    apart, generated = torch.cdist(x, x), torch.cdist(fake, fake)
    spread = apart.sum() / (len(x) * (len(x) - 1))
    alone = apart.fill_diagonal_(torch.inf).amin(1).mean()
    return Health(
        (real_logits - fake_logits).sign().mean().item(),
        (generated.sum() / (len(x) * (len(x) - 1)) / spread).item(),
        ((torch.cdist(x, fake).amin(1).mean() - alone) / spread).item(),
    )


class Monitor:
    """Warns once of what stays wrong in a training, report by report. It counts, and keeps nothing else."""

    def __init__(self):
        self.wrong = dict.fromkeys((limit.name for limit in LIMITS), 0)  # reports in a row
        self.least = dict.fromkeys(self.wrong, 0.0)  # excess among them
        self.said = set()

    def state(self) -> dict:
        """All that it keeps, for JSON: after `load` of it another goes on as this one would."""
        return {"wrong": dict(self.wrong), "least": dict(self.least), "said": sorted(self.said)}

    def load(self, state: dict) -> None:
        """Raises ValueError unless it is what `state` gives."""
        names = self.wrong.keys()
        fits = isinstance(state, dict) and state.keys() == {"wrong", "least", "said"}
        if not fits or not (state["wrong"].keys() == state["least"].keys() == names >= set(state["said"])):
            raise ValueError(f"state must be that of a Monitor of {', '.join(names)}; got {shown(state)}")
        self.wrong, self.least, self.said = dict(state["wrong"]), dict(state["least"]), set(state["said"])

    def report(self, found: Health) -> None:
        """Warns at the 10th report in a row that is beyond a limit and no nearer to it, by a tenth, than one before:
        RuntimeWarning, once for each limit."""
        for name, limit, above, words in LIMITS:
            value = getattr(found, name)
            excess = min(value - limit if above else limit - value, sys.float_info.max)
            if not excess > 0:
                self.wrong[name], self.least[name] = 0, 0.0
            elif not self.wrong[name] or excess < BETTER * self.least[name]:
                self.wrong[name], self.least[name] = 1, excess
            else:
                self.wrong[name] += 1
            if self.wrong[name] >= PATIENCE and name not in self.said:
                self.said.add(name)
                warnings.warn(words.format(value, limit), RuntimeWarning, stacklevel=3)
