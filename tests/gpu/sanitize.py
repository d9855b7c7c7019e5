"""Every op's Case and gradient, once, small: for compute-sanitizer, under which a kernel takes a hundred times as long.

PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck python tests/gpu/sanitize.py
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from cases import channels_last, make, shifted

from genfast.testing import CASES, to

SHAPES = [(0, 65), (1, 1), (3, 65), (2, 3, 16, 24), (3, 4097), (130, 6)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES], metavar="CASE")
    arguments = parser.parse_args()
    calls = 0
    for name in arguments.cases:
        case = CASES[name]
        for shape in SHAPES:
            for dtype in case.dtypes[:2]:
                args = to(make(case, shape, dtype), lambda t: t.to(arguments.device))
                for layout in (torch.clone, shifted, channels_last):
                    if layout is not channels_last or (len(shape) == 4 and case.layouts != "contiguous"):
                        table = {name: args[name] for name in ("table",) if name in args}  # never sliced
                        call(case, to(args, layout) | table)
                        calls += 1
    print(f"{calls} calls of {len(arguments.cases)} ops on {arguments.device}")


def call(case, args) -> None:
    """The op, and its gradient where it has one."""
    for name in case.differentiable:
        args[name].requires_grad_()
    outputs = case.op(**args)
    if case.differentiable:
        sum(o.float().sum() for o in outputs).backward()


if __name__ == "__main__":
    main()
