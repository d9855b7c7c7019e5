r"""Does a linear VAE, trained by gradients of its ELBO, find probabilistic PCA, which is a formula?

Data: scikit-learn's 1,797 digits of 64 pixels. Both networks are linear and q(z | x) has one variance a latent for all
x, so that the posterior of PPCA, up to a rotation of z, is within reach: the maximum of the ELBO is the maximum of the
likelihood (Lucas et al. 2019, arXiv:1911.02469). With l_1 > l_2 > ... and U the eigenvalues and eigenvectors of the
data's covariance, that of q latents lies at (Tipping and Bishop 1999)

    sigma^2 = mean of l_j over j > q,   W = U_q (diag(l_1 ... l_q) - sigma^2 I)^(1/2) R

If sigma^2 is held at another value, the latents with l_j < sigma^2 are of no use to the likelihood itself, and their
posterior collapses to the prior: no fault of the ELBO. Two more runs hold it, between two eigenvalues and above all.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

import genfast as gf

from .finding import Claim, Finding
from .seeds import seeded

CLOSE, NARROW = 1e-3, 1.0  # share of the maximum; degrees
LEFT = 4  # latents that are of use in the second run
LOGS = 60
COLORS = ("#0072b2", "#e69f00", "#009e73")


class LinearEncoder(nn.Module):
    """q(z | x) = N(V x + b, diag(e^l)), l the same for all x: (N, features) -> two of (N, latent)."""

    def __init__(self, features: int, latent: int):
        super().__init__()
        self.mu, self.logvar = nn.Linear(features, latent), nn.Parameter(torch.zeros(latent))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu(x), self.logvar.expand(len(x), -1)


@dataclass(frozen=True)
class Run:
    """noise: the sigma^2 that is held, or None.  useful: latents with an eigenvalue above it.  maximum: of the mean
    log-likelihood, nats.  steps, gaps: how far the ELBO was below it when.  angles: degrees, ascending."""

    noise: float | None
    useful: int
    maximum: float
    steps: list[int]
    gaps: list[float]
    sigma2: float
    active: int
    angles: Tensor

    @property
    def name(self) -> str:
        return "sigma^2 learned" if self.noise is None else f"sigma^2 held at {self.noise:.3g}"


@torch.no_grad()
def elbo(vae: gf.VAE, mean: Tensor, covariance: Tensor) -> float:
    """The mean ELBO of data with these moments, (D,) and (D, D) float64, in nats: a formula, for all is quadratic."""
    V, b, l = vae.encoder.mu.weight.double(), vae.encoder.mu.bias.double(), vae.encoder.logvar.double()
    W, a = vae.decoder.weight.double(), vae.decoder.bias.double()
    log_noise = vae.likelihood.log_variance(vae.decoder.bias).double()
    rest, mu = torch.eye(len(a), dtype=a.dtype, device="cpu") - W @ V, V @ mean + b
    error = ((rest @ covariance) * rest).sum() + (mean - a - W @ mu).square().sum() + (W.square() * l.exp()).sum()
    kl = 0.5 * (((V @ covariance) * V).sum() + mu.square().sum() + (l.exp() - 1 - l).sum())
    return float(-0.5 * (len(a) * (math.log(2 * math.pi) + log_noise) + error / log_noise.exp()) - kl)


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """Angles between the spans of a and b, each (D, k) with orthonormal columns: (k,) degrees, ascending.

    By their sines, which keep the digits of small angles that the cosines lose (Bjorck and Golub 1973).
    """
    return torch.rad2deg(torch.linalg.svdvals(b - a @ (a.T @ b)).clamp(max=1).asin().flip(0))


def study(seed: int = 0, progress: bool = True, latent: int = 10, steps: int = 3000) -> Finding:
    """latent: of the VAE, above 4.  steps: of training, for each of three runs."""
    x = gf.data.digits().x.flatten(1)
    mean, covariance = x.double().mean(0), torch.cov(x.double().T, correction=0)
    values, U = (part.flip(-1) for part in torch.linalg.eigh(covariance))
    midway = float((values[LEFT - 1] * values[LEFT]).sqrt())

    def run(noise: float | None) -> Run:
        if noise is None:
            useful, likelihood, best = latent, "learned_variance", gf.PPCA(latent).fit(x.double())
        else:
            useful, likelihood = int((values > noise).sum()), gf.vae.likelihoods.Gaussian(noise**0.5)
            best = (U * torch.where(torch.arange(len(values), device="cpu") < useful, values, noise)) @ U.T
            best = gf.Gaussian.from_moments(mean, best)
        maximum = float(best.log_prob(x).mean())
        with seeded(seed):
            encoder, decoder = LinearEncoder(x.shape[1], latent), nn.Linear(latent, x.shape[1])
        vae = gf.VAE(encoder, decoder, latent=latent, likelihood=likelihood)
        every = max(1, steps // LOGS)
        fit = gf.Fit(vae, x, steps=steps, batch=512, lr=0.03, clip=None, seed=seed, log_every=every)
        at, gaps = [], []
        for log in tqdm(fit, total=-(-steps // every), desc="training", unit="log", disable=not progress):
            at.append(log["step"])
            with fit.averaged():
                gaps.append(maximum - elbo(vae, mean, covariance))
        W = torch.linalg.svd(vae.decoder.weight.detach().double(), full_matrices=False)[0]
        sigma2 = float(vae.likelihood.log_variance(x).detach().double().exp())
        angles = principal_angles(U[:, :useful], W[:, :useful])
        return Run(noise, useful, maximum, at, gaps, sigma2, vae.active_units(x).count, angles)

    runs = [run(None), run(midway), run(2 * float(values[0]))]
    free, held, nothing = runs
    off, widest = free.gaps[-1] / abs(free.maximum), float(free.angles.max())
    counts = f"{held.active} of {latent} with sigma^2 = {held.noise:.2f}, {nothing.active} with {nothing.noise:.2f}"
    claims = [
        Claim(
            f"The linear VAE with learned noise ends {free.gaps[-1]:.3g} nats, {off:.2%}, below the maximum "
            f"log-likelihood of PPCA with as many latents, {free.maximum:.3f} nats an image: within 0.1 %.",
            0 <= off < CLOSE,
        ),
        Claim(
            f"Its decoder spans the principal subspace of {latent} dimensions: the largest principal angle is "
            f"{widest:.2f} degrees, below 1.",
            widest < NARROW,
        ),
        Claim(
            f"As many latents stay in use as eigenvalues lie above sigma^2: {counts}. The likelihood itself has no use "
            f"for the others; with learned noise {free.active} of {latent} are in use.",
            all(one.active == one.useful for one in runs),
        ),
    ]  # fmt: skip
    return Finding(
        "linear-vae",
        "Does a linear VAE find probabilistic PCA?",
        ("run", "sigma^2", "maximum, nats", "ELBO, nats", "gap", "gap, %", "in use", "largest angle, degrees"),
        [
            (one.name, one.sigma2, one.maximum, one.maximum - one.gaps[-1], one.gaps[-1],
             100 * one.gaps[-1] / abs(one.maximum), f"{one.active} of {latent}",
             float(one.angles.max()) if one.useful else "-")
            for one in runs
        ],
        claims,
        lambda figure: _draw(figure, runs, values[: latent + 5]),
        {"seed": seed, "latent": latent, "steps": steps, "batch": 512, "lr": 0.03},
        (11.0, 4.2),
    )  # fmt: skip


def _draw(figure, runs: list[Run], values: Tensor) -> None:
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    for one, color in zip(runs, COLORS, strict=True):
        left.plot(one.steps, one.gaps, color=color, label=one.name)
    left.axhline(CLOSE * abs(runs[0].maximum), color="black", linestyle=":", label="0.1 % of PPCA's maximum")
    left.set(xlabel="training step", ylabel="maximum log-likelihood - ELBO (nats)", yscale="log", title="ELBO")
    left.legend(fontsize=8)
    angles = runs[0].angles
    middle.plot(range(1, len(angles) + 1), angles, "o", color=COLORS[0], label=runs[0].name)
    middle.axhline(NARROW, color="black", linestyle=":")
    middle.legend(fontsize=8, loc="lower right")
    middle.set(xlabel="number of the angle", ylabel="principal angle (degrees)", yscale="log", ylim=(None, 2))
    middle.set_title("Decoder's span against PPCA's")
    right.plot(range(1, len(values) + 1), values, "o", color="black", markersize=4, label="eigenvalues of the data")
    for one, color in zip(runs, COLORS, strict=True):
        right.axhline(one.sigma2, color=color, label=f"sigma^2: {one.active} latents in use")
    right.set(xlabel="number of the eigenvalue", ylabel="variance", yscale="log", title="What is of use")
    right.set_ylim(None, 12 * max(one.sigma2 for one in runs))  # room for the legend
    right.legend(fontsize=8, loc="upper right")
