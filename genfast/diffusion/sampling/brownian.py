"""Brownian noise: one path W for each (seed, sample), whatever the number of steps that walk it.

W runs in the time u = (alpha / sigma)^2, in which the noise of the reverse SDE is exactly dW: a step from t to s draws
z = (W(u_s) - W(u_t)) / sqrt(u_s - u_t). The line of log u / 2 = log(alpha / sigma) is cut into cells of equal length.
The increment over a cell is a normal of its own, and within a cell Levy's bridge halves the interval again and again,

    W(m) | W(l), W(r) ~ N((W(l) (r - m) + W(r) (m - l)) / (r - l), (r - m) (m - l) / (r - l)),

one normal a node. So every z is a weighted sum of the normals of a few nodes, found here on the host, in float64; the
kernel makes them from (seed, sample, node) and adds them up, and nothing is stored. (The Brownian tree of Li et al.
2020, arXiv:2001.01328, without the tree.)
"""

import math

import numpy as np
import torch

from ...common.checks import require_number
from ...ops import Purpose, stream
from ...ops.noise import MAX_STEP
from ..process.plans import Plan, as_times
from ..process.schedules import Schedule, as_schedule

CELL = 0.125  # of log(alpha / sigma)
LEVELS = 7  # of the bridge within a cell, whose leaves are CELL / 128 long
_NEGLIGIBLE = 1e-7  # in units of the increment's standard deviation
_AT = 1e-9  # a time this near a node is the node


def brownian_terms(plan: Plan) -> list[list[tuple[int, float]]]:
    """For each row of the plan, the (stream, weight) whose normals make up its z_0; weights have norm 1.

    A time on a node takes as many normals as the node is deep, any other time nine: see `aligned`. Raises ValueError
    for a plan whose noise belongs to no interval of time (churn; noise in the last step to 0), and for two times in
    one leaf of the bridge, 0.001 of log(alpha / sigma), where the path is not Brownian any more.
    """
    drawn = plan.s[:, 0] != 0
    if plan.s[:, 1].any() or (plan.span[drawn, 0] == plan.span[drawn, 1]).any():
        raise ValueError(f"noise='brownian' needs noise that belongs to steps in time; that of {plan.name} does not")
    with np.errstate(divide="ignore"):
        ends = np.log(plan.span) / 2
    # From alpha = 0 on the path comes from infinity; what lies 16 below adds 1e-7 to the standard deviation.
    ends[:, 0] = np.maximum(ends[:, 0], ends[:, 1] - 16)
    points = np.unique(ends[drawn])
    leaves = np.floor(points / CELL * 2**LEVELS + _AT)
    if (np.diff(leaves) == 0).any():
        size = CELL / 2**LEVELS
        raise ValueError(f"noise='brownian' tells steps of {size:g} in log(alpha / sigma) apart; {plan.name} has less")
    return [_increment(*pair) if draws else [] for draws, pair in zip(drawn, ends.tolist(), strict=True)]


def aligned(schedule: Schedule | str, times: torch.Tensor, share: float = 0.15) -> torch.Tensor:
    """The time grid with every time between the first and the last positive one moved to the coarsest node of the
    bridge within `share` of the neighboring steps in log(alpha / sigma): fewer normals a step, the path the same.

    At 50 steps on the log-SNR grid some 18 normals a step become 4. A larger share takes fewer, and leaves a less even
    grid, of which multistep solvers have the greater error.
    """
    schedule, times = as_schedule(schedule), as_times(times).clone()
    share = require_number("share", share, least=0, most=0.5)
    positive = times[times > 0]
    logs = (schedule.log_snr(positive) / 2).tolist()
    for i in range(1, len(logs) - 1):
        window = share * min(logs[i] - logs[i - 1], logs[i + 1] - logs[i])
        for level in range(LEVELS + 1):
            size = CELL / 2**level
            node = round(logs[i] / size) * size
            if abs(node - logs[i]) <= window:
                times[i] = schedule.time(2 * node)
                break
    return times


def _u(point: float, origin: float) -> float:
    """The time of the path, in units of that at `origin`; both are values of log(alpha / sigma)."""
    return math.exp(2 * (point - origin))


def _from_left(point: float, origin: float) -> dict[int, float]:
    """W(point) - W(left end of its cell), as weights of the normals of nodes: cell << 9 | place, with place 0 for the
    cell, the heap index of a node of the bridge, and 128 + leaf for a point within a leaf."""
    cell = math.floor(point / CELL + _AT)
    left, right = cell * CELL, (cell + 1) * CELL
    if point - left < _AT:
        return {}
    at_left, at_right, place = {}, {cell << 9: math.sqrt(_u(right, origin) - _u(left, origin))}, 1
    while True:
        inside = place >= 2**LEVELS  # a leaf is not halved: its one node is where the point is
        middle = point if inside else (left + right) / 2
        l, m, r = (_u(at, origin) for at in (left, middle, right))
        value = _sum(at_left, (r - m) / (r - l), at_right, (m - l) / (r - l))
        value[cell << 9 | place] = math.sqrt((r - m) * (m - l) / (r - l))
        if inside or abs(point - middle) < _AT:
            return value
        if point < middle:
            right, at_right, place = middle, value, 2 * place
        else:
            left, at_left, place = middle, value, 2 * place + 1
        if min(point - left, right - point) < _AT:  # an end that is a node already
            return at_left if point - left < _AT else at_right


def _sum(a: dict[int, float], p: float, b: dict[int, float], q: float) -> dict[int, float]:
    """p a + q b."""
    return {key: p * a.get(key, 0.0) + q * b.get(key, 0.0) for key in a.keys() | b.keys()}


def _increment(first: float, last: float) -> list[tuple[int, float]]:
    """(W(last) - W(first)) / sqrt(u_last - u_first) as (stream, weight)."""
    total = _sum(_from_left(last, last), 1.0, _from_left(first, last), -1.0)
    for cell in range(math.floor(first / CELL + _AT), math.floor(last / CELL + _AT)):
        size = math.sqrt(_u((cell + 1) * CELL, last) - _u(cell * CELL, last))
        total[cell << 9] = total.get(cell << 9, 0.0) + size
    norm = math.sqrt(1 - _u(first, last))
    weights = {key: weight / norm for key, weight in total.items() if abs(weight) > _NEGLIGIBLE * norm}
    return [(stream(Purpose.BROWNIAN, key & MAX_STEP), weights[key]) for key in sorted(weights)]
