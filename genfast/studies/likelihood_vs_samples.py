"""Does a better likelihood mean better samples? Models of digits with the one and without the other, both ways.

A model that draws noise in 99 % of cases and what a good model draws in the others has at every x

    log(0.01 p_good(x) + 0.99 p_noise(x)) >= log p_good(x) - log 100,

so it loses at most 4.61 nats a picture, whatever its dimension, where models differ by tens. The other way round, a
narrow kernel around every training picture draws perfect ones and gives new ones next to no density (Theis, van den
Oord & Bethge 2016, arXiv:1511.01844). The good one here is a mixture of 40 diagonal Gaussians. Likelihoods are of
held-out digits dequantized from their 17 levels; samples are held against the same digits in pixels, by the Frechet
distance extrapolated to infinitely many, precision and recall.
"""

import math

import torch
from tqdm import tqdm

import genfast as gf

from .finding import Claim, Finding

SHARE = 0.01  # of the good model in the noisy one
KERNEL = 0.05  # the copier's standard deviation, for pixels in [-1, 1]
LEVELS = 17
GOOD, NOISY, COPIER, DIAGONAL, PPCA = "mixture", "99 % noise, 1 % mixture", "copier", "diagonal Gaussian", "PPCA"
COLORS = {GOOD: "#0072b2", NOISY: "#d55e00", COPIER: "#cc79a7", DIAGONAL: "#666666", PPCA: "#009e73"}
SHOWN = 32  # samples of each model


def noisy(model: gf.GaussianMixture) -> gf.GaussianMixture:
    """SHARE of a mixture of diagonal Gaussians, the rest N(0, I)."""
    one = torch.ones(1, dtype=torch.float64, device="cpu")
    weights = torch.cat([SHARE * model.weights, (1 - SHARE) * one])
    means, variances = (
        torch.cat([part, value * torch.ones_like(part[:1])]).view(-1, *model.shape)
        for part, value in ((model.means, 0.0), (model.variances, 1.0))
    )
    return gf.GaussianMixture.from_parameters(weights, means, variances.flatten(1))


def copier(x: torch.Tensor) -> gf.GaussianMixture:
    """A kernel around each of x: (N, *)."""
    even = torch.full((len(x),), 1 / len(x), dtype=torch.float64, device="cpu")
    return gf.GaussianMixture.from_parameters(even, x, torch.full_like(even, KERNEL**2))


def models(train: gf.data.Data, seed: int) -> dict:
    """By name; all but the copier are fitted to dequantized digits."""
    key = gf.ops.make_key(seed, len(train))
    x = train.x + 2 / (LEVELS - 1) * (gf.ops.uniform(key, train.shape, gf.ops.Purpose.DEQUANTIZE) - 0.5)
    good = gf.GaussianMixture(40, "diagonal", min_variance=3e-3, tolerance=1e-3, seed=seed).fit(x)
    others = {DIAGONAL: gf.Gaussian("diagonal").fit(x), PPCA: gf.PPCA(10).fit(x)}
    return {GOOD: good, NOISY: noisy(good), COPIER: copier(train.x), **others}


def likelier_but_worse(one: gf.evaluation.Report, other: gf.evaluation.Report) -> bool:
    """Whether `one` has the better likelihood and the worse samples, with intervals apart in both."""
    return all(one[name].estimate.low > other[name].estimate.high for name in ("nats", "frechet"))


def study(seed: int = 0, progress: bool = True, held_out: int = 450) -> Finding:
    """held_out: test digits, at most 450, and samples of each model."""
    train, test = gf.data.digits("train"), gf.data.digits("test")
    chosen = torch.from_numpy(gf.data.permutation(len(test), seed, 0))[:held_out]
    test = gf.data.arrays(test.x[chosen])
    fitted, metrics = models(train, seed), ["frechet", "precision_recall", "memorization"]
    options = {"train": gf.data.arrays(train.x), "n": len(test), "seed": seed, "progress": False}
    found = {
        name: gf.evaluate(model, test, metrics=["likelihood", *metrics], likelihood={"levels": LEVELS}, **options)
        for name, model in tqdm(fitted.items(), desc="models", leave=False, disable=not progress)
    }
    real = gf.evaluate(train.x, test, metrics=metrics[:2], **options)

    names = ("precision", "recall")
    rows = [
        (name, r["nats"].value, r["nats"].estimate.details["se"], r["frechet"].center, *(r[k].value for k in names),
         r["memorization"].value)
        for name, r in found.items()
    ]  # fmt: skip
    rows.append(("training digits", "-", "-", real["frechet"].center, *(real[k].value for k in names), "-"))
    nats, frechet = ({name: r[k].center for name, r in found.items()} for k in ("nats", "frechet"))
    loss, most = nats[GOOD] - nats[NOISY], -math.log(SHARE)
    copies = found[COPIER]["memorization"].value
    claims = [
        Claim(
            f"99 % noise costs {loss:.2f} nats of at most {most:.2f}. What is left, {nats[NOISY]:.1f}, is far above "
            f"the diagonal Gaussian's {nats[DIAGONAL]:.1f} and PPCA's {nats[PPCA]:.1f}, and the samples are the worst: "
            f"Frechet distance {frechet[NOISY]:.1f} against {frechet[DIAGONAL]:.1f} and {frechet[PPCA]:.1f}.",
            0 < loss <= most and frechet[NOISY] == max(frechet.values())
            and all(likelier_but_worse(found[NOISY], found[name]) for name in (DIAGONAL, PPCA)),
        ),
        Claim(
            f"The copier has the worst likelihood, {nats[COPIER]:.0f}, and the best samples, at a Frechet distance of "
            f"{frechet[COPIER]:.2f} (training digits: {real['frechet'].center:.2f}); {copies:.0%} of them are copies.",
            copies > 0.9 and all(likelier_but_worse(found[name], found[COPIER]) for name in found if name != COPIER),
        ),
        Claim(
            f"So do two plain fits disagree: the diagonal Gaussian has {nats[DIAGONAL] - nats[PPCA]:.1f} nats more "
            f"than PPCA and a Frechet distance {frechet[DIAGONAL] / frechet[PPCA]:.1f} times as large.",
            likelier_but_worse(found[DIAGONAL], found[PPCA]),
        ),
    ]  # fmt: skip
    sheets = {name: model.sample(SHOWN, seed=seed) for name, model in fitted.items()} | {
        "held-out digits": test.x[:SHOWN]
    }
    return Finding(
        name="likelihood-vs-samples",
        title="Does a better likelihood mean better samples?",
        columns=("model", "nats", "+-", "Frechet", *names, "copies"),
        rows=rows,
        claims=claims,
        draw=lambda figure: _draw(figure, nats, frechet, sheets),
        settings={"seed": seed, "held_out": len(test), "kernel": KERNEL, "share": SHARE},
        size=(10.0, 4.6),
    )


def _draw(figure, nats: dict, frechet: dict, sheets: dict) -> None:
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    axes = left.subplots()
    for name, color in COLORS.items():
        axes.scatter(frechet[name], nats[name], color=color, s=50, zorder=2)
        before = frechet[name] > 20
        axes.annotate(
            name.replace(", ", ",\n"), (frechet[name], nats[name]), (-8 if before else 8, 0), color=color,
            textcoords="offset points", ha="right" if before else "left", va="center",
        )  # fmt: skip
    axes.set(xlabel="Frechet distance of the samples (better to the left)", xlim=(-0.3, 200))
    axes.set(ylabel="held-out nats a digit (better above)", ylim=(-2000, 60))
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("symlog", linthresh=30)
    axes.grid(alpha=0.3)
    for place, (name, x) in zip(right.subplots(3, 2).flat, sheets.items()):
        place.imshow(gf.data.grid(x, columns=8, padding=1), cmap="gray", interpolation="nearest")
        place.set_title(name, fontsize=9, color=COLORS.get(name, "black"))
        place.set_axis_off()
