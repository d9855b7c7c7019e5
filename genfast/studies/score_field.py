r"""Where is the score that a diffusion model has learned the score of the noised data, and where is it not?

Data: a spiral of Gaussians (planes.py), of which p_t at every noise level, and so its score, is a formula. A small
network learns it by denoising (Vincent 2011): the loss weighs the error of the score by p_t,

    E_{p_t} sigma^2 |s(x, t) - grad log p_t(x)|^2 + constant

and so says nothing of places where no noised data come to lie. Noise makes them few: the reason for many levels of it
(Song and Ermon 2019, arXiv:1907.05600, section 3.2).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

import genfast as gf

from .finding import Claim, Finding
from .planes import noised, spiral
from .seeds import seeded

LEVELS = (0.1, 0.3, 1.0)  # sigma, of data whose standard deviation is about 0.95
WINDOW, CELLS, ARROWS = 4.0, 80, 16  # half the width of the square that is looked at; on a side
EMPTY = 1e-3  # a place is empty where p_t is below that of all but this share of its draws
DRAWS = 5000
CLOSE, FAR = 0.05, 20.0  # relative error that is close; times as large as where the data are


class Errors(NamedTuple):
    """squared: sigma^2 |s - exact|^2 of each point, (N,).  relative: of sums over the points.  cosine: mean, of the two
    scores."""

    squared: Tensor
    relative: float
    cosine: float


class Level(NamedTuple):
    """What was found at one noise level.

    drawn: (DRAWS, 2), draws of p_t.  no_data, squared: of the cells of the grid, (CELLS^2,).
    """

    sigma: float
    t: float
    drawn: Tensor
    on_data: Errors
    dense: float
    sparse: float
    off_data: float
    no_data: Tensor
    squared: Tensor


def errors(learned: Callable[[Tensor], Tensor], exact: Callable[[Tensor], Tensor], x: Tensor, sigma: float) -> Errors:
    """How two scores, functions of x (N, 2) at noise level sigma, differ."""
    s, truth = learned(x).double(), exact(x)
    difference = (s - truth).square().sum(1)
    cosine = torch.nn.functional.cosine_similarity(s, truth, dim=1).mean()
    return Errors(sigma**2 * difference, float(difference.sum() / truth.square().sum()), float(cosine))


def grid(side: int) -> Tensor:
    """(side^2, 2) float64: the centers of the cells of the window, row by row."""
    centers = ((torch.arange(side, dtype=torch.float64, device="cpu") + 0.5) / side * 2 - 1) * WINDOW
    return torch.cartesian_prod(centers, centers).flip(1)


def study(seed: int = 0, progress: bool = True, steps: int = 1500) -> Finding:
    """steps: of training, on 256 fresh rows of 20,000 draws of the spiral."""
    data = spiral()
    x = data.sample(20_000, seed=seed)
    with seeded(seed):
        net = gf.nn.MLP(2, width=64, depth=2)
    model = gf.Diffusion(
        net, "edm", gf.denoisers.EDM(sigma_data=float(x.std())), times=gf.diffusion.LogNormal(-1.2, 1.4)
    )
    gf.fit(model, x, steps=steps, batch=256, lr=0.01, seed=seed, progress=progress)
    exact = data.denoiser(model.schedule)

    def at(sigma: float) -> Level:
        t = sigma / model.schedule.sigma_max

        def error(points: Tensor) -> Errors:
            return errors(lambda p: model.score(p.float(), t), lambda p: exact.score(p, t), points, sigma)

        drawn, cells = noised(data, model.schedule, t, DRAWS, seed + 1), grid(CELLS)
        density = exact.log_prob(drawn, t)
        on_data, everywhere = error(drawn), error(cells)
        dense, sparse = density >= density.quantile(0.5), density < density.quantile(0.05)
        no_data = exact.log_prob(cells, t) < density.quantile(EMPTY)
        means = (float(on_data.squared[part].mean()) for part in (dense, sparse))
        off_data = float(everywhere.squared[no_data].mean())
        return Level(sigma, t, drawn, on_data, *means, off_data, no_data, everywhere.squared)

    levels = [at(sigma) for sigma in LEVELS]
    rows = [
        (one.sigma, float(one.on_data.squared.mean()), one.on_data.relative, one.on_data.cosine, one.dense, one.sparse,
         one.off_data, float(one.no_data.double().mean()))
        for one in levels
    ]  # fmt: skip
    ratios = [row[6] / row[1] for row in rows]
    relative = ", ".join(f"{row[2]:.2%}" for row in rows)
    claims = [
        Claim(
            f"Where noised data lie, the learned score is the exact one up to {relative} of its mean square at sigma = "
            f"{_listed(LEVELS)}: at most {CLOSE:.0%}.",
            max(row[2] for row in rows) <= CLOSE,
        ),
        Claim(
            f"Where there are none (p_t below that of 99.9 % of its draws) the squared error is "
            f"{_listed([f'{ratio:,.0f}' for ratio in ratios])} times as large: at least {FAR:g} times.",
            min(ratios) >= FAR,
        ),
        Claim(
            f"Noise fills the plane: from sigma = {LEVELS[0]} to {LEVELS[-1]:g} the empty share of the window falls "
            f"from {rows[0][7]:.0%} to {rows[-1][7]:.0%}, and sigma^2 |error|^2 there from {rows[0][6]:.3g} to "
            f"{rows[-1][6]:.3g}.",
            rows[0][7] > rows[1][7] > rows[2][7] and rows[0][6] > rows[1][6] > rows[2][6],
        ),
    ]  # fmt: skip
    return Finding(
        "score-field",
        "Where is the learned score right?",
        ("sigma", "sigma^2 |error|^2", "relative", "cosine", "denser half", "sparsest 5 %", "no data", "empty share"),
        rows,
        claims,
        lambda figure: _draw(figure, levels, model, exact),
        {"seed": seed, "steps": steps, "batch": 256, "lr": 0.01, "window": WINDOW, "draws": DRAWS},
        (10.5, 7.0),
    )  # fmt: skip


def _listed(values) -> str:
    *first, last = (f"{value}" for value in values)
    return f"{', '.join(first)} and {last}"


def _draw(figure, levels: list[Level], model: gf.Diffusion, exact: gf.denoisers.Denoiser) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.lines import Line2D

    axes = figure.subplots(2, len(levels), sharex=True, sharey=True)
    places, norm = grid(ARROWS), LogNorm(1e-2, 3e1)
    for one, top, bottom in zip(levels, *axes, strict=True):
        top.plot(*one.drawn[:1500].T, ",", color="0.6")
        for score, color, width in (
            (exact.score(places, one.t), "black", 0.008), (model.score(places.float(), one.t), "#e69f00", 0.004),
        ):  # fmt: skip
            v = one.sigma * score.double()
            v = v * (v.norm(dim=1, keepdim=True).log1p() / v.norm(dim=1, keepdim=True))
            top.quiver(*places.T, *v.T, color=color, width=width, angles="xy", scale_units="xy", scale=5)
        top.set(xlim=(-WINDOW, WINDOW), ylim=(-WINDOW, WINDOW), title=f"sigma = {one.sigma:g}", aspect="equal")
        image = bottom.imshow(
            one.squared.sqrt().view(CELLS, CELLS), origin="lower", extent=[-WINDOW, WINDOW] * 2, norm=norm,
            cmap="viridis",
        )  # fmt: skip
        cells = grid(CELLS).view(CELLS, CELLS, 2)
        bottom.contour(
            cells[..., 0], cells[..., 1], one.no_data.view(CELLS, CELLS).double(), [0.5], colors="white",
        )  # fmt: skip
        bottom.set(xlabel="x", aspect="equal")
    for first in axes[:, 0]:
        first.set_ylabel("y")
    lines = [Line2D([], [], color=color) for color in ("black", "#e69f00")]
    lengths = {"title": "length log(1 + sigma |score|)", "title_fontsize": 7, "fontsize": 8, "framealpha": 1}
    axes[0, 0].legend(lines, ["exact", "learned"], loc="upper left", **lengths)
    axes[1, 0].legend([Line2D([], [], color="white")], ["99.9 % of p_t"], fontsize=8, facecolor="0.3", labelcolor="w")
    figure.colorbar(image, ax=axes, label="sigma |learned - exact|", shrink=0.5)
