r"""What do PCA and a VAE, with two latents each, make of a rolled sheet?

    x = (r cos phi, r sin phi, h) + noise e,   r = phi / 10,   phi from pi to 3.5 pi,   e ~ N(0, I)

The sheet is 5.6 along the roll by 4 along its axis, uniform in arc length and h: a plane without the roll. The best
plane of PCA holds the axis and one direction across the roll, and so puts layers on top of one another (what Tenenbaum
et al. 2000 made the example for). The decoder of a VAE can bend; but unrolling is one of many maxima of the ELBO, and
not every start finds it. So three are trained, and that of the best ELBO on the training data counts.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import genfast as gf

from .finding import Claim, Finding
from .seeds import seeded

ANGLES, HEIGHT, NOISE = (math.pi, 3.5 * math.pi), 4.0, 0.05
TRAIN, TEST = 4000, 2000
BATCH = 256  # of the training
K, APART = 10, 1.0  # nearest neighbors; so far along the sheet they are none
FOLDED, WHOLE = 0.1, 0.01  # shares of neighbors that are none


class Seen(NamedTuple):
    """What a model makes of the held-out points. fit: mean log-likelihood, or ELBO, of the training data, nats.

    nats: mean held-out log-likelihood.  error: root mean square of a number of x, in units of the noise.  strangers:
    share of neighbors in latent space that are none.  r2: along the roll and along the axis.  z, x: (N, 2) and (N, 3),
    the latents and the reconstructions.
    """

    fit: float
    nats: float
    error: float
    strangers: float
    r2: tuple[float, float]
    z: Tensor
    x: Tensor

    def row(self, name: str) -> tuple:
        return (name, self.fit, self.nats, self.error, f"{self.strangers:.2%}", *self.r2)


def arc(phi):
    """Length of the spiral r = phi / 10 from angle 0 to phi."""
    return (phi * np.sqrt(1 + phi**2) + np.arcsinh(phi)) / 20


LENGTH = float(arc(ANGLES[1]) - arc(ANGLES[0]))


def sheet(n: int, seed: int, noise: float = NOISE) -> tuple[Tensor, Tensor]:
    """n points, (n, 3) float32, and their places on the sheet, along the roll and along the axis, (n, 2) float64."""
    key = gf.ops.make_key(seed, n)
    place = gf.ops.uniform(key, (2,), gf.ops.Purpose.LATENT, dtype=torch.float64) * torch.tensor(
        [LENGTH, HEIGHT], device="cpu"
    )
    angles = np.linspace(*ANGLES, 10_001)
    phi = torch.from_numpy(np.interp(place[:, 0].numpy(), arc(angles) - arc(ANGLES[0]), angles))
    x = torch.stack([phi / 10 * phi.cos(), phi / 10 * phi.sin(), place[:, 1] - HEIGHT / 2], 1)
    return (x + noise * gf.ops.normal(key, (3,), gf.ops.Purpose.TRAIN, dtype=torch.float64)).float(), place


def strangers(z: Tensor, place: Tensor) -> float:
    """Share of the K nearest neighbors among z (N, 2) that lie further than APART from one another on the sheet."""
    neighbors = gf.ops.nearest(z.float(), z.float(), K + 1).index[:, 1:]  # the first is the point itself
    return float(((place[neighbors] - place[:, None]).norm(dim=2) > APART).double().mean())


def r_squared(known: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Share of the variance of each coordinate that the mean over the K nearest known points explains. Each: latents
    (N, 2) and places (N, 2)."""
    nearest = gf.ops.nearest(asked[0].float(), known[0].float(), K).index
    left = (known[1][nearest].mean(1) - asked[1]).square().mean(0) / asked[1].var(0, correction=0)
    along_roll, along_axis = (1 - left).tolist()
    return along_roll, along_axis


def train(x: Tensor, seed: int, steps: int) -> gf.VAE:
    """A VAE of two latents after so many steps, the KL rising over the first two thirds."""
    with seeded(seed):
        encoder, decoder = (gf.nn.FeedForward(i, o, width=64, depth=4) for i, o in ((3, 4), (2, 3)))
    vae = gf.VAE(encoder, decoder, latent=2, likelihood="learned_variance", kl_warmup=BATCH * 2 * steps // 3)
    gf.fit(vae, x, steps=steps, batch=BATCH, lr=5e-3, seed=seed, progress=False)
    return vae


def study(seed: int = 0, progress: bool = True, starts: int = 3, steps: int = 1500) -> Finding:
    """starts: of the VAE.  steps: of training of each."""
    (x, place), (x_test, place_test) = sheet(TRAIN, 2 * seed), sheet(TEST, 2 * seed + 1)

    def seen(fit: float, nats: float, z: Tensor, z_test: Tensor, x_hat: Tensor) -> Seen:
        error = float((x_hat - x_test).square().mean().sqrt()) / NOISE
        r2 = r_squared((z, place), (z_test, place_test))
        return Seen(fit, nats, error, strangers(z_test, place_test), r2, z_test, x_hat)

    def seen_by_vae(start: int) -> Seen:
        vae = train(x, starts * seed + start, steps)
        fit = float(vae.elbo(x, gf.ops.make_key(seed, TRAIN)).mean())
        nats = float(vae.log_likelihood(x_test, k=256, seed=seed, chunk=500).nats.mean())
        with torch.no_grad():
            return seen(fit, nats, vae.encode(x)[0], vae.encode(x_test)[0], vae.reconstruct(x_test))

    ppca = gf.PPCA(2).fit(x)
    # The plane itself: the means of PPCA's posterior are drawn towards its center, the more the larger the rest.
    z, z_test = ((data.double() - ppca.mean) @ ppca.basis[0] for data in (x, x_test))
    nats = (float(ppca.log_prob(data).mean()) for data in (x, x_test))
    pca = seen(*nats, z, z_test, z_test @ ppca.basis[0].T + ppca.mean)
    vaes = [seen_by_vae(start) for start in tqdm(range(starts), desc="starts", disable=not progress)]
    best = max(vaes, key=lambda one: one.fit)
    unrolled = sum(one.strangers < WHOLE for one in vaes)
    # To first order in the noise, of which a third of the variance leaves the sheet.
    truth = -math.log(LENGTH * HEIGHT) - 0.5 * math.log(2 * math.pi * math.e * NOISE**2)
    names = [f"VAE, start {start + 1}{', the best' if one is best else ''}" for start, one in enumerate(vaes)]
    claims = [
        Claim(
            f"PCA folds layers together: of the {K} nearest neighbors in its plane {pca.strangers:.1%} lie more than "
            f"{APART:g} apart on the sheet, in the VAE's latents {best.strangers:.2%}. {unrolled} of {starts} starts "
            f"unroll it.",
            pca.strangers > FOLDED and best.strangers < WHOLE,
        ),
        Claim(
            f"Its reconstructions are off by {pca.error:.1f} times the noise, the VAE's by {best.error:.2f}: near "
            f"{3**-0.5:.2f}, the noise across the sheet.",
            pca.error > 4 and best.error < 1,
        ),
        Claim(
            f"On held-out points the VAE has {best.nats:.2f} nats, PPCA {pca.nats:.2f}; the sheet itself has "
            f"{truth:.2f}.",
            pca.nats + 1 < best.nats < truth + 0.05,
        ),
    ]  # fmt: skip
    return Finding(
        "manifold",
        "What do PCA and a VAE make of a rolled sheet?",
        ("model", "fit, nats", "held out, nats", "error / noise", "strangers", "R^2, roll", "R^2, axis"),
        [
            pca.row("PPCA"),
            *(one.row(name) for name, one in zip(names, vaes, strict=True)),
            ("the sheet itself", "-", truth, 3**-0.5, "0.00%", 1.0, 1.0),
        ],
        claims,
        lambda figure: _draw(figure, x_test, place_test[:, 0], pca, best),
        {"seed": seed, "starts": starts, "steps": steps, "train": TRAIN, "test": TEST, "noise": NOISE},
        (13.0, 3.8),
    )  # fmt: skip


def _draw(figure, x: Tensor, along: Tensor, pca: Seen, vae: Seen) -> None:
    rolled = figure.add_subplot(1, 4, 1, projection="3d")
    flat, unrolled, section = (figure.add_subplot(1, 4, column) for column in (2, 3, 4))
    points = {"c": along, "cmap": "viridis", "s": 4, "linewidths": 0}
    rolled.scatter(x[:, 0], x[:, 2], x[:, 1], **points)
    rolled.view_init(elev=15, azim=-65)
    rolled.set(xticks=[], yticks=[], zticks=[], xlabel="x", ylabel="height", title="the sheet")
    for axes, seen, title in ((flat, pca, "PCA's plane"), (unrolled, vae, "the VAE's latents")):
        shown = axes.scatter(*seen.z.T, **points)
        axes.set(xlabel="z_1", ylabel="z_2", title=title)
    figure.colorbar(shown, ax=unrolled, label="place along the roll")
    section.plot(x[:, 0], x[:, 1], ".", color="0.6", markersize=1, label="held-out points")
    for seen, name, color in ((pca, "PCA", "#d55e00"), (vae, "VAE", "#0072b2")):
        section.plot(seen.x[:, 0], seen.x[:, 1], ".", color=color, markersize=2, label=name)
    section.set(xlabel="x", ylabel="y", xlim=(-1.2, 1.2), aspect="equal", title="reconstructed")
    section.legend(fontsize=7, markerscale=3, loc="lower right")
