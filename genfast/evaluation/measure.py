"""Every metric on what it needs, and beside it the same metric of real data against real data."""

import dataclasses
from collections.abc import Sequence

from tqdm import tqdm

from .. import metrics as known
from ..common.checks import require_choice, require_names
from ..metrics import Estimate, Metric
from .inputs import Inputs, Missing
from .likelihoods import Likelihoods
from .records import Baseline, Record


def _likelihood(found: Likelihoods, dims: int, *, seed: int, level: float) -> dict[str, Estimate]:
    """Means: "nats" and "bits_per_dim" of the tightest on offer, and "elbo" in nats beside importance weighting."""
    estimates = known.likelihood(found.nats, dims, se=found.se, bits_offset=found.bits_offset, level=level)
    estimates = {name: _explained(estimate, found.how, found.note) for name, estimate in estimates.items()}
    if found.elbo is not None:
        elbo = known.likelihood(found.elbo, dims, level=level)["nats"]
        estimates["elbo"] = _explained(elbo, "lower bound (ELBO)", found.note)
    return estimates


METRICS = {
    **known.METRICS,
    "memorization": Metric(lambda found, **_: {"memorization": found.share}, ("memorization",), "lower"),
    "likelihood": Metric(_likelihood, ("likelihoods", "dims"), "higher"),
}
EXPECTED = "expectation for held-out data"
ALIKE = 1.5  # the greatest ratio of a baseline's n / m to that of the samples at which it is measured
BETTER = {"bits_per_dim": "lower"}  # of a result that has another sense than its metric
GROUPS = {"quality": tuple(name for name, metric in known.METRICS.items() if "samples" in metric.needs)}


def choose(asked: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names in METRICS from names and groups; all for None. Raises ValueError or TypeError for anything else."""
    if asked is None:
        return tuple(METRICS)
    asked = (asked,) if isinstance(asked, str) else require_names("metrics", asked)
    if not asked:
        raise ValueError("metrics must be names, one or more, or None for all; got none")
    for name in asked:
        require_choice("metrics", name, (*METRICS, *GROUPS))
    wanted = {name for group in asked for name in GROUPS.get(group, (group,))}
    return tuple(name for name in METRICS if name in wanted)


def measure(
    names: Sequence[str], inputs: Inputs, *, required: bool, seed: int, level: float, progress: bool
) -> tuple[tuple[Record, ...], dict[str, str]]:
    """The records of these metrics, and of those that do not apply the reason, by name.

    required: raise a ValueError instead, for they were asked for.
    """
    records, left_out = [], {}
    for name in tqdm(names, desc="metrics", delay=1, leave=False, disable=None if progress else True):
        try:
            estimates = run(METRICS[name], inputs, seed, level)
        except Missing as reason:
            if required:
                raise ValueError(f"metrics: {name} does not apply: {reason}") from reason
            left_out[name] = str(reason)
            continue
        baselines = baselines_of(METRICS[name], estimates, inputs, seed, level)
        better = METRICS[name].better
        records += [Record(key, BETTER.get(key, better), found, baselines.get(key)) for key, found in estimates.items()]
    return tuple(records), left_out


def run(metric: Metric, inputs: Inputs, seed: int, level: float) -> dict[str, Estimate]:
    """The metric's numbers by name. Raises Missing if it needs what is not there, or more of it."""
    arguments = [getattr(inputs, need) for need in metric.needs]
    try:
        return metric.function(*arguments, seed=seed, level=level)
    except ValueError as error:  # too few rows
        raise Missing(str(error)) from error


def baselines_of(
    metric: Metric, found: dict[str, Estimate], inputs: Inputs, seed: int, level: float
) -> dict[str, Baseline]:
    """Of each number what real data are given: an expectation where the metric knows it, else measured; by name."""
    expected = {name: e.details["expected"] for name, e in found.items() if "expected" in e.details}
    if expected:
        return {name: Baseline(p, p, p, found[name].n, found[name].m, 0, EXPECTED) for name, p in expected.items()}
    try:
        repeats = [run(metric, repeat, seed, level) for repeat in inputs.baselines(seed)]
    except Missing:  # likelihoods have none, and parts of the data may be too small
        return {}
    return {
        name: _baseline(estimate, [repeat[name] for repeat in repeats], inputs.baseline_kind)
        for name, estimate in found.items()
    }


def _baseline(found: Estimate, estimates: list[Estimate], kind: str) -> Baseline:
    """The mean of the repeats; or, where there are too few real data for their n / m to be that of the samples and the
    number depends on it, what the metric knows of two sets from one distribution."""
    p = found.details.get("under_equality")
    if p != estimates[0].details.get("under_equality"):
        ratio = found.n / found.m * estimates[0].m / estimates[0].n
        if not 1 / ALIKE < ratio < ALIKE:
            return Baseline(p, p, p, found.n, found.m, 0, "expectation for equal distributions")
    value, low, high = (sum(column) / len(estimates) for column in zip(*((e.value, e.low, e.high) for e in estimates)))
    return Baseline(value, low, high, estimates[0].n, estimates[0].m, len(estimates), kind)


def _explained(estimate: Estimate, how: str, note: str) -> Estimate:
    """The estimate with the kind of likelihood before its method."""
    warnings = (*estimate.warnings, note) if note else estimate.warnings
    return dataclasses.replace(estimate, method=f"{how}; {estimate.method}", warnings=warnings)
