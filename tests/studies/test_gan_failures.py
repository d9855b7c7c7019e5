"""The study of a GAN's failures: its numbers on clouds whose answers are known, and that it runs."""

import pytest
import torch

from genfast.studies import gan_failures as study


def test_points_and_near():
    x = study.points(study.RING, 20_000)
    due, share = study.near(x, study.RING)
    assert due.tolist() == pytest.approx([0.989] * 8, abs=0.1)
    assert share == pytest.approx(1 - torch.tensor(-4.5).exp().item(), abs=0.004)  # of a Gaussian of the plane
    halved = study.near(torch.cat([x[:1000], x[:1000] + 10]), study.RING)
    assert halved[1] == pytest.approx(0.5, abs=0.02)


def test_the_numbers_of_known_clouds():
    real = study.points(study.RING, 2000)
    three, all_modes = study.points(study.RING[:3], 2000, seed=1), study.points(study.RING, 2000, seed=1)
    junk = torch.cat([all_modes[:1000], all_modes[1000:] / 2])  # half of the samples lie within the ring
    collapse, blurred = study.seen(three, real), study.seen(junk, real)
    assert collapse["precision"] > 0.95 and collapse["recall"] == pytest.approx(3 / 8, abs=0.05)
    assert blurred["recall"] > 0.95 and blurred["precision"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_runs():
    found = study.study(steps=200, samples=500, progress=False)
    rows = {row[0]: dict(zip(found.columns, row)) for row in found.rows}
    assert list(rows) == ["good", "collapsed", "junk", "data"]
    assert rows["data"]["within 3 sd"] == pytest.approx(0.989, abs=0.02)
    assert rows["collapsed"]["modes"] < 8 and rows["junk"]["within 3 sd"] < 0.6
    assert found.picture().startswith(b"\x89PNG")
