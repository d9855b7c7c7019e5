"""What the loop does beside plain rows: Langevin rows, guidance's ways, replacement, thresholds, prepared networks."""

import functools
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from helpers import MEANS, VARIANCES, WEIGHTS, lesser, perturbed, row_wise

from genfast import nn, ops
from genfast.diffusion import sampling
from genfast.diffusion.guidance.classifier_free import Guidance
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser, as_parameterization
from genfast.diffusion.process.plans import Rows, x
from genfast.diffusion.sampling.step_table import step_table
from genfast.diffusion.solvers import plan
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

VP, EDM = schedules.VPLinear(), schedules.EDM()
LABEL, NULL = torch.tensor([0, 1, 2, 2, 1, 0, 1]), torch.full((7,), 3)
sample = functools.partial(sampling.sample, progress=False)


DENOISER = Denoiser(row_wise, VP, "v")
SDE = plan("dpmpp_2m_sde", VP, 6)
GUIDED = {"condition": {"label": LABEL}, "unconditional": {"label": NULL}}


def langevin_plan():
    rows = Rows(VP, [1.0, 0.7, 0.4, 0.1])
    for t, s in rows:
        rows.langevin(t, 0.16)
        rows.add(t, s.alpha / t.alpha * x)
    return rows.plan("corrected", order=0)


# Every way of sampling: each must give sample i whatever else is in the batch.
WAYS = {
    "plain": {},
    "brownian": {"noise": "brownian"},
    "guided": {"guidance": 2.0},
    "per sample": {"guidance": torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0, -1.0, 7.5])},
    "interval": {"guidance": Guidance(3.0, interval=(0.2, 0.6))},
    "rescaled": {"guidance": Guidance(3.0, rescale=0.7)},
    "autoguided": {"guidance": Guidance(2.0, network=lesser)},
    "threshold": {"threshold": 0.9},
    "threshold and guidance": {"threshold": 0.9, "guidance": Guidance(2.0, rescale=0.3)},
    "clamp": {"clamp": (-0.5, 0.5)},
    "inpainting": {"known": torch.linspace(-1, 1, 14).view(7, 2), "mask": torch.tensor([1.0, 0.0])},
    "start": {"start": torch.linspace(-1, 1, 14).view(7, 2)},
    "langevin": {"plan": langevin_plan()},
    "langevin, guided": {"plan": langevin_plan(), "guidance": 2.0},
    "langevin, threshold": {"plan": langevin_plan(), "threshold": 0.9},
}


def of(way, index, **more):
    """The samples `index` of those of a way, each with its own row of everything."""
    settings = {"shape": (2,), "plan": SDE, "seed": 4, "condition": {"label": LABEL}} | WAYS[way]
    guidance = settings.get("guidance")
    if guidance is not None and getattr(guidance, "network", None) is None:
        settings["unconditional"] = {"label": NULL}
    rows = torch.as_tensor(list(index))

    def pick(value):
        return value[rows] if isinstance(value, torch.Tensor) and value.shape[:1] == (7,) else value

    settings = {name: pick(value) for name, value in settings.items()}
    for name in ("condition", "unconditional"):
        if name in settings:
            settings[name] = {key: pick(value) for key, value in settings[name].items()}
    return sample(DENOISER, index=rows, **settings, **more)


@pytest.mark.parametrize("way", WAYS)
def test_a_sample_does_not_depend_on_the_others(way):
    whole = of(way, range(7), chunk=8)
    assert len(whole.unique(dim=0)) == 7
    for chunk in (1, 3, 64):
        assert torch.equal(of(way, range(7), chunk=chunk), whole)
    for index in ([6], [3, 4], [5, 0, 2], range(6, -1, -1)):
        assert torch.equal(of(way, index, chunk=8), whole[list(index)])


@pytest.mark.parametrize("way", WAYS)
def test_the_float32_kernels_do_what_plain_float64_does(way):
    narrow, wide = of(way, range(7)), of(way, range(7), dtype=torch.float64)
    assert (narrow - wide).abs().max() < 2e-4 * wide.abs().max()


# Thresholds, replacement, given starts --------------------------------------------------------------------------------


def test_dynamic_thresholds_bound_every_estimate():
    seen = []
    sample(
        Denoiser(lambda y, t: 3 * y, VP, "x0"), (20,), SDE, 3, threshold=0.9, callback=lambda s: seen.append(s.denoised)
    )
    assert all(D.abs().max() <= 1 for D in seen) and any(D.abs().max() == 1 for D in seen)


def test_known_parts_are_kept_and_the_rest_follows_them():
    """Two modes at (1, 1) and (-1, -1): knowing the first coordinate decides the second."""
    denoiser = GaussianMixtureDenoiser([0.5, 0.5], [[1.0, 1.0], [-1.0, -1.0]], [0.01, 0.01], VP)
    known = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(32, 1)
    out = sample(denoiser, (2,), plan("ddpm", VP, 100), 64, known=known, mask=torch.tensor([1.0, 0.0]))
    assert torch.equal(out[:, 0], known[:, 0])
    assert (out[:, 1].sign() == known[:, 0]).float().mean() > 0.9
    free = sample(denoiser, (2,), plan("ddpm", VP, 100), 64)
    assert 0.3 < (free[:, 1].sign() == known[:, 0]).float().mean() < 0.7


def test_a_given_start_is_where_the_path_begins():
    key = ops.make_key(0, 5)
    start = EDM.prior_std * ops.normal(key, (2,), ops.Purpose.PRIOR)
    one = plan("heun", EDM, 5)
    denoiser = GaussianMixtureDenoiser(WEIGHTS, MEANS, VARIANCES, EDM)
    assert torch.equal(sample(denoiser, (2,), one, 5, start=start), sample(denoiser, (2,), one, 5))


# Langevin -------------------------------------------------------------------------------------------------------------


def test_langevin_rows_by_hand():
    """x + eps g + sqrt(2 eps) z with eps = 2 (snr |z| / |g|)^2, per sample."""
    one, denoiser = langevin_plan(), GaussianMixtureDenoiser(WEIGHTS, MEANS, VARIANCES, VP)
    key = ops.make_key(2, 4)
    at = ops.normal(key, (2,), ops.Purpose.PRIOR, dtype=torch.float64)
    for r in range(len(one)):
        if one.snr[r]:
            z = ops.normal(key, (2,), ops.Purpose.CORRECTOR, r, dtype=torch.float64)
            g = denoiser.score(at, float(one.t[r]))
            eps = 2 * (one.snr[r] * z.norm(dim=1, keepdim=True) / g.norm(dim=1, keepdim=True)) ** 2
            at = at + eps * g + (2 * eps).sqrt() * z
        else:
            at = one.a[r] * at
    assert (sample(denoiser, (2,), one, 4, seed=2, dtype=torch.float64) - at).abs().max() < 1e-9


def test_tables_are_remembered_only_of_what_cannot_change():
    """A schedule that its owner may change is asked again."""
    assert step_table(SDE, DENOISER).codes is step_table(SDE, DENOISER).codes

    class Changing(schedules.VariancePreserving):
        rate = 5.0

        def log_alpha(self, t):
            return -self.rate * t**2

        def d_log_alpha(self, t):
            return -2 * self.rate * t

    schedule = Changing()
    before = schedule.rate
    coefficients = step_table(plan("ddim", schedule, 3), Denoiser(row_wise, schedule, "eps")).coefficients
    schedule.rate = 3.0
    changed = step_table(plan("ddim", schedule, 3), Denoiser(row_wise, schedule, "eps")).coefficients
    assert before == 5.0 and not torch.equal(changed, coefficients)

    class Scaled(type(as_parameterization("v"))):
        """More state than its parent compares."""

        def __init__(self, factor):
            super().__init__()
            object.__setattr__(self, "factor", factor)

        def coefficients(self, schedule, t):
            c = super().coefficients(schedule, t)
            return c._replace(c_out=self.factor * c.c_out)

    one, two = (step_table(SDE, Denoiser(row_wise, VP, Scaled(factor))).coefficients for factor in (1.0, 2.0))
    assert torch.equal(2 * one[:, 1], two[:, 1])


def test_a_plan_of_another_schedule_is_refused():
    with pytest.raises(ValueError, match="plan dpmpp_2m_sde must be of the denoiser's schedule, EDM"):
        sample(Denoiser(row_wise, EDM, "x0"), (2,), SDE, 3)


def test_clamps_hold_in_langevin_rows():
    """A network that answers 5 is one that answers 1."""
    high, one = (Denoiser(lambda y, t, v=v: torch.full_like(y, v), VP, "x0") for v in (5.0, 1.0))
    expected = sample(one, (2,), langevin_plan(), 4)
    assert torch.equal(sample(high, (2,), langevin_plan(), 4, clamp=(-1.0, 1.0)), sample(
        one, (2,), langevin_plan(), 4, clamp=(-1.0, 1.0)))  # fmt: skip
    assert torch.allclose(sample(high, (2,), langevin_plan(), 4, clamp=(-1.0, 1.0)), expected, atol=1e-5)


@pytest.mark.parametrize("when", [0, 2])
def test_a_network_that_works_in_place_on_its_input(when):
    """At its first call it is seen and given copies from then on; later on it is refused."""
    calls = []

    def in_place(y, t):
        calls.append(1)
        out = row_wise(y, t)
        if len(calls) > when:
            y.zero_()
        return out

    denoiser = Denoiser(in_place, VP, "eps")  # whose input is the state itself: c_in = 1
    if when:
        with pytest.raises(ValueError, match="the network must leave its input as it is; it changed it in place"):
            sample(denoiser, (2,), SDE, 3)
    else:
        assert torch.equal(sample(denoiser, (2,), SDE, 3), sample(Denoiser(row_wise, VP, "eps"), (2,), SDE, 3))


# Prepared networks, processes -----------------------------------------------------------------------------------------


def test_a_prepared_network_answers_as_a_plain_one():
    """And computes what depends on time and label once for the plan, not at every step of every chunk."""
    net, count = perturbed(nn.UNet(channels=1, width=8, multipliers=(1, 1), classes=3)), []
    net.condition.register_forward_hook(lambda *_: count.append(1))

    def plain(y, t, label):
        return net(y, t, label)

    settings = {"shape": (1, 4, 4), "plan": plan("dpmpp_2m", VP, 5), "index": 7, "chunk": 2, "guidance": 2.0, **GUIDED}
    fast = sample(Denoiser(net, VP, "v"), **settings)
    assert len(count) == 4  # one table a label, the null label included
    slow = sample(Denoiser(plain, VP, "v"), **settings)
    assert len(count) == 4 + 4 * 5
    assert torch.allclose(fast, slow, rtol=0, atol=1e-4 * slow.abs().max().item())


def test_without_a_gpu_graphs_are_ignored_and_said_to_be():
    with pytest.warns(UserWarning, match=r"graph=True is ignored: there are no CUDA graphs on cpu"):
        graphed = sample(DENOISER, (2,), SDE, 3, graph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(sample(DENOISER, (2,), SDE, 3), graphed)


@pytest.mark.parametrize("n", [0, 1, 64, 65, 1000])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_shares_are_whole_chunks_of_all_samples(n, ranks):
    shares = [sampling.share(n, 64, rank, ranks) for rank in range(ranks)]
    assert torch.cat(shares).tolist() == list(range(n))
    assert all(int(one[0]) % 64 == 0 for one in shares if len(one))


def test_a_bad_rank_is_refused():
    with pytest.raises(ValueError, match="rank must be an integer from 0 to 1; got 2"):
        sampling.share(10, rank=2, ranks=2)


_WORKER = """
import sys, torch, genfast as gf
from genfast.diffusion.sampling import sample, share
torch.manual_seed(0)
torch.set_num_threads(1)
net = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.Tanh(), torch.nn.Linear(32, 6))
denoiser = gf.denoisers.Denoiser(lambda y, t: net(y), "vp_linear", "v")
index = share(50, chunk=8)
torch.save(sample(denoiser, (6,), gf.solvers.plan("ddpm", "vp_linear", 5), index, chunk=8, progress=False), sys.argv[1])
"""


def test_the_union_over_processes_is_the_single_run(tmp_path):
    """As torchrun starts them: RANK and WORLD_SIZE in the environment."""

    def start(rank, ranks):
        out = tmp_path / f"{rank}of{ranks}.pt"
        environment = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
        return out, subprocess.Popen([sys.executable, "-c", _WORKER, str(out)], env=environment)

    started = [start(0, 2), start(1, 2), start(0, 1)]
    assert [process.wait() for _, process in started] == [0, 0, 0]
    *pieces, whole = (torch.load(out) for out, _ in started)
    assert min(len(piece) for piece in pieces) > 0
    assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"known": torch.zeros(7, 2)}, "known and mask go together"),
        ({"known": torch.zeros(7, 3), "mask": torch.ones(2)}, r"known must have shape \(7, 2\).*got \(7, 3\)"),
        ({"start": torch.full((7, 2), math.nan)}, "start must be finite"),
        ({"known": torch.zeros(2), "mask": torch.tensor([0.0, 255.0])}, r"mask must lie in \[0, 1\]; got .* 0 to 255"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sample(DENOISER, (2,), SDE, 7, **settings)
    one = plan("ddim", VP, 3, grid=lambda schedule, steps: np.array([1.0, 0.6, 0.3]))
    with pytest.raises(ValueError, match="known needs a plan that ends at t = 0; ddim does not"):
        sample(DENOISER, (2,), one, 7, known=torch.zeros(2), mask=torch.ones(2))
