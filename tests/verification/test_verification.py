"""Verification: what is right passes, and whatever is broken on purpose is found and named."""

import dataclasses
import json
import re
import sys
import threading

import numpy as np
import pytest
import torch

import genfast as gf
from genfast import cli, ops
from genfast._extension import extension
from genfast.diffusion.process.plans import D, Rows, x, z
from genfast.diffusion.solvers import SOLVERS
from genfast.gaussian.denoiser import GaussianMixtureDenoiser
from genfast.verification import _timed, invariance, verify
from genfast.verification import orders as module
from genfast.verification.orders import _weak_error, check_solver, exact_flow, flow, slope
from genfast.verification.problems import SCHEDULE, plan_of
from genfast.verification.report import Record, Report


@pytest.fixture(autouse=True)
def one_thread():
    """As verify does for itself."""
    with invariance.threads(1):
        yield


def command(monkeypatch, capsys, *arguments):
    """Exit code, stdout and stderr of `genfast` in this process."""
    monkeypatch.setattr(sys, "argv", ["genfast", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    printed = capsys.readouterr()
    return left.value.code, printed.out, printed.err


# What is right --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    """What verify says of the installation."""
    return verify(progress=False)


@pytest.mark.slow
def test_the_installation_is_right(whole):
    assert whole.passed, f"\n{whole}"
    assert [record.name for record in whole.records][: len(SOLVERS)] == list(SOLVERS)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "euler_maruyama"])
def test_solvers_have_their_orders(solver):
    record = check_solver(solver)
    assert record.passed, record
    assert record.kind == ("sde" if solver == "euler_maruyama" else "ode")
    assert record.declared_order == (2 if solver == "dpmpp_2m" else 1)
    assert abs(record.measured_order - record.declared_order) < 0.1
    assert len(record.figures["errors"]) == len(record.figures["steps"]) >= 4
    assert 0 < record.figures["rounding"] < 1e-6


def test_the_exact_flow_is_that_of_a_fine_plan():
    """Two integrators, in different variables, meet."""
    assert (flow(plan_of("rk4", 200, to_zero=False)) - exact_flow()).abs().max() < 1e-6


def test_the_exact_flow_keeps_a_single_gaussian_in_shape(monkeypatch):
    """x_t sqrt(V_s / V_t) + mean, with V = alpha^2 c^2 + sigma^2: Gaussian data has a closed flow."""
    mean, t = torch.tensor([0.7, -0.2], dtype=torch.float64), SCHEDULE.t_min
    one = GaussianMixtureDenoiser(torch.ones(1), mean[None], torch.tensor([0.25]), SCHEDULE)
    monkeypatch.setattr(module, "MIXTURE", one)
    deviation = {at: (SCHEDULE.alpha(at) ** 2 * 0.25 + SCHEDULE.sigma(at) ** 2) ** 0.5 for at in (t, 1.0)}
    key = ops.make_key(module.SEED, torch.arange(module.TRAJECTORIES))
    start = ops.normal(key, (2,), ops.Purpose.PRIOR, dtype=torch.float64)
    expected = (start - SCHEDULE.alpha(1.0) * mean) * deviation[t] / deviation[1.0] + SCHEDULE.alpha(t) * mean
    assert (module.exact_flow.__wrapped__() - expected).abs().max() < 1e-9


def test_noise_drawn_twice_is_not_taken_for_two_draws():
    """x' = 0.6 z then x'' = x' + 0.8 z of the same stream has variance 1.96; of two streams, 1."""
    rows = Rows(SCHEDULE, [1.0, 0.5, float(SCHEDULE.t_min)])
    (first, second) = rows
    rows.add(first[0], 0.6 * z[0])
    rows.add(second[0], x + 0.8 * z[0])
    two = rows.plan("two", order=1)
    streams = two.stream.copy()
    streams[1, 0] = streams[0, 0]
    one = dataclasses.replace(two, stream=streams)
    t = float(SCHEDULE.t_min)
    mean, variance = SCHEDULE.alpha(t) * 0.7, SCHEDULE.alpha(t) ** 2 * 0.25 + SCHEDULE.sigma(t) ** 2
    assert _weak_error(two) == pytest.approx(np.hypot(mean, 1 - variance))
    assert _weak_error(one) == pytest.approx(np.hypot(mean, 1.96 - variance))


def test_slope():
    assert slope([10, 20, 40], [3e-2, 7.5e-3, 1.875e-3]) == pytest.approx(2)
    for errors in ([1e-2, 0.0], [1e-2, float("nan")]):
        with pytest.raises(ValueError, match="no order can be measured"):
            slope([10, 20], errors)


# What is wrong --------------------------------------------------------------------------------------------------------


def off(schedule, times):
    """Euler with one coefficient off by 1%."""
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, x + 1.01 * (s.t - t.t) * t.slope)
    return rows.plan("off", order=1)


def boastful(schedule, times):
    """A first-order solver that claims the second."""
    return dataclasses.replace(SOLVERS["ddim"](schedule, times), order=2)


def noisy(schedule, times):
    """The right noise of Euler-Maruyama, twice."""
    plan = SOLVERS["euler_maruyama"](schedule, times)
    return dataclasses.replace(plan, s=2 * plan.s)


def loud(schedule, times):
    """Twice the noise that is in its input."""
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, s.alpha * (D + 2 * t.sigma / t.alpha * z[0]))
    return rows.plan("loud", order=0)


def aside(schedule, times):
    """Comes to a point beside the data."""
    rows = Rows(schedule, times)
    for t, s in rows:
        rows.add(t, 1.01 * s.alpha * D + s.sigma * z[0])
    return rows.plan("aside", order=0)


def broken(schedule, times):
    raise RuntimeError("nothing works")


def unbounded(schedule, times):
    rows = Rows(schedule, times)
    for t, _ in rows:
        rows.add(t, 1e30 * x)
    return rows.plan("unbounded", order=1)


@pytest.mark.parametrize(
    ("wrong", "kind", "reason"),
    [
        (off, "ode", r"the measured order, -?0\.\d+, is not within 0.85 and 1.25"),
        (boastful, "ode", r"the measured order, [01]\.\d+, is not within 1.80 and 2.20"),
        (noisy, "sde", "the covariance is .* standard errors from the truth; 5 allowed"),
        (noisy, "sde", "the measured order, .*, is not within"),
        (loud, "other", "samples of a point mass have 2.0. of the noise of the level before"),
        (aside, "other", "the mean is .* standard errors from the truth; 5 allowed"),
        (broken, "solver", "RuntimeError: nothing works"),
        (unbounded, "solver", "FloatingPointError: samples .* are not finite"),
    ],
)
def test_a_wrong_solver_is_found(wrong, kind, reason, monkeypatch):
    monkeypatch.setitem(SOLVERS, "wrong", wrong)
    record = _timed("wrong", "solver", check_solver)
    assert (record.name, record.kind) == ("wrong", kind) and not record.passed and record.seconds > 0
    assert any(re.search(reason, failure) for failure in record.failures), record.failures
    report = Report((record,), 0.0)
    assert not report.passed and record.failures[0] in str(report)


def test_what_is_no_approximation_is_checked_by_its_law(monkeypatch):
    def jumps(schedule, times):
        rows = Rows(schedule, times)
        for t, s in rows:
            rows.add(t, s.alpha * D + s.sigma * z[0])
        return rows.plan("jumps", order=0)

    monkeypatch.setitem(SOLVERS, "jumps", jumps)
    record = check_solver("jumps")
    assert record.passed and record.kind == "other" and record.measured_order is None, record


def test_a_wrong_kernel_is_found(monkeypatch):
    right = ops.step

    def step(x, *rest, **named):
        right(x, *rest, **named)
        if x.dtype == torch.float32:
            x.mul_(1 + 1e-5)

    monkeypatch.setattr(ops, "step", step)
    record = check_solver("ddim")
    assert [failure.split(" are")[0] for failure in record.failures] == ["float32 kernels"]


# Invariance -----------------------------------------------------------------------------------------------------------


class Calls:
    """Counts the steps taken: what depends on it depends on what was sampled before."""

    number = 0


def on_batch(x):
    x += x.mean(0, keepdim=True)


def on_slot(x):
    x += torch.arange(len(x)).view(-1, *[1] * (x.ndim - 1))


def on_calls(x):
    Calls.number += 1
    x += Calls.number


def on_threads(x):
    x += torch.get_num_threads()


def on_thread(x):
    x += float(threading.current_thread() is threading.main_thread())


def on_isa(x):
    x += len(extension.isa())


FAULTS = [
    ("one seed", on_calls),
    ("a batch of 8", on_batch),
    ("every split", on_batch),
    ("order and repetition", on_calls),
    ("batch-mates", on_batch),
    ("chunks", on_slot),
    ("1 and 2 threads", on_threads),
    ("two samplers", on_thread),
    ("instruction sets", on_isa),
]


@pytest.mark.parametrize(("start", "fault"), FAULTS)
def test_every_dependence_is_found(start, fault, monkeypatch):
    (name,) = (name for name in invariance.properties() if name.startswith(start))
    assert invariance.check_invariance(name, ["dpmpp_2m_sde", "heun"]).passed
    if fault is on_isa and extension.best_isa() == "scalar":
        pytest.skip("this processor has one instruction set")
    right = ops.step

    def step(x, *rest, **named):
        right(x, *rest, **named)
        fault(x)

    monkeypatch.setattr(ops, "step", step)
    record = invariance.check_invariance(name, ["dpmpp_2m_sde", "heun"])
    assert record.failures == ("dpmpp_2m_sde gives other samples", "heun gives other samples")


def test_a_seed_that_is_ignored_is_found(monkeypatch):
    (name,) = (name for name in invariance.properties() if name.startswith("one seed"))
    right = ops.make_key
    monkeypatch.setattr(ops, "make_key", lambda seed, *rest: right(0, *rest))
    assert not invariance.check_invariance(name, ["ddim"]).passed


def test_every_property_has_a_fault_that_breaks_it():
    starts = [start for start, _ in FAULTS]
    names = [name for name in invariance.properties() if not name.startswith("CUDA")]
    assert len(names) == len(starts) and all(name.startswith(start) for name, start in zip(names, starts))


def test_settings_are_left_as_they_were():
    before = torch.get_num_threads(), extension.isa()
    for name in invariance.properties():
        invariance.check_invariance(name, ["ddim"])
    assert (torch.get_num_threads(), extension.isa()) == before


# Report ---------------------------------------------------------------------------------------------------------------


def test_the_table():
    records = (
        Record("ddim", "ode", (), 1, 1.0234, {"gate": (0.85, 1.25), "rounding": 2.1e-7}),
        Record("ddpm", "sde", ("the mean is off",), 1, 0.5, {"mean_deviation": 9.04, "covariance_deviation": 0.5}),
        Record("a law", "likelihood", (), figures={"error": 1.2e-5, "allowed": 1e-3}),
    )
    report = Report(records, 12.3)
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 100 and not report.passed
    assert lines[0].split() == [
        "solver",
        "kind",
        "order",
        "measured",
        "gate",
        "rounding",
        "mean/se",
        "cov/se",
        "result",
    ]
    assert lines[1].split() == ["ddim", "ode", "1", "1.02", "0.85", "-", "1.25", "2e-07", "-", "-", "ok"]
    assert lines[2].split() == ["ddpm", "sde", "1", "0.50", "-", "-", "9.0", "0.5", "FAILED"]
    assert lines[3] == "    the mean is off"
    assert lines[-3].split() == ["a", "law", "likelihood", "1.2e-05", "1.0e-03", "ok"]
    assert lines[-1].startswith(f"2 of 3 passed in 12 s (genfast {gf.__version__}, torch {torch.__version__}, ")
    assert Report((), 0.0).passed


# Command --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_prints_a_table_and_exits_with_zero(whole, monkeypatch, capsys):
    monkeypatch.setattr(gf.verification, "verify", {None: whole}.get)
    code, out, _ = command(monkeypatch, capsys, "verify")
    lines = out.splitlines()
    assert code == 0 and [line.split()[0] for line in lines[1 : 1 + len(SOLVERS)]] == list(SOLVERS)
    (ddim,) = (line.split() for line in lines if line.startswith("ddim "))
    assert ddim[:3] == ["ddim", "ode", "1"] and ddim[-1] == "ok"
    assert lines[1].endswith("ok") and re.match(r"(\d+) of \1 passed in \d+ s", lines[-1]) and "FAILED" not in out


@pytest.mark.slow
def test_json_has_one_record_a_solver(whole, monkeypatch, capsys):
    monkeypatch.setattr(gf.verification, "verify", {None: whole}.get)
    code, out, _ = command(monkeypatch, capsys, "verify", "--json")
    records = json.loads(out)
    assert code == 0 and [record["name"] for record in records[: len(SOLVERS)]] == list(SOLVERS)
    for record in records:
        assert {"name", "kind", "declared_order", "measured_order", "passed", "failures", "seconds"} <= record.keys()
        assert record["passed"] is True and record["failures"] == [] and record["seconds"] > 0
    (ddpm,) = (record for record in records if record["name"] == "ddpm")
    assert (ddpm["kind"], ddpm["declared_order"], ddpm["grid"]) == ("sde", 1, "log_snr")
    assert 0.85 < ddpm["measured_order"] < 1.25
    assert 0 < ddpm["mean_deviation"] < 5 and 0 < ddpm["covariance_deviation"] < 5
    kinds = {record["kind"] for record in records}
    assert kinds == {"ode", "sde", "corrector", "other", "accuracy", "likelihood", "invariance"}


def test_the_command_exits_with_one_for_a_wrong_solver(monkeypatch, capsys):
    monkeypatch.setitem(SOLVERS, "off", off)
    report = Report((_timed("off", "solver", check_solver),), 0.0)
    monkeypatch.setattr(gf.verification, "verify", lambda names: {("off",): report}[tuple(names)])
    for form in ([], ["--json"]):
        code, out, _ = command(monkeypatch, capsys, "verify", *form, "--solvers", "off")
        assert code == 1
        assert json.loads(out)[0]["passed"] is False if form else "is not within 0.85 and 1.25" in out


def test_unknown_solvers_are_refused(monkeypatch, capsys):
    message = f"solvers must be among {', '.join(SOLVERS)}; got 'dpm'"
    with pytest.raises(ValueError, match=re.escape(message)):
        verify(["ddim", "dpm"])
    with pytest.raises(ValueError, match=r"solvers must be among .*; got none"):
        verify([])
    with pytest.raises(TypeError, match="solvers must be a sequence of names; got 'ddim'"):
        verify("ddim")
    code, _, err = command(monkeypatch, capsys, "verify", "--solvers", "ddim", "dpm")
    assert code == 2 and err == f"genfast verify: solvers must be one of {', '.join(SOLVERS)}; got 'dpm'\n"


def test_help(monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, "verify", "--help")
    assert code == 0 and "--solvers" in out and "--json" in out and "Exits with 1 if a check fails" in out
