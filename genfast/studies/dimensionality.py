"""How does a full Gaussian fare as the dimension grows, and what does fewer parameters buy?

The same digits as pictures of k x k pixels, resized, every pixel with noise of its own, of standard deviation 0.1, so
that all densities are of continuous data and comparable. D = k^2 grows, the number n of training pictures does not. A
full Gaussian has D (D + 1) / 2 parameters in its covariance, 8,390,656 for 64 x 64; a diagonal one D, PPCA about q D
and a VAE with as many latent numbers q a few hundred a pixel, of a network that must pass through those q. Of the VAE
the likelihood is the bound IWAE (Burda et al. 2016, arXiv:1509.00519).

Of Gaussian data, whatever their covariance, the maximum-likelihood full Gaussian overfits by, in nats a sample,

    E[log p on training data] - E[log p on new data] = D/2 ((n + 1) / (n - D - 2) - 1),   n > D + 2,

as the quadratic form is D on average on the training data and D (n + 1) / (n - D - 2) on new ones (mean of an inverse
Wishart matrix; e.g. Anderson 2003, section 7.7).
"""

import math
import warnings

import torch
from torch import Tensor, nn

import genfast as gf

from .finding import Claim, Finding
from .seeds import seeded

NOISE = 0.1
LATENT = 10
WIDTH = 128  # of the VAE's hidden layers
KINDS = ("full Gaussian", "diagonal Gaussian", "PPCA", "VAE")
COLORS = ("#d55e00", "#888888", "#0072b2", "#009e73")
LARGE = 64 * 64  # counted, not fitted


def pictures(data: Tensor, side: int, seed: int) -> Tensor:
    """(N, side^2): digits (N, 1, 8, 8) resized, with noise that is a function of the seed and the row."""
    sized = nn.functional.interpolate(data, (side, side), mode="bilinear", antialias=True).flatten(1)
    return sized + NOISE * gf.ops.normal(gf.ops.make_key(seed, len(data)), sized.shape[1:], gf.ops.Purpose.DEQUANTIZE)


def overfitting(dims: int, n: int) -> float:
    """The law above, nats a sample."""
    return dims / 2 * ((n + 1) / (n - dims - 2) - 1)


def latent(dims: int) -> int:
    return min(LATENT, dims // 2)


def build_vae(dims: int, seed: int) -> gf.VAE:
    q = latent(dims)
    with seeded(seed):
        encoder, decoder = (gf.nn.FeedForward(i, o, width=WIDTH, depth=1) for i, o in ((dims, 2 * q), (q, dims)))
    return gf.VAE(encoder, decoder, latent=q, likelihood="learned_variance")


def weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def fitted(train: Tensor, seed: int, steps: int, progress: bool) -> tuple[list, list[str]]:
    """A model of each of KINDS, and the warnings that their fits gave."""
    dims = train.shape[1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        models = [gf.Gaussian().fit(train), gf.Gaussian("diagonal").fit(train), gf.PPCA(latent(dims)).fit(train)]
    vae = build_vae(dims, seed)
    gf.fit(vae, train, steps=steps, batch=64, lr=2e-3, weight_decay=0.01, seed=seed, progress=progress)
    return [*models, vae], [str(warning.message) for warning in caught]


def nats_a_number(model, x: Tensor, draws: int) -> tuple[float, float]:
    """Mean log-likelihood over the numbers of a sample, and its standard error over samples."""
    found = model.log_likelihood(x, k=draws).nats if isinstance(model, gf.VAE) else model.log_prob(x)
    return float(found.mean()) / x.shape[1], float(found.std()) / math.sqrt(len(x)) / x.shape[1]


def study(
    seed: int = 0,
    progress: bool = True,
    sides: tuple[int, ...] = (2, 4, 6, 8, 10, 12, 13, 14),
    count: int = 198,
    held_out: int = 600,
    steps: int = 350,
    draws: int = 128,
) -> Finding:
    """sides: pixels a side, ascending.  count: training pictures.  steps: of the VAE.  draws: of its IWAE bound."""
    digits = gf.data.digits()
    chosen = torch.from_numpy(gf.data.permutation(len(digits), seed, 0))[: count + held_out]
    held, seen, errors, warned, rows = {}, {}, {}, {}, []
    for side in sides:
        x, dims = pictures(digits.x[chosen], side, seed), side**2
        models, warned[dims] = fitted(x[:count], seed, steps, progress)
        held[dims], errors[dims] = zip(*(nats_a_number(model, x[count:], draws) for model in models))
        seen[dims] = [nats_a_number(model, x[:count], draws)[0] for model in models]
        rows.append((dims, *counts(dims), *held[dims], errors[dims][3]))
    rows.append((LARGE, *counts(LARGE), *["-"] * 5))

    full, diagonal, ppca, vae = held[max(held)]
    lost = [dims for dims in held if held[dims][0] < held[dims][1]]
    # Below, the digits that happen to be held out matter more; near n, the mean of the law is of rare, enormous losses.
    inside = [dims for dims in held if 0.3 * count < dims < 0.9 * count]
    ratios = [dims * (seen[dims][0] - held[dims][0]) / overfitting(dims, count) for dims in inside]
    loud = [message for dims in warned for message in warned[dims]]
    low = held[sides[1] ** 2]
    claims = [
        Claim(
            f"Of {count} pictures the full Gaussian is better than the diagonal one at {sides[1] ** 2} numbers "
            f"({low[0]:.2f} against {low[1]:.2f} nats a number), worse from {min(lost, default=0)} on, and at "
            f"{max(held)} has {full:.1f} against {diagonal:.2f}; PPCA has {ppca:.3f} there and the VAE {vae:.3f}.",
            low[0] > low[1] and lost == [d for d in held if d >= min(lost, default=0)] and min(ppca, vae) > diagonal,
        ),
        Claim(
            f"It overfits as the law of Gaussian data says: training less held-out likelihood is {min(ratios):.2f} to "
            f"{max(ratios):.2f} times D/2 ((n + 1) / (n - D - 2) - 1) for D = {inside[0]} to {inside[-1]}.",
            min(ratios) > 0.75 and max(ratios) < 1.33,
        ),
        Claim(
            f"For 64 x 64 pixels its covariance has {rows[-1][1]:,} parameters, PPCA's {rows[-1][2]:,}. From D + 3 > n "
            f"on gf.Gaussian warned: {loud[-1].split(':')[1].strip() if loud else 'nothing'}.",
            rows[-1][1] == 8_390_656
            and [dims for dims in warned if warned[dims]] == [d for d in held if count < d + 3],
        ),
    ]
    return Finding(
        name="dimensionality",
        title=f"The dimension grows, {count} training pictures do not: held-out likelihood",
        columns=("numbers", *(f"{kind}: params" for kind in ("full", "PPCA", "VAE")), *KINDS, "VAE: +-"),
        rows=rows,
        claims=claims,
        draw=lambda figure: _draw(figure, held, errors, seen, count),
        settings={
            "seed": seed, "sides": list(sides), "count": count, "held_out": held_out, "steps": steps, "draws": draws,
            "noise": NOISE, "latent": LATENT,
        },
        size=(9.5, 4.3),
    )  # fmt: skip


def counts(dims: int) -> tuple[int, int, int]:
    """Parameters of the covariances of a full Gaussian and of PPCA, and of the VAE."""
    q = latent(dims)
    return (
        gf.gaussian.covariance_parameters("full", dims, None),
        gf.gaussian.covariance_parameters("low_rank", dims, q),
        weights(build_vae(dims, 0)),
    )


def _draw(figure, held: dict, errors: dict, seen: dict, count: int) -> None:
    left, right = figure.subplots(1, 2)
    dims = list(held)
    for place, (kind, color) in enumerate(zip(KINDS, COLORS)):
        values, spread = ([found[d][place] for d in dims] for found in (held, errors))
        left.errorbar(dims, values, spread, color=color, marker="o", markersize=3, label=kind)
        gaps = [seen[d][place] - held[d][place] for d in dims]
        right.plot(dims, gaps, color=color, marker="o", markersize=3, label=kind)
    left.set(xlabel="numbers a picture, D", ylabel="held-out log-likelihood, nats a number", ylim=(-1.0, 0.5))
    worst = held[dims[-1]][0]
    if worst < -1:
        left.annotate(f"{worst:.1f}\nat {dims[-1]}", (dims[-1], -0.97), ha="right", va="bottom", color=COLORS[0])
    law = [overfitting(d, count) / d for d in dims if d < count - 2]
    right.plot(dims[: len(law)], law, color="black", linestyle="--", label="law of a full Gaussian")
    right.set(xlabel="numbers a picture, D", ylabel="training less held-out, nats a number")
    right.set_yscale("symlog", linthresh=0.1)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(loc="upper right")
    right.legend(loc="upper left")
