"""Predicts the time of every kernel on an H200, without one: `make predict`, `make predict OP=step`, RECORD=1."""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cuda_check

from . import table


def compiled(stem: str, setup, toolkit: dict, folder: Path) -> tuple[str, Path]:
    """One kernel file, for sm_90."""
    source, target = cuda_check.ROOT / "csrc" / "kernels" / f"{stem}.cu", folder / f"{stem}.cubin"
    flags = setup.nvcc_flags(toolkit | {"architectures": [90]}).split()
    flags = [f for f in flags if "gencode" not in f and not f.startswith("arch=")]
    command = [toolkit["nvcc"], "-ccbin", setup.compiler(), *flags, "-arch=sm_90", "-cubin"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True)
    return stem, target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--op", default="", help="a file of ops/, or all of them")
    parser.add_argument("--record", action="store_true", help="write the shares down: cuda-check compares with them")
    args = parser.parse_args()
    rows = table.rows(args.op)
    if not rows:
        parser.error(f"no rows for {args.op!r}: there are {sorted(p.stem for p in (table.HERE / 'ops').glob('*.py'))}")
    setup = cuda_check.load_setup()
    toolkit = setup.cuda()
    os.environ |= cuda_check.tools()
    stems = {stem for row in rows for stem, *_ in row.kernels}
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count()))) as pool,
    ):
        objects = dict(pool.map(lambda stem: compiled(stem, setup, toolkit, Path(folder)), sorted(stems)))
        predictions = table.report(rows, objects)
    if args.record:
        table.record(predictions, not args.op)
        return 0
    for line in table.problems(predictions):
        print("slower:", line)
    return bool(table.problems(predictions))


if __name__ == "__main__":
    sys.exit(main())
