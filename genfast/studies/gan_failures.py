"""How does a GAN fail, and which number sees it? Three generators of a ring of 8 Gaussians.

A GAN has no likelihood, and its loss does not say how good it is. Two of its failures are of opposite kinds: a
collapsed generator draws good samples of a few modes, a blurred one draws junk between them. Precision, the share of
samples that lie among the data, sees the second; recall, the share of the data that lie among the samples, the first
(Sajjadi et al. 2018, arXiv:1806.00035). Density and coverage (Naeem et al. 2020, arXiv:2002.09797) are of the same
kinds. All three are trained here, in as many steps:

    good        relativistic pairs with R1 and R2, the defaults
    collapsed   the same networks with the non-saturating loss and no penalty (Goodfellow et al. 2014, arXiv:1406.2661),
                in smaller batches and larger steps; at the pace of the others it collapses too, but sometimes to
                nothing that is like the data
    junk        the defaults with a generator of 16 smooth units: too small to leap from mode to mode, it draws bridges

The discriminator has Fourier features, without which it does not tell a mode from its neighborhood in so few steps.
"""

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import genfast as gf

from .finding import Claim, Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RING = torch.tensor([(math.cos(i * math.pi / 4), math.sin(i * math.pi / 4)) for i in range(8)], device="cpu")
SD = 0.05
PLAIN = {"loss": "non_saturating", "r1": 0.0, "r2": 0.0}
PACE = {"batch": 512, "lr": 7e-3}
GENERATORS = {  # arguments of the network, of the GAN and of its training
    "good": ({}, {}, PACE),
    "collapsed": ({}, PLAIN, {"batch": 256, "lr": 1e-2}),
    "junk": ({"width": 16, "depth": 1, "act": "silu"}, {}, PACE),
}
# Of 2000, 250 a mode: balls of about the size of a mode. With 5, recall also falls where a mode is filled thinly, as
# GANs fill it, and tells a collapse less well from a good generator.
NEIGHBORS = 20
NUMBERS = ("precision", "recall", "density", "coverage")
COLORS = ("#0072b2", "#d55e00", "#009e73")


def points(centers: Tensor, n: int, sd: float = SD, seed: int = 0) -> Tensor:
    """(n, 2): Gaussians about centers (K, 2), each as likely."""
    key = gf.ops.make_key(seed, range(n))
    mode = (len(centers) * gf.ops.uniform(key, (), gf.ops.Purpose.TIME)).long()
    return centers[mode] + sd * gf.ops.normal(key, (2,), gf.ops.Purpose.PRIOR)


def gan(seed: int, generator: dict | None = None, fourier: int = 32, **settings) -> gf.GAN:
    """A GAN of points, 64 wide. generator: arguments of its network.  fourier: features of the discriminator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = (
            gf.nn.FeedForward(2, 2, **{"width": 64, "depth": 3, "act": "relu"} | (generator or {})),
            gf.nn.FeedForward(2, 1, width=64, depth=2, fourier=fourier),
        )
    return gf.GAN(*networks, latent=2, **settings)


def near(x: Tensor, centers: Tensor, sd: float = SD) -> tuple[Tensor, float]:
    """Samples of each mode over its due, (K,), and the share of samples, within 3 sd of a center. x: (N, 2)."""
    distance, mode = torch.cdist(x, centers).min(1)
    close = distance < 3 * sd
    counts = torch.bincount(mode[close], minlength=len(centers))
    return counts * len(centers) / len(x), close.double().mean().item()


def seen(x: Tensor, real: Tensor) -> dict[str, float]:
    """The four `NUMBERS` of samples x (N, 2) against the data (M, 2)."""
    return {name: found.value for name, found in gf.metrics.precision_recall(x, real, k=NEIGHBORS).items()}


def trained(name: str, data: Tensor, seed: int, steps: int, progress: bool) -> tuple[gf.GAN, list[str]]:
    """One of the `GENERATORS`, and what the monitor said of it."""
    generator, settings, pace = GENERATORS[name]
    model, every = gan(seed, generator, **settings), max(1, steps // 40)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gf.fit(model, data, steps=steps, seed=seed, log_every=every, progress=progress, **pace)
    said = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    return model, [words.split("): ")[-1].split(".")[0] for words in said]


def study(seed: int = 0, progress: bool = True, steps: int = 1200, samples: int = 2000) -> Finding:
    """Precision, recall, density and coverage of each generator, and of fresh data, against `samples` of the data."""
    data = points(RING, 20_000, seed=seed)
    real, clouds, said = data[:samples], {}, {"data": []}
    for name in GENERATORS:
        model, said[name] = trained(name, data, seed, steps, progress)
        clouds[name] = model.sample(samples, seed=seed)
    sets = clouds | {"data": data[-samples:]}
    numbers = {name: seen(x, real) for name, x in sets.items()}
    rows, modes = [], {}
    for name, x in sets.items():
        due, share = near(x, RING)
        modes[name] = int((due >= 0.2).sum())
        rows.append((name, modes[name], share, *numbers[name].values(), "; ".join(said[name]) or "-"))

    good, collapsed, junk, fresh = (numbers[name] for name in sets)
    claims = [
        Claim(
            f"The collapsed generator has {modes['collapsed']} of 8 modes. Precision, {collapsed['precision']:.2f}, "
            f"does not tell it from the good one's, {good['precision']:.2f}; recall does, {collapsed['recall']:.2f} "
            f"against {good['recall']:.2f}, and coverage, {collapsed['coverage']:.2f} against "
            f"{good['coverage']:.2f}.",
            collapsed["precision"] > good["precision"] - 0.1
            and collapsed["recall"] < good["recall"] - 0.1
            and collapsed["coverage"] < 0.7 * good["coverage"],
        ),
        Claim(
            f"Of the junk the reverse is true: recall {junk['recall']:.2f}, but precision {junk['precision']:.2f}, and "
            f"density lower still, {junk['density']:.2f} against {good['density']:.2f}.",
            junk["recall"] > 0.7
            and junk["precision"] < 0.7 * good["precision"]
            and junk["density"] / good["density"] < junk["precision"] / good["precision"],
        ),
        Claim(
            f"The good generator has all modes, and the monitor of the training warned of the collapsed one, not of "
            f"this one. Fresh data have precision {fresh['precision']:.2f} and recall {fresh['recall']:.2f}.",
            modes["good"] == 8
            and not said["good"]
            and any("has collapsed" in words or "dropped modes" in words for words in said["collapsed"]),
        ),
    ]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
        for ax, color, (name, x) in zip(axes[:3], COLORS, clouds.items()):
            ax.scatter(*real[:1000].T, s=2, color="0.75", label="data")
            ax.scatter(*x[:1000].T, s=2, color=color, label="samples")
            ax.set(title=name, xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal", xlabel="x_1", ylabel="x_2")
            ax.legend(loc="center", fontsize=7, markerscale=3)
        bars = axes[-1]
        for place, (color, name) in enumerate(zip(COLORS, clouds)):
            heights = [numbers[name][number] for number in NUMBERS]
            bars.bar([i + 0.27 * (place - 1) for i in range(4)], heights, 0.25, color=color, label=name)
        for i, number in enumerate(NUMBERS):
            bars.hlines(fresh[number], i - 0.42, i + 0.42, color="black", lw=1, label=None if i else "fresh data")
        bars.set(xticks=range(4), ylabel="value (k = 20)", ylim=(0, 1.75))
        bars.set_xticklabels(NUMBERS, rotation=25)
        bars.legend(fontsize=7)

    columns = ("samples", "modes", "within 3 sd", *NUMBERS, "the monitor says")
    settings = {"seed": seed, "steps": steps, "samples": samples}
    title = "Which numbers see that a GAN has collapsed, or draws junk?"
    return Finding("gan-failures", title, columns, rows, claims, draw, settings, size=(12.0, 3.6))
