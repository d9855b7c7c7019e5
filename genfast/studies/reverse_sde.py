r"""How does noise turn into data, by the reverse SDE and by the probability-flow ODE?

    reverse SDE   dx = (f x - g^2 grad log p_t) dt + g dw        t from 1 to 0 (Anderson 1982)
    flow ODE      dx = (f x - g^2 / 2 grad log p_t) dt           Song et al. 2021, arXiv:2011.13456

Both have the marginals p_t of the forward process at every t, and nothing else in common: a path of the SDE is as
rough as Brownian motion, whose length over n steps grows like sqrt(n), and forgets where it began; one of the ODE is a
curve, a function of its start. Data: a spiral of Gaussians with its exact score (planes.py), so that what is left is
the error of the steps. At each frame the kernel distance (a squared maximum mean discrepancy) is taken between the
cloud and as many data noised to that t.
"""

from typing import NamedTuple

import torch
from torch import Tensor

import genfast as gf

from .finding import Claim, Finding
from .planes import noised, spiral

FRAMES = (1.0, 0.4, 0.22, 0.15, 0.1, 0.06, 0.0)
WIDTH = 0.3  # of the kernel, exp(-|x - y|^2 / (2 WIDTH^2)): that of what there is to see
SOLVERS = {"reverse SDE": "euler_maruyama", "flow ODE": "euler"}
COARSER = 4  # times fewer steps, to see what a path's length does
PATHS = 4
COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")
ROUGH, CURVE, FORGETS = 0.1, 0.05, 0.1  # tolerances: of the ratios 2 and 1, and of the distance of the ends


class Run(NamedTuple):
    """times: (steps + 1,).  x: (steps + 1, n, 2), where the samples were then."""

    times: Tensor
    x: Tensor

    @property
    def length(self) -> float:
        """Mean over the samples of sum |dx|."""
        return float(self.x.diff(dim=0).norm(dim=2).sum(0).mean())

    def frame(self, t: float) -> tuple[float, Tensor]:
        """The time next to t and the samples at that time, (n, 2)."""
        nearest = int((self.times - t).abs().argmin())
        return float(self.times[nearest]), self.x[nearest]


def follow(denoiser: gf.denoisers.Denoiser, solver: str, steps: int, n: int, seed: int, progress: bool = False) -> Run:
    """n paths of the solver from x_1 ~ N(0, I), the same for every solver, in equal steps of t."""
    plan = gf.solvers.plan(solver, denoiser.schedule, steps, "uniform")
    start = gf.ops.normal(gf.ops.make_key(seed, n), (2,), gf.ops.Purpose.PRIOR)
    states = [start.clone()]
    gf.diffusion.sampling.sample(
        denoiser, (2,), plan, n, seed=seed, start=start, chunk=n, progress=progress,
        callback=lambda state: states.append(state.x.clone()),
    )  # fmt: skip
    return Run(torch.tensor([*plan.t, 0.0], device="cpu"), torch.stack(states))


def study(seed: int = 0, progress: bool = True, samples: int = 4000, steps: int = 500) -> Finding:
    """samples: in the cloud.  steps: of both solvers, to be compared with a quarter of them."""
    data, schedule = spiral(), gf.schedules.VPLinear()
    denoiser = data.denoiser(schedule)
    runs, coarse = (
        {name: follow(denoiser, solver, count, samples, seed, progress) for name, solver in SOLVERS.items()}
        for count in (steps, steps // COARSER)
    )
    sde, ode = runs.values()
    level = 1 - 0.05 / (len(SOLVERS) * len(FRAMES))  # Bonferroni: 95 % for all of them together

    def distance(x: Tensor, y: Tensor) -> gf.metrics.Estimate:
        return gf.metrics.kernel_distance(x, y, kernel="rbf", gamma=0.5 / WIDTH**2, level=level)

    variance = float(data.means.var(0, correction=0).mean() + data.variances.mean())
    times = [sde.frame(t)[0] for t in FRAMES]
    real, other = ([noised(data, schedule, t, samples, seed + k) for t in times] for k in (1, 2))
    found = [[distance(run.frame(t)[1], y) for run in (sde, ode)] for t, y in zip(times, real, strict=True)]
    apart = [distance(earlier, later) for earlier, later in zip(real, other[1:])]
    rows = [
        (t, float((schedule.alpha(t) ** 2 * variance + schedule.sigma(t) ** 2) ** 0.5),
         *(float(run.frame(t)[1].var(0).mean() ** 0.5) for run in (sde, ode)),
         *(_thousandths(one) for one in pair), _thousandths(later) if later else "-")
        for t, pair, later in zip(times, found, [*apart, None], strict=True)
    ]  # fmt: skip

    growth = [run.length / coarse[name].length for name, run in runs.items()]
    ends = float((sde.x[-1] - ode.x[-1]).norm(dim=1).mean())
    unrelated = float((sde.x[-1] - ode.x[-1].roll(1, 0)).norm(dim=1).mean())
    every = [one for pair in found for one in pair]
    worst = max(every, key=lambda one: one.value)
    claims = [
        Claim(
            f"At all {len(times)} times both clouds are the noised data as far as {samples:,} samples tell: every "
            f"kernel distance has 0 in its interval; the largest is {1e3 * worst.value:.2f}e-3.",
            all(one.low <= 0 <= one.high for one in every),
        ),
        Claim(
            f"It does tell one frame from the next: they are at least {1e3 * min(map(float, apart)):.2f}e-3 apart, and "
            f"no interval holds 0.",
            all(one.low > 0 for one in apart),
        ),
        Claim(
            f"Same marginals, other paths: one of the SDE is {sde.length:.1f} long, one of the ODE {ode.length:.2f}, "
            f"and {COARSER} times the steps make it {growth[0]:.2f} (Brownian motion: 2) and {growth[1]:.2f} (a curve: "
            f"1) times as long.",
            abs(growth[0] - 2) < ROUGH and abs(growth[1] - 1) < CURVE,
        ),
        Claim(
            f"The SDE forgets its start: from the same x_1 the two end {ends:.2f} apart, two unrelated samples "
            f"{unrelated:.2f}.",
            abs(ends / unrelated - 1) < FORGETS,
        ),
    ]  # fmt: skip
    return Finding(
        "reverse-sde",
        "How does noise turn into data?",
        ("t", "std, law", "std, SDE", "std, ODE", "SDE to p_t, 1e-3", "ODE to p_t, 1e-3", "p_t to the next, 1e-3"),
        rows,
        claims,
        lambda figure: _draw(figure, runs, times),
        {"seed": seed, "samples": samples, "steps": steps, "level": level, "schedule": "vp_linear"},
        (13.0, 4.2),
    )  # fmt: skip


def _thousandths(one: gf.metrics.Estimate) -> str:
    return f"{1e3 * one.value:.2f} [{1e3 * one.low:.2f}, {1e3 * one.high:.2f}]"


def _draw(figure, runs: dict[str, Run], times: list[float]) -> None:
    axes = figure.subplots(len(runs), len(times) + 1, width_ratios=[1] * len(times) + [1.6], squeeze=False)
    for row, (name, run) in zip(axes, runs.items(), strict=True):
        for one, t in zip(row, times):
            x = run.frame(t)[1]
            one.plot(*x.T, ",", color="0.35")
            for point, color in zip(x[:PATHS], COLORS, strict=True):
                one.plot(*point, "o", color=color, markersize=4)
            one.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal", title=f"t = {t:.2f}")
        row[0].set_ylabel(name)
        for path, color in zip(run.x[:, :PATHS, 0].unbind(1), COLORS, strict=True):
            row[-1].plot(run.times, path, color=color, linewidth=0.8)
        row[-1].set(xlim=(1, 0), ylim=(-3, 3), xlabel="t", ylabel="first coordinate", title="four paths")
