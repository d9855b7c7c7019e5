"""Proof, on the machine at hand, that what is installed is right: orders, laws, likelihood, invariance."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence

from tqdm import tqdm

from ..common.checks import require_bool, require_names
from ..diffusion.solvers import SOLVERS
from .invariance import check_invariance, properties, threads
from .likelihood import CHECKS as LIKELIHOODS
from .likelihood import check_likelihood
from .orders import check_dpmpp_against_euler, check_solver
from .report import Record, Report

__all__ = ["Record", "Report", "verify"]


def verify(solvers: Sequence[str] | None = None, *, progress: bool = True) -> Report:
    r"""Checks the installation against known answers, in about a minute on two cores.

    Solvers, on a mixture of five Gaussians whose score is exact, through the sampling loop: of those of the
    probability-flow ODE the slope of log error against log steps, in float64; of those of the SDE the slope of the
    error in mean and variance on Gaussian data, and mean and covariance of samples against the mixture's, within 5
    standard errors; of the others the law of their samples where it is known; and of all of them the float32 kernels
    against float64.  Then DPM-Solver++(2M) in 20 steps against Euler in 40, the likelihood against the true one, and
    that a sample does not depend on batch, split, chunk, threads or instruction set.

    solvers: names in SOLVERS, all by default.  progress: show a bar, in a terminal.
    One thread of torch is in use meanwhile, and two where that is the question; the number is restored.
    Raises ValueError if a name is unknown, TypeError if `solvers` is a string.  A check that fails, or raises, is a
    Record with `failures` and does not stop the others; `Report.passed` is whether all of them passed.
    """
    progress = require_bool("progress", progress)
    names = list(SOLVERS if solvers is None else dict.fromkeys(require_names("solvers", solvers)))
    unknown = [name for name in names if name not in SOLVERS]
    if unknown or not names:
        raise ValueError(f"solvers must be among {', '.join(SOLVERS)}; got {', '.join(map(repr, unknown)) or 'none'}")
    checks = [
        *((name, "solver", check_solver) for name in names),
        ("dpmpp_2m in 20 steps is closer than euler in 40", "accuracy", check_dpmpp_against_euler),
        *((name, "likelihood", check_likelihood) for name in LIKELIHOODS),
        *((name, "invariance", functools.partial(check_invariance, solvers=names)) for name in properties()),
    ]
    start, records = time.perf_counter(), []
    # Tensors are small here: a second thread only waits for the first, and spins where other programs need its core.
    with (
        threads(1),
        tqdm(checks, desc="verifying", unit="check", leave=False, disable=None if progress else True) as bar,
    ):
        for name, kind, check in bar:
            bar.set_postfix_str(name)
            records.append(_timed(name, kind, check))
    return Report(tuple(records), time.perf_counter() - start)


def _timed(name: str, kind: str, check: Callable[[str], Record]) -> Record:
    start = time.perf_counter()
    try:
        record = check(name)
    except Exception as error:  # whatever is broken: the table says so, and goes on
        record = Record(name, kind, (f"{type(error).__name__}: {error}",))
    return dataclasses.replace(record, seconds=time.perf_counter() - start)
