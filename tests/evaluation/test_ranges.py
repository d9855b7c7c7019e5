"""A warning where samples and data cannot be on one scale, and none where they are."""

import numpy as np
import pytest
import torch
from toys import Gaussian, normal

import genfast as gf
from genfast.evaluation.ranges import Seen

REAL = normal(300, 4, seed=3).clamp(-1, 1)


def warned(x, data=REAL):
    seen = Seen(data)
    for part in x.split(64):
        seen.add(part)
    return bool(seen.warnings())


@pytest.mark.parametrize(
    "x, expected",
    [
        (REAL.flip(0), False),
        (1.15 * REAL, False),  # within a tenth of the range
        ((REAL + 1) / 2, True),  # never negative
        (127.5 * (REAL + 1), True),
        (REAL + 3, True),
        (torch.cat([REAL, torch.full((1, 4), 9.0)]), False),  # less than a hundredth
        (torch.cat([REAL, torch.full((4, 4), 9.0)]), True),
        (0.1 * REAL, True),  # the data lie outside of the samples' range
        (0.85 * REAL, False),
    ],
)
def test_ranges_are_compared_both_ways(x, expected):
    assert warned(x) is expected and warned(REAL, x) is expected


def test_nothing_drawn_is_nothing_said():
    assert Seen(REAL).warnings() == ()


class Scaled(Gaussian):
    """Samples of [0, 1], or as 8-bit numbers."""

    def __init__(self, answer):
        super().__init__(4)
        self.answer = answer

    def sample(self, n, seed=0):
        return self.answer((super().sample(n, seed).clamp(-1, 1) + 1) / 2)


def unit(x):
    return x


def evaluate(model, **options):
    return gf.evaluate(model, REAL, metrics="precision_recall", progress=False, **options)


@pytest.mark.parametrize("model", [Scaled(unit), Scaled(unit).sample(200)], ids=["drawn", "given"])
def test_the_warning_is_told_wherever_the_report_is(model):
    report = evaluate(model)
    sentence = "the samples lie from 0 to 1, the data from -1 to 1: are they on one scale?"
    assert sentence in report.warnings and f"note: {sentence}" in str(report)
    assert f"note: {sentence}" in str(gf.diagnose(report))
    comparison = gf.compare([("unit", report), ("real", evaluate(REAL.flip(0) * 0.99, n=report.n))])
    assert f"note: unit: {sentence}" in str(comparison) and "note: real" not in str(comparison)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
def test_samples_that_are_no_floats_are_refused(kind):
    with pytest.raises(TypeError, match=r"model must draw floating-point samples, .*127.5 - 1; got torch.*Scaled"):
        evaluate(Scaled(lambda x: (255 * x).to(kind)))
    with pytest.raises(TypeError, match=r"model: x must hold floating-point samples; got .*127.5 - 1"):
        evaluate((255 * Scaled(unit).sample(20)).to(kind))
    with pytest.raises(TypeError, match="floating-point samples"):
        evaluate(Scaled(lambda x: (255 * x).numpy().astype(np.uint8)))
