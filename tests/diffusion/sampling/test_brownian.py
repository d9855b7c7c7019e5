"""One path for each seed: exact increments, exact refinement, and samples that converge with the number of steps."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import five_modes

from genfast import ops
from genfast.diffusion.process import schedules
from genfast.diffusion.process.grids import GRIDS
from genfast.diffusion.sampling.brownian import CELL, LEVELS, aligned, brownian_terms
from genfast.diffusion.sampling.sample import sample
from genfast.diffusion.solvers import SOLVERS, plan

VP = schedules.VPLinear()


def on(times, schedule=VP, solver="dpmpp_2m_sde"):
    return SOLVERS[solver](schedule, times)


def covariance(first, second):
    """Of two increments, as their terms say it."""
    second = dict(second)
    return sum(weight * second.get(stream, 0.0) for stream, weight in first)


@pytest.mark.parametrize("schedule", ["vp_linear", "vp_cosine", "edm", "ve", "flow", "sub_vp"])
@pytest.mark.parametrize("is_aligned", [False, True])
@pytest.mark.parametrize("steps", [2, 7, 50, 300])
def test_increments_are_independent_standard_normals(schedule, is_aligned, steps):
    times = GRIDS["log_snr"](schedule, steps)
    terms = brownian_terms(on(aligned(schedule, times) if is_aligned else times, schedule))[:-1]
    for i, row in enumerate(terms):
        assert covariance(row, row) == pytest.approx(1, abs=1e-10)
        for other in terms[i + 1 :]:
            assert abs(covariance(row, other)) < 1e-6  # what lies 16 below the first time is left out


def test_refinement_is_exact():
    """The increment over a step is the sum of those over any finer steps of it, in the time (alpha / sigma)^2."""
    fine = GRIDS["log_snr"](VP, 61)
    coarse = torch.cat([fine[:-1:4], fine[-1:]])
    fine, coarse = on(fine), on(coarse)
    pieces, wholes = brownian_terms(fine), brownian_terms(coarse)
    for r in range(len(coarse) - 1):
        total = {}
        for i in range(4 * r, 4 * r + 4):
            share = math.sqrt((fine.span[i, 1] - fine.span[i, 0]) / (coarse.span[r, 1] - coarse.span[r, 0]))
            for stream, weight in pieces[i]:
                total[stream] = total.get(stream, 0.0) + share * weight
        whole = dict(wholes[r])
        for stream in total.keys() | whole.keys():
            assert total.get(stream, 0.0) == pytest.approx(whole.get(stream, 0.0), abs=1e-6)


def test_aligned_times_take_few_normals():
    plain, moved = GRIDS["log_snr"](VP, 50), aligned(VP, GRIDS["log_snr"](VP, 50))
    count = {name: np.mean([len(row) for row in brownian_terms(on(times))]) for name, times in
             (("plain", plain), ("aligned", moved))}  # fmt: skip
    assert count["aligned"] < 4 < 15 < count["plain"] < 25
    further = aligned(VP, GRIDS["log_snr"](VP, 50), share=0.35)
    assert np.mean([len(row) for row in brownian_terms(on(further))]) < 2
    logs = [VP.log_snr(times[:-1]) / 2 for times in (plain, moved)]
    step = logs[0].diff()
    assert ((logs[0] - logs[1])[1:-1].abs() <= 0.16 * torch.minimum(step[1:], step[:-1])).all()
    assert torch.equal(plain[[0, -2, -1]], moved[[0, -2, -1]])


@pytest.mark.parametrize("solver", ["dpmpp_2m_sde", "euler_maruyama", "ddpm"])
def test_samples_converge_on_one_path(solver):
    """Strong convergence: the samples of one seed settle with the number of steps, which white noise does not do."""

    def draw(steps, noise, times=lambda schedule, grid: grid):
        one = on(times(VP, GRIDS["log_snr"](VP, steps)[:-1]), solver=solver)
        return sample(five_modes(), (2,), one, 128, seed=3, noise=noise, chunk=128, progress=False)

    exact, white = draw(1200, "brownian"), draw(200, "white")
    away = (white - exact).norm(dim=1).median().item()
    for times in ({}, {"times": aligned}):
        errors = [(draw(n, "brownian", **times) - exact).norm(dim=1).median().item() for n in (25, 50, 100, 200)]
        assert all(later < 0.75 * earlier for earlier, later in itertools.pairwise(errors)), errors
        assert errors[-1] < 0.02 < 20 * errors[-1] < away


def test_the_path_is_that_of_the_seed_and_the_index():
    one = plan("dpmpp_2m_sde", VP, 6)
    whole = sample(five_modes(), (2,), one, 9, seed=1, noise="brownian", chunk=4, progress=False)
    part = sample(five_modes(), (2,), one, [8, 2], seed=1, noise="brownian", chunk=4, progress=False)
    assert torch.equal(part, whole[[8, 2]])
    assert not torch.equal(whole, sample(five_modes(), (2,), one, 9, seed=2, noise="brownian", progress=False))


def test_the_kernel_adds_up_the_terms():
    one = plan("dpmpp_2m_sde", VP, 4)
    key, terms = ops.make_key(5, 3), brownian_terms(one)[1]
    assert {ops.split_stream(s)[0] for s, _ in terms} == {ops.Purpose.BROWNIAN}
    z = sum(weight * ops.normal(key, (7,), *ops.split_stream(s), torch.float64) for s, weight in terms)
    none = torch.zeros(1)
    table = ops.StepTable.pack(c_skip=none, c_out=none, a=none, b=none, c_in=none, terms=[terms])
    x = torch.randn(3, 7)
    ops.step(x, torch.zeros(3, 7), key, torch.zeros(3, dtype=torch.int32), table)
    assert (x - z).abs().max() < 2e-6 and z.std() > 0.5


def test_plans_without_such_noise_are_refused():
    with pytest.raises(ValueError, match="noise='brownian' needs noise that belongs to steps in time; that of ddpm"):
        brownian_terms(plan("ddpm", VP, 4, variance="analytic", data_std=1.0))
    leaf = CELL / 2**LEVELS
    near = VP.time(torch.tensor([0.0, 0.1 * leaf, 0.2 * leaf], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"tells steps of 0\.000976562 in log"):
        brownian_terms(on(near))
    with pytest.raises(ValueError, match="noise must be one of white, brownian; got 'pink'"):
        sample(five_modes(), (2,), plan("ddpm", VP, 3), 2, noise="pink")
    assert brownian_terms(plan("ddim", VP, 4)) == [[]] * 4
