"""Times genfast beside plain torch and its peers:  python benches/run.py ops --help"""

import argparse
import datetime
import json
import math
import os
import sys
from pathlib import Path

import bench_loops
import bench_metrics
import bench_networks
import bench_ops
import bench_sampling
import bench_training
import peers
import torch
from timing import Bench, cache_bytes, driver, keep_freed_memory, machine
from tqdm import tqdm

import genfast

BENCHES = {
    "ops": bench_ops, "sampling": bench_sampling, "networks": bench_networks, "loops": bench_loops,
    "training": bench_training, "metrics": bench_metrics,
}  # fmt: skip
REPEATS = {"ops": 50, "sampling": 50, "networks": 10, "loops": 3, "training": 5, "metrics": 10}


def main(argv: list[str] | None = None) -> None:
    arguments = _parse(argv)
    module, device = BENCHES[arguments.bench], torch.device(arguments.device)
    if not arguments.default_malloc:
        keep_freed_memory()
    malloc = "default malloc" if arguments.default_malloc else "freed memory kept"
    kernels = genfast.info()["cpu_kernels"] if device.type == "cpu" else genfast.info()["cuda_kernels"]
    header = f"{machine(device)}; {malloc}; load {_load()}; torch {torch.__version__}; kernels {kernels}"
    print(header)
    cuda = device.type == "cuda"
    card = {"card": torch.cuda.get_device_name(), "driver": driver()} if cuda else {}
    record = {"machine": header, **card, "torch": torch.__version__, "date": _now(), "rows": [], "failed": []}
    if hasattr(module, "report"):  # a table of its own
        record["rows"] = module.report(arguments)
        if arguments.json:
            _write(arguments.json, record)
        return
    rotation = f"arguments rotate through at least {2 * cache_bytes() >> 20} MiB, twice the cache"
    print("the cache is flushed before every call" if cuda else rotation)
    if peers.diffusers is None:
        print("diffusers is not installed: its rows are left out (pip install diffusers==0.42.1)")

    for threads in arguments.threads if device.type == "cpu" else [torch.get_num_threads()]:
        torch.set_num_threads(threads)
        copy_gbs = math.nan
        todo = list(module.benches(arguments.cases, device, arguments.quick, arguments.compile))
        print(f"\n{threads} thread{'s' * (threads > 1)}\n{_HEAD}")
        with tqdm(todo, unit="bench", leave=False, disable=None) as bar:
            for make in bar:
                bench, times, failures = None, {}, {}
                try:
                    bench = make()
                    bar.set_postfix_str(bench.case)
                    times, failures = bench.time(3 if arguments.quick else arguments.repeats)
                except Exception as error:  # the others are still worth their time, as are other providers
                    failures["all"] = error
                for name, error in failures.items():
                    record["failed"].append(f"{bench.case if bench else make}, {name}: {type(error).__name__}: {error}")
                    tqdm.write(f"FAILED {record['failed'][-1]}", file=sys.stdout)
                if not times:
                    continue
                if bench.case == "copy_large":
                    copy_gbs = bench.bytes_moved / times["copy_"][1] * 1e-6
                found = [_row(arguments.bench, bench, name, device, threads, times[name], copy_gbs) for name in times]
                tqdm.write("\n".join(_lines(bench, found)), file=sys.stdout)
                record["rows"] += found
                if arguments.json:  # each time, for a run may be cut off
                    _write(arguments.json, record)
    if record["failed"]:
        sys.exit(f"{len(record['failed'])} of what was to be timed failed; see above")


_Defaults = argparse.ArgumentDefaultsHelpFormatter


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Defaults)
    commands = parser.add_subparsers(dest="bench", required=True)
    for name, module in BENCHES.items():
        cases = module.names()
        command = commands.add_parser(name, description=module.__doc__, formatter_class=_Defaults)
        command.add_argument("--cases", nargs="+", choices=cases, default=cases, metavar="CASE", help=", ".join(cases))
        command.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="one pass for each")
        command.add_argument("--repeats", type=int, default=REPEATS[name], help="timed calls of each provider")
        command.add_argument("--device", default="cpu", help="cpu or cuda")
        command.add_argument("--default-malloc", action="store_true", help="see timing.py; one case a run")
        command.add_argument("--compile", action="store_true", help="also torch.compile of the eager version")
        command.add_argument("--quick", action="store_true", help="tiny shapes, three repeats: does it run?")
        command.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args(argv)
    if "copy" not in arguments.cases:  # the yardstick of every other row
        arguments.cases = ["copy", *arguments.cases]
    return arguments


def _row(
    bench_name: str, bench: Bench, provider: str, device: torch.device, threads: int, ms: list[float], copy_gbs: float
) -> dict:
    gbs = bench.bytes_moved / ms[1] * 1e-6
    row = {
        "bench": bench_name, "case": bench.case, "shape": list(bench.shape), "dtype": str(bench.dtype)[len("torch.") :],
        "provider": provider, "device": str(device), "threads": threads, "torch": torch.__version__,
        "time_ms": ms, "bandwidth_gbs": gbs,
    }  # fmt: skip
    if bench.work:
        row["per_second"] = {bench.work[1]: bench.work[0] / ms[1] * 1e3}
    elif not math.isnan(copy_gbs):
        row["of_copy"] = gbs / copy_gbs
    return row


_HEAD = (
    f"{'case':<38}{'provider':<17}{'p50 ms':>9}{'p20':>9}{'p80':>9}{'ns/element':>12}{'x genfast':>12}"
    f"{'bytes/el':>10}{'GB/s':>8}{'of copy':>9}"
)


def _lines(bench: Bench, rows: list[dict]) -> list[str]:
    size, ours = torch.Size(bench.shape).numel(), rows[0]["provider"] == next(iter(bench.providers))
    baseline = rows[0]["time_ms"][1] if ours else math.nan
    title = bench.case if bench.dtype == torch.float32 else f"{bench.case} {rows[0]['dtype']}"
    lines = []
    for row in rows:
        p20, p50, p80 = row["time_ms"]
        lines.append(
            f"{'' if lines else title:<38}{row['provider']:<17}{p50:9.3f}{p20:9.3f}{p80:9.3f}"
            f"{p50 * 1e6 / size:12.2f}{p50 / baseline:12.2f}"
        )
        if bench.work:
            amount, unit = bench.work
            lines[-1] += f"{amount:10.4g} {unit}{row['per_second'][unit]:10.4g} {unit}/s"
        else:
            share = row.get("of_copy", math.nan)
            lines[-1] += f"{bench.bytes_moved / size:10.0f}{row['bandwidth_gbs']:8.1f}{share:9.0%}"
        lines[-1] += f"  {bench.notes.get(row['provider'], '')}".rstrip()
    return lines


def _load() -> str:
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _write(path: Path, content: dict) -> None:
    """Through a temporary file: whoever reads it finds the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


if __name__ == "__main__":
    main()
