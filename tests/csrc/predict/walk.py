"""The hot path of a kernel: the cheapest walk through its control flow that moves what it must."""

import heapq
import math
import re
from functools import cache

END = -1
CALL = 1000  # instructions that a call stands for: slow paths drop out


def graph(code) -> dict[int, tuple[int, list[int]]]:
    """The basic blocks, start: (end, where it may go on)."""
    index = {i.at: k for k, i in enumerate(code)}
    jumps = {k: index[int(i.text.rsplit("0x", 1)[1], 16)] for k, i in enumerate(code) if re.match("BRA|JMP", i.op)}
    starts = {0, *jumps.values(), *(k + 1 for k, i in enumerate(code) if re.match("BRA|JMP|EXIT|RET", i.op))}
    starts = sorted(k for k in starts if k < len(code))
    blocks = {}
    for start, end in zip(starts, [*starts[1:], len(code)]):
        last, following = code[end - 1], [end] if end < len(code) else []
        conditional = last.name[0] == "@" or re.match(r"BRA\S* !?U?P\d", last.text)
        if end - 1 in jumps:
            following = [jumps[end - 1], *(following if conditional else [])]
        elif last.op == "EXIT":
            following = [END, *(following if conditional else [])]
        elif last.op.startswith("RET"):
            following = []
        blocks[start] = end, following
    return blocks


def to_end(blocks, price) -> dict[int, float] | None:
    """The least price from each block to the end; None where a cycle pays."""
    least = {END: 0.0}
    for _ in range(100):
        before = dict(least)
        for start, (_, following) in reversed(blocks.items()):
            ways = [least[n] for n in following if n in least]
            if ways and min(ways) + price[start] < least.get(start, math.inf) - 1e-6:
                least[start] = min(ways) + price[start]
        if least == before:
            return least
    return None


def matched(blocks, least, adds, kind: int) -> int:
    """How often the way of the least price matches a pattern."""
    start, count = 0, 0
    for _ in blocks:
        if start == END:
            break
        count += adds[start][kind]
        start = min((n for n in blocks[start][1] if n in least), key=least.get)
    return count


def bound_of(blocks, cost, adds, goal):
    """What a match of each pattern is worth at most before a cycle would earn, or a way match more than its goal, and
    the price from each block to the end under these: the bound of a Lagrangian relaxation."""
    worth, bound, price = [0.0] * len(goal), to_end(blocks, cost), cost
    for k in range(len(goal)):
        low, high = 0.0, 1000.0
        for _ in range(12):
            middle = (low + high) / 2
            found = to_end(blocks, {s: c - middle * adds[s][k] for s, c in price.items()})
            if found and matched(blocks, found, adds, k) <= goal[k]:
                low, bound = middle, found
            else:
                high = middle
        worth[k], price = low, {s: c - low * adds[s][k] for s, c in price.items()}
        bound = to_end(blocks, price) or bound
    return worth, bound


@cache
def walk(code, wants):
    """The instructions of the cheapest way from entry to end that meets each (pattern, count) of `wants` at least so
    often; stores exactly so often.  A*."""
    wants = [(p, n) for p, n in wants if n or "STG" in p]
    blocks, patterns, goal = graph(code), [re.compile(p) for p, _ in wants], tuple(n for _, n in wants)
    exact = [k for k, (p, _) in enumerate(wants) if "STG" in p]
    cost, adds = {}, {}
    for start, (end, _) in blocks.items():
        cost[start] = end - start + CALL * sum("CALL" in i.name for i in code[start:end])
        adds[start] = tuple(sum(p.match(i.name) is not None for i in code[start:end]) for p in patterns)
    worth, bound = bound_of(blocks, cost, adds, goal)
    first = (0, (0,) * len(goal))
    best, came, queue = {first: 0}, {}, [(0.0, 0, *first)]
    while queue:
        _, spent, start, counts = heapq.heappop(queue)
        if spent > best[start, counts]:
            continue
        if start == END:
            if counts == goal:
                path, state = [], (start, counts)
                while state := came.get(state):
                    path.append(state[0])
                return tuple(i for s in reversed(path) for i in code[s : blocks[s][0]])
            continue
        if any(counts[k] + adds[start][k] > goal[k] for k in exact):
            continue
        total = tuple(min(a + b, n) for a, b, n in zip(counts, adds[start], goal))
        for after in blocks[start][1]:
            new, now = (after, total), spent + cost[start]
            if after in bound and now < best.get(new, math.inf):
                best[new], came[new] = now, (start, counts)
                ahead = bound[after] + sum(w * (n - c) for w, n, c in zip(worth, goal, total))
                heapq.heappush(queue, (now + ahead, now, after, total))
    reached = [counts for start, counts in best if start == END][:9]
    raise LookupError(f"no way through a kernel makes {dict(wants)}; some make {reached}")
