"""Plans are checked, immutable, printable tables, and rows written on symbols are the rows that are run."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from helpers import run

from genfast.diffusion.process import schedules
from genfast.diffusion.process.plans import D, Plan, Rows, h, x
from genfast.diffusion.solvers import SOLVERS, plan

VP = schedules.VPLinear()


def test_plans_are_immutable_values():
    first, second = plan("heun", VP, 5), plan("heun", VP, 5)
    assert first == second and hash(first) == hash(second)
    assert first != plan("heun", VP, 6) and first != "heun"
    with pytest.raises(ValueError, match="read-only"):
        first.a[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.order = 3
    source = np.array(first.a)
    third = dataclasses.replace(first, a=source)
    source[0] += 1
    assert third == first
    assert first != dataclasses.replace(first, a=source)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_of_plans_are_immutable_too(again):
    first = plan("dpmpp_2m_sde", VP, 4)
    second = again(first)
    assert type(second) is Plan and second == first and hash(second) == hash(first) and second.order == first.order
    for field in dataclasses.fields(Plan):
        if isinstance(getattr(second, field.name), np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                getattr(second, field.name)[:1] = 1
    assert second == first == plan("dpmpp_2m_sde", VP, 4)


def test_plans_print_as_a_table():
    text = repr(plan("dpmpp_2m_sde", VP, 50))
    assert text.startswith(
        "Plan dpmpp_2m_sde: 50 steps, 50 network evaluations, order 2, 1 history slots, starts from N(0, 1^2)"
    )
    assert "h0' = D" in text and "z0" in text and "..." in text and len(text.splitlines()) < 25
    assert text.endswith("x' = D")
    assert plan("euler", VP, 3).slots == 0 and plan("heun", VP, 3).slots == 1


def test_rows_write_what_they_say():
    """A made-up three-slot solver, against the same equations by hand."""
    rows = Rows(VP, [1.0, 0.6, 0.3])
    (t, s), (_, u) = rows
    rows.add(t, 2 * x - D, keep=(x, None, 3 * D))
    rows.add(s, x + 0.5 * h[2], keep=(h[2] - x, D + h[0]))
    rows.add(u, h[0] + h[1])
    one = rows.plan("made_up", order=1)
    assert one.slots == 3 and one.writes.tolist() == [
        [True, False, True, False],
        [True, True, False, False],
        [False] * 4,
    ]
    out = run(one, lambda x_t, alpha, sigma: sigma * x_t, np.array([1.0]))
    D0 = VP.sigma(1.0)
    x1 = 2 - D0
    D1 = VP.sigma(0.6) * x1
    assert out.item() == pytest.approx((3 * D0 - x1) + (D1 + 1))


def broken(**changes):
    return dataclasses.replace(plan("heun", VP, 3), **changes)


def test_bad_plans_are_refused():
    good = plan("heun", VP, 3)
    for value in (math.nan, math.inf):
        a = np.array(good.a)
        a[2] = value
        with pytest.raises(ValueError, match=f"a of plan heun must be finite; row 2 has {value}"):
            broken(a=a)
    with pytest.raises(ValueError, match=r"b must have shape \(5,\); got \(4,\)"):
        broken(b=good.b[1:])
    with pytest.raises(ValueError, match=r"e must have shape \(5, 4\)"):
        broken(e=np.zeros((5, 5)))
    with pytest.raises(ValueError, match="at least one row"):
        Plan("empty", 1, 1, 1.0, *[np.zeros(0)] * 14)
    e = np.array(good.e)
    e[0, 3] = 1.0
    with pytest.raises(ValueError, match="reads slot 3 in row 0 before it is written"):
        broken(e=e)
    m = np.array(good.m)
    m[0, 0, 1] = 1.0
    with pytest.raises(ValueError, match="reads slot 1 in row 0 before it is written"):
        broken(m=m)
    with pytest.raises(ValueError, match="in row 0 for a slot that the row does not write"):
        broken(writes=np.zeros_like(good.writes))


@pytest.mark.parametrize(
    "times",
    [[1.0], [], [[1.0, 0.0]], [0.0, 1.0], [1.0, 0.5, 0.5], [1.2, 0.0], [0.5, -0.1], [1.0, math.nan], np.array(1.0)],
)
def test_bad_times_are_refused(times):
    with pytest.raises(ValueError, match="times must"):
        SOLVERS["euler"](VP, times)
