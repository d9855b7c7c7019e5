"""The table of `make predict`: what each op is expected to take at the sizes that were measured."""

import functools
import importlib.util
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .model import COPY, NEXT_US, START_US, Launch, bottlenecks, together

HERE = Path(__file__).parent
SHARES = HERE / "shares.json"
MARGIN = 3.0  # points below its recorded share from which a kernel counts as slower
HEADER = (
    f"{'op and shape':52} {'us':>8} {'%':>5} {'target':>6} {'before':>6} {'in. a byte':>10} {'registers':>9} "
    f"{'warps':>5} {'latencies':>9}  bottlenecks, us"
)


@dataclass(frozen=True)
class Row:
    """A call: its kernels, one after the other, and what is wanted of them."""

    name: str  # op, dtype and shape
    least: float  # bytes that any implementation moves
    # Of each its file, csrc/kernels/<stem>.cu, how its name begins, and a Launch for each kind of blocks in it.
    kernels: tuple[tuple[str | Launch, ...], ...]
    target: float | None = None  # % of a copy's speed
    measured: float | None = None  # us on an H200, of genfast as it was (27 November 2026)

    def share(self, us: float) -> float:
        return 100 * self.least / us / COPY


@dataclass(frozen=True)
class Prediction:
    row: Row
    us: float
    top: dict[str, float]  # the bottlenecks of the longest kernel
    facts: dict[str, float]

    @property
    def share(self) -> float:
        return self.row.share(self.us)

    @property
    def floor(self) -> float:
        """The share if its largest bottleneck alone took time."""
        return self.row.share(self.us - together(self.top) + max(self.top.values()))

    def __str__(self) -> str:
        top = ", ".join(f"{k} {v:.0f}" for k, v in sorted(self.top.items(), key=lambda t: -t[1])[:4])
        before = f"{self.row.share(self.row.measured):6.0f}" if self.row.measured else " " * 6
        target = f"{self.row.target:6.0f}" if self.row.target else " " * 6
        f = self.facts
        return (
            f"{self.row.name:52} {self.us:8.0f} {self.share:5.1f} {target} {before} {f['per_byte']:10.1f} "
            f"{f['registers']:9} {f['warps']:5} {f['latencies']:9.1f}  {top}"
        )


def rows(op: str = "") -> list[Row]:
    """Those of every file of ops/ whose stem is `op`, or of all."""
    found = []
    for path in sorted((HERE / "ops").glob(f"{op or '*'}.py")):
        spec = importlib.util.spec_from_file_location(f"{__package__}.ops.{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += module.rows()
    return found


def predict(row: Row, objects: dict[str, Path]) -> Prediction:
    """`objects`: compiled, by the stem of the source."""
    total, longest = START_US - NEXT_US, ({}, {})
    for stem, name, *kinds in row.kernels:
        found = [bottlenecks(str(objects[stem]), name, kind) for kind in kinds]
        times = {bottleneck: sum(times[bottleneck] for times, _ in found) for bottleneck in found[0][0]}
        total += NEXT_US * (1 + sum(kind.extra_launches for kind in kinds)) + together(times)
        _, facts = max(found, key=lambda found: together(found[0]))
        longest = max(longest, (times, facts), key=lambda found: together(found[0]))
    return Prediction(row, total, *longest)


def report(found: list[Row], objects: dict[str, Path]) -> list[Prediction]:
    """Predicts, a row in each process, and prints the table, and then the targets that are missed."""
    print(HEADER)
    predictions = []
    with ProcessPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count()))) as pool:
        for prediction in pool.map(functools.partial(predict, objects=objects), found):
            predictions.append(prediction)
            print(prediction, flush=True)
    for line in missed(predictions):
        print("target missed:", line)
    return predictions


def recorded() -> dict[str, float]:
    return json.loads(SHARES.read_text()) if SHARES.exists() else {}


def record(predictions: list[Prediction], all_of_them: bool) -> None:
    shares = {} if all_of_them else recorded()
    shares |= {p.row.name: round(p.share, 1) for p in predictions}
    SHARES.write_text(json.dumps(dict(sorted(shares.items())), indent=1) + "\n")


def problems(predictions: list[Prediction]) -> list[str]:
    """Kernels that are slower than recorded, or have no record."""
    shares = recorded()
    unknown = [
        f"{p.row.name}: no share is recorded (make predict RECORD=1)" for p in predictions if p.row.name not in shares
    ]
    slower = [
        f"{p.row.name}: {p.share:.1f} % of a copy, {shares[p.row.name]} recorded"
        for p in predictions
        if p.share < shares.get(p.row.name, 0.0) - MARGIN
    ]
    return unknown + slower


def missed(predictions: list[Prediction]) -> list[str]:
    """Targets that are not reached, with the share that the largest bottleneck alone would allow."""
    return [
        f"{p.row.name}: {p.share:.1f} % of a copy, target {p.row.target:g}; "
        f"{max(p.top, key=p.top.get)} alone {p.floor:.0f}"
        for p in predictions
        if p.row.target and p.share < p.row.target - 0.5
    ]
