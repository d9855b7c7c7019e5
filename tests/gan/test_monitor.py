"""The watch over a GAN: numbers of cases whose answer is known, and when it speaks."""

import json
import warnings

import pytest
import torch
from toys import Ring

from genfast.gan.monitor import Monitor, health

REAL, OTHER = Ring().sample(512), Ring().sample(512, seed=1)
EVEN = torch.tensor([1.0, -1.0]).repeat(256)


def test_health():
    good = health(REAL, OTHER, EVEN, torch.zeros(512))
    assert good.overconfidence == 0 and good.diversity == pytest.approx(1, abs=0.05) and abs(good.gap) < 0.01
    point = health(REAL, REAL[:1].expand(512, 2), torch.ones(512), -torch.ones(512))
    assert point.overconfidence == 1 and point.diversity == 0 and point.gap > 0.8
    half = health(REAL, Ring(modes=4).sample(512), EVEN, EVEN)
    assert half.diversity > 0.5 and half.gap > 0.2  # which diversity alone does not see
    x = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1, 2, 3: mean 2, to the nearest 1, 1, 2
    assert health(x, x + 0.5, EVEN, EVEN).gap == pytest.approx((0.5 - 4 / 3) / 2)


@pytest.mark.parametrize("shift", [1e3, -1e5])
def test_health_does_not_move_with_the_data(shift):
    """Nor does the spread of samples that are far from the data."""
    fake = torch.randn(512, 2, generator=torch.Generator().manual_seed(1)) / 8
    moved = [((x.double() + shift).float().double() - shift).float() for x in (REAL, fake)]  # float32 holds them so
    expected = health(*moved, EVEN, EVEN)
    found = health(*(x + shift for x in moved), EVEN, EVEN)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert health(REAL, moved[1] + shift, EVEN, EVEN).diversity == pytest.approx(expected.diversity, rel=0.01)


def said(monitor, fake, times, real_logits=EVEN):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            monitor.report(health(REAL, fake, real_logits, torch.zeros(512)))
    return [str(warning.message) for warning in caught]


def test_warns_once_of_what_stays():
    monitor = Monitor()
    assert said(monitor, OTHER, 30) == []
    bad = Ring(modes=4).sample(512)
    assert said(monitor, bad, 9) == [] and said(monitor, OTHER, 1) == [] and said(monitor, bad, 9) == []
    (words,) = said(monitor, bad, 20)
    assert "dropped modes" in words
    assert said(monitor, OTHER, 2) == [] and said(monitor, bad, 20) == []
    (words,) = said(monitor, OTHER, 10, torch.ones(512))
    assert "hardly ever wrong" in words
    assert any("collapsed" in words for words in said(monitor, REAL[:1].expand(512, 2), 10))


def test_goes_on_from_a_state():
    """Of JSON: warns at the report at which the one before would have, and of nothing twice."""
    first, bad = Monitor(), Ring(modes=4).sample(512)
    assert said(first, bad, 6) == []
    second = resumed(first)
    assert second.state() == first.state()
    assert said(second, bad, 3) == [] and len(said(second, bad, 1)) == 1 and said(resumed(second), bad, 20) == []
    assert said(first, bad, 3) == [] and len(said(first, bad, 1)) == 1


def resumed(monitor):
    other = Monitor()
    other.load(json.loads(json.dumps(monitor.state(), allow_nan=False)))
    return other


def test_a_state_without_spread_is_json_too():
    monitor = Monitor()
    monitor.report(health(torch.zeros(9, 2), torch.ones(9, 2), EVEN[:9], EVEN[:9]))  # gap: infinite
    assert resumed(monitor).state() == monitor.state() and monitor.wrong["gap"] == 1


@pytest.mark.parametrize("state", [None, {}, {"wrong": {}, "least": {}, "said": []}])
def test_another_state_is_refused(state):
    with pytest.raises(ValueError, match="state must be that of a Monitor of overconfidence, diversity, gap; got"):
        Monitor().load(state)


def test_is_patient_with_what_gets_better():
    monitor = Monitor()
    for step in range(15):  # ever nearer to the data, never within the limit
        assert said(monitor, REAL + 30 * 0.85**step, 1) == [] and monitor.wrong["gap"] == 1
    assert any("dropped modes" in words for words in said(monitor, REAL + 30 * 0.85**14, 10))
