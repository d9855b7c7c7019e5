"""Loads the compiled module: the ordinary one, or, by environment, a build for tests.

GENFAST_ISA=scalar|avx2|avx512   forces the instruction set of the CPU kernels
GENFAST_EMULATE=1                the CUDA kernels compiled for the host: CPU tensors go through them
GENFAST_SANITIZE=1               the build with AddressSanitizer and UndefinedBehaviorSanitizer
"""

import importlib
import os

import torch  # noqa: F401  (libtorch must be loaded before the extension)

_variants = [name for name in ("emulate", "sanitize") if os.environ.get(f"GENFAST_{name.upper()}") == "1"]
_name = "_".join(["_C", *_variants])

try:
    extension = importlib.import_module(f"genfast.{_name}")
except ImportError as error:
    raise ImportError(
        f"genfast.{_name} could not be loaded ({error}).  In a checkout, build it with `make build`; in your own "
        "environment, `pip install --no-build-isolation .` builds it against the torch that is installed there."
    ) from error

if os.environ.get("GENFAST_ISA"):
    extension.set_isa(os.environ["GENFAST_ISA"])
