"""With how many samples does a discriminative classifier overtake a generative one?

Two classifiers of one form, a linear log-odds: Gaussian classes with a shared diagonal covariance, in closed form, and
logistic regression, without a penalty. The generative one assumes more, that the numbers are independent and Gaussian
within a class. Where that is false it has a bias, an error that stays however many samples there are; but it needs only
of the order of log D samples to come near its own limit, logistic regression of the order of D. So with few samples the
first is better, with many the second (Ng & Jordan 2001, On discriminative vs. generative classifiers, NIPS 14). A
penalty on the weights, here |w|^2 / 2 for standardized numbers, is another way to pay bias for variance.

Data: the 569 tumours of Wolberg, Street & Mangasarian 1995, logarithms of 30 measurements, malignant or not; and
handwritten digits, dequantized, by the means of 16 blocks of 2 x 2 pixels, ten classes. Every resample leaves a random
third out to test on.
"""

import dataclasses
import itertools
import math

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import genfast as gf

from .finding import Claim, Finding

KINDS = ("generative", "logistic", "penalized")
COLORS = ("#d55e00", "#0072b2", "#888888")
PENALTIES = (1e6, 1.0)  # scikit-learn's C, the inverse: as good as none, and its default


@dataclasses.dataclass(frozen=True)
class Problem:
    """x: (N, D) float64, label: (N,), and the training sizes."""

    name: str
    x: Tensor
    label: Tensor
    sizes: tuple[int, ...]


def problems(seed: int) -> list[Problem]:
    from sklearn.datasets import load_breast_cancer

    tumours, digits = load_breast_cancer(), gf.data.digits()
    measured = torch.log(torch.tensor(tumours.data, device="cpu") + 1e-3)  # some are 0, of a typical 0.1
    key = gf.ops.make_key(seed, len(digits))
    pixels = digits.x + (gf.ops.uniform(key, digits.shape, gf.ops.Purpose.DEQUANTIZE) - 0.5) / 8
    blocks = torch.nn.functional.avg_pool2d(pixels.double(), 2).flatten(1)
    return [
        Problem("tumours", measured, torch.tensor(tumours.target, device="cpu"), (6, 8, 12, 20, 40, 80, 160, 320)),
        Problem("digits", blocks, digits.label, (30, 50, 80, 120, 200, 400, 1100)),
    ]


def gaussian_classes(x: Tensor, label: Tensor) -> gf.GenerativeClassifier:
    """N(m_k, diag(v)), with v pooled over the classes, and the classes' shares."""
    counts = torch.bincount(label)
    means = torch.stack([x[label == k].mean(0) for k in range(len(counts))])
    variances = (x - means[label]).square().sum(0) / (len(x) - len(counts))
    return gf.GenerativeClassifier([gf.Gaussian.from_moments(mean, variances) for mean in means], counts.double())


def errors(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> list[float]:
    """The share of the test data that each of KINDS gets wrong."""
    from sklearn.linear_model import LogisticRegression

    found = [1 - gaussian_classes(*train).accuracy(test)]
    scale = train[0].std(0)
    x, other = (((part - train[0].mean(0)) / scale).numpy() for part in (train[0], test[0]))
    for C in PENALTIES:
        fitted = LogisticRegression(C=C, max_iter=5000).fit(x, train[1].numpy())
        found.append(1 - fitted.score(other, test[1].numpy()))
    return found


def resample(problem: Problem, count: int, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows: `count` to train on, of every class at least one, drawn again until that is so, and a third to test on."""
    for attempt in itertools.count(1000 * number):
        order = gf.data.permutation(len(problem.x), seed, attempt)
        train, test = order[:count], order[-(len(order) // 3) :]
        if len(problem.label[train].unique()) == int(problem.label.max()) + 1:
            return train, test


def crossing(sizes: np.ndarray, gain: np.ndarray) -> float:
    """Where the mean gain (sizes,) of the discriminative one rises above 0, by a line in log n; NaN if it does not."""
    for i in range(len(sizes) - 1):
        if gain[i] < 0 <= gain[i + 1]:
            share = gain[i] / (gain[i] - gain[i + 1])
            return float(sizes[i] * (sizes[i + 1] / sizes[i]) ** share)
    return math.nan


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Of independent values (n,): the mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


def study(seed: int = 0, progress: bool = True, repeats: int = 80) -> Finding:
    """repeats: resamples of each training size."""
    curves, rows, claims = {}, [], []
    for problem in problems(seed):
        sizes = np.array(problem.sizes)
        found = np.empty((len(sizes), repeats, len(KINDS)))
        for i, number in tqdm(list(np.ndindex(found.shape[:2])), desc=problem.name, leave=False, disable=not progress):
            train, test = resample(problem, int(sizes[i]), seed, number)
            found[i, number] = errors(*((problem.x[part], problem.label[part]) for part in (train, test)))
        found *= 100
        gain = found[:, :, 0] - found[:, :, 1]
        at = crossing(sizes, gain.mean(1))
        curves[problem.name] = (sizes, found, at)
        for i in sorted({*range(0, len(sizes), 2), len(sizes) - 1}):
            rows.append((problem.name, int(sizes[i]), *found[i].mean(0).tolist(), *mean_and_error(gain[i])))
        (few, few_se), (many, many_se) = (mean_and_error(gain[part].mean(0)) for part in (sizes < at, sizes > at))
        claims.append(
            Claim(
                f"{problem.name.capitalize()}: the errors cross at n = {at:.0f}. Over the sizes below, the generative "
                f"classifier has {-few:.1f} +- {few_se:.1f} points fewer than logistic regression, over those above "
                f"{many:.1f} +- {many_se:.1f} more.",
                few < -2 * few_se and many > 3 * many_se,
            )
        )
    ends = {name: found[-1].mean(0).tolist() for name, (_, found, _) in curves.items()}
    found = ", ".join(f"{name} {' / '.join(f'{error:.1f}' for error in end)} %" for name, end in ends.items())
    claims.append(
        Claim(
            f"With all samples bias decides (generative / logistic / penalized): {found}. A penalty is a smaller bias.",
            all(generative > logistic > penalized for generative, logistic, penalized in ends.values()),
        )
    )
    return Finding(
        name="bias-variance",
        title="Generative or discriminative: which needs fewer samples, and which has the lower error in the end?",
        columns=("data", "n", *(f"{kind}, error %" for kind in KINDS), "generative - logistic", "+-"),
        rows=rows,
        claims=claims,
        draw=lambda figure: _draw(figure, curves),
        settings={"seed": seed, "repeats": repeats, "C": list(PENALTIES)},
        size=(9.0, 4.2),
    )


def _draw(figure, curves: dict[str, tuple]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    labels = ("generative", "logistic regression", "logistic, penalized")
    for axes, (name, (sizes, found, at)) in zip(figure.subplots(1, 2), curves.items()):
        for place, (label, color) in enumerate(zip(labels, COLORS)):
            mean, se = zip(*(mean_and_error(values) for values in found[:, :, place]))
            axes.errorbar(sizes, mean, se, color=color, fmt="--" if place == 2 else "-", capsize=2, label=label)
        axes.axvline(at, color="black", linewidth=0.8, linestyle=":", label=f"crossing, n = {at:.0f}")
        axes.set(xlabel="training samples, n", ylabel="held-out error, %", title=name, xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
