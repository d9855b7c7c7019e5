"""Time grids: their ends, their spacing, and bad requests."""

import pytest
import torch

from genfast.diffusion.process import schedules
from genfast.diffusion.process.grids import GRIDS
from genfast.diffusion.process.schedules import SCHEDULES

ALL = pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=list(SCHEDULES))


@ALL
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 17, 1000])
def test_grids_decrease_from_one_to_zero(schedule, grid, steps):
    times = GRIDS[grid](schedule, steps)
    assert times.dtype == torch.float64 and times.shape == (steps + 1,)
    assert times[0] == 1 and times[-1] == 0 and (times.diff() < 0).all()
    if grid != "ddpm" and steps > 1:
        assert times[-2] == schedule.t_min


def test_grids_are_spaced_as_they_say():
    vp, edm = schedules.VPLinear(), schedules.EDM(rho=5.0)
    assert torch.allclose(GRIDS["uniform"](vp, 20)[:-1].diff(), torch.tensor(-0.999 / 19, dtype=torch.float64))
    steps = vp.log_snr(GRIDS["log_snr"](vp, 20)[:-1]).diff()
    assert torch.allclose(steps, steps[0].expand(19))
    for rho in (5.0, 7.0):  # the schedule's own rho is the default
        times = GRIDS["karras"](edm, 20) if rho == 5 else GRIDS["karras"](edm, 20, rho=rho)
        steps = (edm.sigma(times[:-1]) ** (1 / rho)).diff()
        assert torch.allclose(steps, steps[0].expand(19))
    assert torch.equal(GRIDS["ddpm"](vp, 4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))
    assert torch.equal(GRIDS["ddpm"](vp, 1000)[:-1], torch.arange(1000, 0, -1, dtype=torch.float64) / 1000)
    # Flow: log-SNR -inf at the start; the spacing is that from t_max on, and every other time is interior.
    steps = schedules.Flow().log_snr(GRIDS["log_snr"](schedules.Flow(), 20)[1:-1]).diff()
    assert torch.allclose(steps, steps[0].expand(18))


@pytest.mark.parametrize("grid", GRIDS)
def test_bad_step_counts_are_refused(grid):
    for steps in (0, -3, 2.5, "10", True, None, 10**9):
        with pytest.raises(ValueError, match=f"^steps.* must be an integer from 1 to 10*; got {steps!r}$"):
            GRIDS[grid](schedules.Flow(), steps)


def test_bad_grids_are_refused():
    with pytest.raises(ValueError, match="rho must be a finite number above 0; got 0"):
        GRIDS["karras"](schedules.EDM(), 10, rho=0)
    with pytest.raises(ValueError, match="steps of the ddpm grid must be an integer from 1 to 1000; got 1001"):
        GRIDS["ddpm"](schedules.VPLinear(), 1001)
