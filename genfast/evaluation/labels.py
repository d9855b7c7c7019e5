"""Class by class: are samples seen as what they were asked for, and is each class as good as the data's?"""

import contextlib

import torch
from torch import Tensor

from .. import ops
from ..metrics import Estimate, intervals
from .inputs import Inputs, Missing
from .measure import METRICS, baselines_of, run
from .records import Baseline, ClassRecord, Record

NEIGHBORS = 5  # that vote
METRICS_OF_A_CLASS = ("frechet", "precision_recall")
NAMES = ("frechet", "density", "coverage")  # of their numbers, those of a row


def by_class(
    inputs: Inputs, label: Tensor, real_label: Tensor, classes: int, *, seed: int, level: float
) -> tuple[Record, tuple[ClassRecord, ...]]:
    """The agreement of all samples with `label`, (N,), what they were asked for, and a row for each class of
    either, also where one of them has none of it. real_label: (M,), of 2 or more, in [0, classes). Rows of label -1,
    unknown, are left out of both.

    A sample is seen as what the classifier says where the features are those of one for these classes, else as what
    most of its 5 nearest real ones are, the nearest counting half more; and so are real data, without themselves, for
    the baseline.
    """
    known, real_known = ((labels.cpu() >= 0).nonzero().flatten() for labels in (label, real_label))
    inputs = Inputs(inputs.of_samples[known], inputs.of_real[real_known])
    label, real_label = label.cpu()[known], real_label.cpu()[real_known]
    seen, real_seen = _seen(inputs, real_label, classes)
    right, real_right = seen == label, real_seen == real_label
    rows = []
    for c in torch.cat([label, real_label]).unique().tolist():
        these, real = ((labels == c).nonzero().flatten() for labels in (label, real_label))
        records = ()
        if len(these) and len(real):
            part = Inputs(inputs.of_samples[these], inputs.of_real[real])
            records = (_agreement(right[these], real_right[real], level), *_of_class(part, seed, level))
        rows.append(ClassRecord(c, len(these), len(real), records))
    return _agreement(right, real_right, level), tuple(rows)


def _seen(inputs: Inputs, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The classes that samples (N,) and real ones (M,) are seen as."""
    with contextlib.suppress(Missing):  # no classifier
        answers = inputs.of_samples.probabilities(), inputs.of_real.probabilities()
        if answers[0].shape[1] == classes:
            return tuple(p.argmax(1).cpu() for p in answers)
    k = min(NEIGHBORS, len(label) - 1)
    found = (ops.nearest(inputs.samples, inputs.real, k), ops.nearest(inputs.real, inputs.real, k, exclude_self=True))
    weight = torch.ones(k, dtype=torch.float32, device="cpu")
    weight[0] = 1.5
    votes = (weight @ torch.nn.functional.one_hot(label[nearest.index.cpu()], classes).float() for nearest in found)
    return tuple(vote.argmax(1) for vote in votes)


def _of_class(part: Inputs, seed: int, level: float) -> list[Record]:
    """What can be said with as few samples as a class has; a Frechet distance wants more of them than features."""
    records = []
    for name in METRICS_OF_A_CLASS:
        if name == "frechet" and min(part.of_samples.n, part.of_real.n) <= 2 * part.real.shape[1]:
            continue
        try:
            found = run(METRICS[name], part, seed, level)
        except Missing:  # fewer samples than neighbors
            continue
        found = {key: estimate for key, estimate in found.items() if key in NAMES}
        baselines = baselines_of(METRICS[name], found, part, seed, level)
        records += [Record(key, METRICS[name].better, e, baselines.get(key)) for key, e in found.items()]
    return records


def _agreement(right: Tensor, real_right: Tensor, level: float) -> Record:
    (n, share), (m, real) = ((len(x), x.double().mean().item()) for x in (right, real_right))
    z = intervals.quantile(level)
    estimate = Estimate(share, *intervals.wilson(share, n, z), "Wilson", n, m, level)
    baseline = Baseline(real, *intervals.wilson(real, m, z), m, None, 1, "labels of the data")
    return Record("label_agreement", "higher", estimate, baseline)
