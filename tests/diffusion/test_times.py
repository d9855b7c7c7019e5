import math

import pytest
import torch

import genfast as gf
from genfast import ops
from genfast.diffusion.process.schedules import EDM, Flow
from genfast.diffusion.times import LogNormal, Uniform, require_within, stratified

FIRST = [0, 1, 5, 128 * 77, 2**31 - 3, 2**53 + 1, 2**62, 2**63 - 128]


def points(seed, first=0, count=128):
    return stratified(ops.make_key(seed, torch.arange(count) + first))


@pytest.mark.parametrize("seed", [0, 3, 2**63 - 1])
@pytest.mark.parametrize("first", FIRST)
def test_consecutive_counters_are_spread_evenly(seed, first):
    """The gaps of 128 points on the circle are 0.64, 1.04 or 1.68 of their mean; of independent ones up to 5."""
    u = points(seed, first).sort().values
    gaps = torch.cat([u.diff(), u[:1] + 1 - u[-1:]]) * 128
    assert gaps.min() > 0.64 and gaps.max() < 1.69
    assert len(set((100 * gaps).round().tolist())) <= 3
    assert u[0] >= 0 and u[-1] < 1 and u.dtype == torch.float64


def test_a_point_is_a_function_of_its_own_key():
    index, seeds = torch.tensor([7, 3, 2**40, 0]), [2, 9, 2, 5]
    key = torch.cat([ops.make_key(seed, index[i : i + 1]) for i, seed in enumerate(seeds)])
    found = stratified(key)
    assert found.tolist() == [points(seed, int(index[i]), 1).item() for i, seed in enumerate(seeds)]
    assert torch.equal(stratified(key[[2, 0]]), found[[2, 0]])
    assert stratified(key[:0]).shape == (0,)


def test_the_definition():
    """frac(u_0 + counter / phi), in integers of any size."""
    start = int(ops.uniform(ops.make_key(11, 1), (), ops.Purpose.TIME, dtype=torch.float64).item() * 2**24) << 40
    for counter in FIRST:
        turns = (start + counter * 0x9E3779B97F4A7C15) % 2**64
        assert points(11, counter, 1).item() == (turns >> 11) / 2**53
    golden = (1 + 5**0.5) / 2
    assert pytest.approx(1 / golden) == 0x9E3779B97F4A7C15 / 2**64


def test_seeds_begin_anywhere():
    starts = torch.cat([points(seed, 0, 1) for seed in range(2000)])
    assert len(starts.unique()) > 1990
    assert abs(starts.mean() - 0.5) < 5 / math.sqrt(12 * 2000)


def test_nothing_is_read():
    key = ops.make_key(0, 9)
    with gf.testing.no_host_reads():
        stratified(key)


def test_uniform_times():
    schedule, u = EDM(), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert Uniform()(schedule, u).tolist() == pytest.approx([schedule.t_min, 0.5 + schedule.t_min / 2, 1.0])


@pytest.mark.parametrize(("mean", "std"), [(None, 1.0), (0.5, 0.7), (-1.2, 0.0)])
def test_lognormal_times(mean, std):
    schedule = Flow()
    t = LogNormal(mean, std)(schedule, (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    log_level = -schedule.log_snr(t) / 2
    assert log_level.mean() == pytest.approx(-1.2 if mean is None else mean, abs=1e-6)
    assert log_level.std() == pytest.approx(std, abs=0.01)
    assert LogNormal() == LogNormal(mean=None, std=1.0)


def test_the_ends_of_the_points_are_times():
    t = LogNormal(0.0, 1.0)(EDM(), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))
    assert t.isfinite().all() and EDM().t_min <= t[0] < t[1] <= 1


def test_a_mean_that_the_schedule_does_not_reach():
    require_within(EDM(), math.log(79)), require_within(EDM(), math.log(0.003)), require_within(Flow(), -6.0)
    for mean in (math.log(81), math.log(0.001)):
        with pytest.raises(ValueError, match=r"within the schedule, at sigma / alpha of 0\.002 to 80; got"):
            require_within(EDM(), mean)


def test_bad_arguments():
    with pytest.raises(ValueError, match="mean must be a finite number"):
        LogNormal(math.inf)
    with pytest.raises(ValueError, match="std must be a finite number of at least 0"):
        LogNormal(0.0, -1.0)
