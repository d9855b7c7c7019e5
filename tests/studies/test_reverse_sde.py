"""The study of the reverse SDE: the length of its paths is that of Brownian motion, the marginals those of p_t."""

import math

import pytest
import torch

from genfast.diffusion.process.schedules import VPLinear
from genfast.studies import reverse_sde
from genfast.studies.planes import spiral
from genfast.studies.reverse_sde import SOLVERS, follow


def test_the_length_of_an_sde_path():
    """Each step is g sqrt(dt) z and a little drift: E|z| = sqrt(pi / 2) in the plane."""
    schedule, steps = VPLinear(), 200
    run = follow(spiral().denoiser(schedule), SOLVERS["reverse SDE"], steps, 500, seed=0)
    t, dt = run.times[:-1], -run.times.diff()
    assert run.length == pytest.approx(float((schedule.g2(t) * dt).sqrt().sum()) * math.sqrt(math.pi / 2), rel=0.02)
    assert run.x.shape == (steps + 1, 500, 2) and run.times[0] == 1 and run.times[-1] == 0


def test_one_gaussian_is_scaled_by_the_ode():
    """The flow of N(m, s^2 I) keeps (x - alpha m) / sqrt(alpha^2 s^2 + sigma^2), which at t = 0 is (x - m) / s."""
    data, schedule = spiral(components=1, std=0.5), VPLinear()
    run = follow(data.denoiser(schedule), SOLVERS["flow ODE"], 500, 50, seed=0)
    alpha, sigma = float(schedule.alpha(1.0)), float(schedule.sigma(1.0))
    std = math.sqrt(alpha**2 * 0.5**2 + sigma**2)
    exact = data.means + 0.5 * (run.x[0] - alpha * data.means) / std
    torch.testing.assert_close(run.x[-1].double(), exact, rtol=0, atol=0.02)
    t, frame = run.frame(0.0)
    assert t == 0 and torch.equal(frame, run.x[-1])


def test_both_follow_the_marginals():
    finding = reverse_sde.study(progress=False, samples=1000, steps=200)
    assert len(finding.rows) == 7 and finding.claims[0].holds
    draws = spiral().sample(20_000, seed=5)
    assert finding.rows[-1][1] == pytest.approx(float(draws.var(0).mean() ** 0.5), rel=0.02)
    for _, law, *stds, _, _, _ in finding.rows:
        assert stds == pytest.approx([law] * 2, rel=0.08)
    assert finding.claims[2].holds and finding.claims[3].holds
    too_coarse = reverse_sde.study(progress=False, samples=1000, steps=8)
    assert not too_coarse.claims[0].holds
