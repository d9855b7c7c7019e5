"""What does a classifier lose when the base rate moves from 10 % to 50 %, and what brings it back?

p(y | x) ~ p(x | y) p(y): of a generative classifier only p(y) has moved, so the new one takes its place, given or
estimated from unlabeled data by EM (Saerens, Latinne & Decaestecker 2002, Neural Computation 14(1)). A discriminative
one holds the old p(y) inside its weights.

Two problems. Mail is made by a stated rule: two logarithmic word rates, of ordinary mail N(0, C), unit variances and
correlation 0.3, and of spam, which comes from one template, N((1, 1), 0.25^2 I). The best possible accuracy depends on
the base rate too; a narrow class before a broad one is a case where it is about the same at 10 % and at 50 %. The other
is real: an eight among handwritten digits, by the means of 8 blocks of 2 x 4 pixels, where the rule is not known. As
there are only 174 eights, all figures are means over several halvings of the digits.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import genfast as gf

from .finding import Claim, Finding

BEFORE, AFTER = 0.1, 0.5
RATES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
KINDS = ("unadapted", "re-weighted", "EM", "logistic")  # their places in what `Problem.accuracies` gives
COLORS = ("#d55e00", "#0072b2", "#009e73", "#888888")
Labeled = tuple[Tensor, Tensor]


class Problem:
    """A generative classifier and a logistic regression of quadratic features, which can express the log-odds of any
    two Gaussians, both fitted at the base rate BEFORE, and held-out data at any other.

    draw(rate) gives x: (N, D) and label: (N,), 1 for the class whose share is `rate`.
    """

    def __init__(self, train: Labeled, models: list, draw: Callable[[float], Labeled]):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures, StandardScaler

        self.classifier, self.draw = gf.GenerativeClassifier(models).fit(train), draw
        steps = StandardScaler(), PolynomialFeatures(2), LogisticRegression(C=100, max_iter=1000)
        self.logistic = make_pipeline(*steps).fit(train[0].numpy(), train[1].numpy())

    def accuracies(self, rate: float) -> list[float]:
        """Of KINDS, at this base rate; and at the end EM's estimate of it, from x alone."""
        x, label = self.draw(rate)
        estimate = self.classifier.estimate_prior(x).prior
        priors = self.classifier.prior, [1 - rate, rate], estimate
        found = [self.classifier.with_prior(prior).accuracy((x, label)) for prior in priors]
        return [*found, float(self.logistic.score(x.numpy(), label.numpy())), float(estimate[1])]


def mail(seed: int, count: int) -> Problem:
    """By the rule above; 4,000 messages to learn from."""
    ordinary = gf.Gaussian.from_moments([0.0, 0.0], [[1.0, 0.3], [0.3, 1.0]])
    spam = gf.Gaussian.from_moments([1.0, 1.0], [0.0625, 0.0625])

    def draw(rate: float, first: int, n: int) -> Labeled:
        label = (torch.arange(n, device="cpu") >= n - round(rate * n)).long()
        index = first + torch.arange(n, device="cpu")
        x = [model.sample(index[label == k], seed=seed) for k, model in enumerate((ordinary, spam))]
        return torch.cat(x), label

    return Problem(draw(BEFORE, 0, 4000), [gf.Gaussian(), gf.Gaussian()], lambda rate: draw(rate, 4000, count))


def eights(seed: int, count: int, split: int) -> Problem:
    """One half of the digits to learn from; of the other each base rate is made by repeating those of either class.

    Halvings of different `split` are independent.
    """
    data = gf.data.digits()
    x = torch.nn.functional.avg_pool2d(data.x, (2, 4)).flatten(1)
    label = (data.label == 8).long()
    train, held = torch.from_numpy(gf.data.permutation(len(data), seed, split)).tensor_split(2)

    def draw(rate: float) -> Labeled:
        parts = []
        for k, n in enumerate((count - round(rate * count), round(rate * count))):
            pool = held[label[held] == k]
            parts.append(pool[torch.arange(n, device="cpu") % len(pool)])
        return x[torch.cat(parts)], label[torch.cat(parts)]

    return Problem((x[train], label[train]), [gf.GaussianMixture(9, seed=seed), gf.Gaussian()], draw)


def study(seed: int = 0, progress: bool = True, count: int = 20_000, splits: int = 8) -> Finding:
    """count: held-out samples at each base rate.  splits: halvings of the digits."""
    curves = {}
    for name, made in (("mail", [mail(seed, count)]), ("digits", [eights(seed, count, i) for i in range(splits)])):
        shown = tqdm(made, desc=name, leave=False, disable=not progress)
        found = np.array([[problem.accuracies(rate) for rate in RATES] for problem in shown])
        curves[name] = found.mean(0).tolist()
    old, new = RATES.index(BEFORE), RATES.index(AFTER)
    rows, lost, estimates = [], {}, {}
    for name, curve in curves.items():
        before, (*after, estimates[name]) = curve[old], curve[new]
        before = [before[0]] * 3 + before[3:4]  # of the generative one with the prior that it counted
        lost[name] = [100 * (a - b) for a, b in zip(before, after)]
        priors = (BEFORE, AFTER, estimates[name], BEFORE)
        rows += [(name, *row) for row in zip(KINDS, priors, before, after, lost[name])]
    claims = [
        Claim(
            f"Mail: when spam rises from 10 % to 50 %, the generative classifier re-weighted by the new prior loses "
            f"{lost['mail'][1]:.1f} points of accuracy and that with EM's prior {lost['mail'][2]:.1f}, at most 1; "
            f"unadapted it loses {lost['mail'][0]:.1f}, as logistic regression does, {lost['mail'][3]:.1f}.",
            max(lost["mail"][1:3]) <= 1 and min(lost["mail"][0], lost["mail"][3]) > 4,
        ),
        Claim(
            f"From {count:,} messages without labels EM puts the new prior at {estimates['mail']:.3f}, within 0.03.",
            abs(estimates["mail"] - AFTER) < 0.03,
        ),
        Claim(
            f"Real digits, mean of {splits} halvings: unadapted it loses {lost['digits'][0]:.1f} points, re-weighted "
            f"{lost['digits'][1]:.1f}, less than half as many; EM puts the prior at {estimates['digits']:.3f}, "
            "within 0.05.",
            lost["digits"][1] < lost["digits"][0] / 2 and abs(estimates["digits"] - AFTER) < 0.05,
        ),
    ]
    return Finding(
        name="prior-shift",
        title="The base rate moves from 10 % to 50 %: what does a classifier lose, and what brings it back?",
        columns=("data", "classifier", "prior used", "accuracy at 10 %", "accuracy at 50 %", "points lost"),
        rows=rows,
        claims=claims,
        draw=lambda figure: _draw(figure, curves),
        settings={"seed": seed, "count": count, "splits": splits},
        size=(9.0, 4.2),
    )


def _draw(figure, curves: dict[str, list[list[float]]]) -> None:
    titles = {"mail": "mail, made by a rule: spam before the rest", "digits": "real digits: eights before the rest"}
    for axes, (name, curve) in zip(figure.subplots(1, 2, sharey=True), curves.items()):
        rates = [100 * rate for rate in RATES]
        for place, (kind, color) in enumerate(zip(KINDS, COLORS)):
            style = {"EM": "o", "logistic": "--"}.get(kind, "-")
            label = {"EM": "prior by EM", "logistic": "logistic regression"}.get(kind, kind)
            axes.plot(rates, [100 * found[place] for found in curve], style, color=color, label=label)
        axes.axvline(100 * BEFORE, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlabel="base rate of the test data, %", title=titles[name])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy, %")
    figure.axes[0].legend(title="fitted at 10 % (dotted)", loc="lower left")
