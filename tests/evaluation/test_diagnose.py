"""diagnose(): each verdict on a model that deserves it, and none on one that does not."""

import dataclasses
import functools

import pytest
import torch
from toys import Copier, Gaussian, Mixed, Ring, normal

import genfast as gf
from genfast.evaluation import Baseline, Record
from genfast.metrics import Estimate

REAL = Ring().sample(400, seed=5)


def diagnose(model, data=REAL, **options):
    options = {"metrics": ["precision_recall", "frechet", "two_sample"]} | options
    return gf.diagnose(gf.evaluate(model, data, progress=False, **options))


@functools.cache
def of_ring(**options):
    return diagnose(Ring(**options))


def names(diagnosis):
    return [finding.name for finding in diagnosis.findings]


def test_perfect_samples():
    found = of_ring()
    assert names(found) == ["indistinguishable"], str(found)
    assert "at n = 400 nothing here tells" in str(found)
    # Precision of perfect samples is below 1, and is not held against 1.
    assert 0.8 < found["indistinguishable"].evidence["precision"] < 1


def test_collapse():
    found = of_ring(modes=4)
    assert names(found) == ["collapse"], str(found)
    evidence = found["collapse"].evidence
    assert evidence["recall_high"] < 0.7 < 0.8 < evidence["recall_baseline_low"]
    assert evidence["coverage"] < 0.7 < 0.85 < evidence["coverage_baseline_low"] and evidence["precision"] > 0.8
    assert "Collapse: parts of the data are never drawn. recall 0." in str(found) and "(real data [0.9" in str(found)


def test_collapse_of_spread():
    assert "collapse" in diagnose(Gaussian(4, 0.5), normal(300, 4, seed=8))


def test_junk():
    found = of_ring(junk=0.3)
    assert names(found) == ["junk"], str(found)
    assert found["junk"].evidence["precision"] < 0.75 and "unlike any data" in str(found)


def test_diffuse_junk_is_no_collapse():
    """Case 28: diffuse junk raises recall, and lowers coverage by taking samples away."""
    found = diagnose(Mixed(6, 0.5, 4.0), normal(400, 6, seed=8))
    assert names(found) == ["junk"], str(found)


def test_far():
    found = diagnose(Gaussian(2, 0.1), REAL)
    assert names(found) == ["far"] and found["far"].evidence["recall"] < 0.1


@functools.cache
def plain():
    return gf.evaluate(Ring(), REAL, metrics="precision_recall", progress=False)


@pytest.mark.parametrize(
    "precision, recall, coverage, verdict",
    [
        (0.9, 0.9, 0.9, []),
        (0.9, 0.3, 0.5, ["collapse"]),
        (0.75, 0.3, 0.5, ["collapse"]),
        (0.9, 0.9, 0.5, ["collapse"]),
        (0.5, 0.9, 0.9, ["junk"]),
        (0.5, 0.9, 0.7, ["junk"]),
        (0.3, 0.8, 0.5, ["junk"]),
        (0.5, 0.5, 0.5, ["far"]),
        (0.86, 0.86, 0.86, []),  # beyond the baseline's interval, but not clearly
    ],
)
def test_verdicts_by_their_numbers(precision, recall, coverage, verdict):
    """Baselines of 0.9, all intervals 0.01 to either side."""

    def record(name, value):
        baseline = Baseline(0.9, 0.89, 0.91, 50, 50, 4, "parts of the data")
        return Record(name, "higher", Estimate(value, value - 0.01, value + 0.01, "", 100, 100), baseline)

    numbers = {"precision": precision, "recall": recall, "coverage": coverage}
    report = dataclasses.replace(plain(), records=tuple(record(*item) for item in numbers.items()))
    found = gf.diagnose(report)
    assert [name for name in names(found) if name in ("collapse", "junk", "far")] == verdict, str(found)
    if (precision, recall) == (0.75, 0.3):
        assert "fidelity suffers less: precision 0.75 [0.74, 0.76]" in str(found)


def test_memorization():
    train, held_out = normal(200, 4, seed=1), normal(200, 4, seed=2)
    run = functools.partial(diagnose, data=held_out, train=train, metrics=["memorization"])
    assert "memorization" in run(Copier(train)) and run(Copier(train))["memorization"].evidence["memorization"] > 0.9
    assert names(run(Gaussian(4))) == ["indistinguishable"]


def test_a_small_shift_is_different_without_a_cause():
    x = normal(500, 3, seed=1)
    found = diagnose(x + 0.35, normal(500, 3, seed=2))
    assert names(found) == ["different"] and "frechet" in str(found), str(found)


def test_few_samples():
    found = diagnose(normal(60, 80, 1), normal(60, 80, 2), metrics="frechet")
    assert "few_samples" in found and found["few_samples"].evidence == {"n": 60, "m": 60, "dim": 80}
    assert "take more than 160" in str(found) and "undecided" in found
    assert "few_samples" in diagnose(normal(60, 30, 1), normal(60, 30, 2), metrics="frechet")
    assert "few_samples" not in diagnose(normal(60, 5, 1), normal(60, 5, 2), metrics="frechet")


def test_labels():
    """Half of the samples of class 1 are of class 0."""
    label = torch.arange(200) % 2
    x = normal(200, 2, seed=1) * 0.2 + 3 * label[:, None]
    wrong = torch.where(torch.arange(200) % 4 == 1, 0, label)
    found = diagnose((x, label), (normal(200, 2, seed=2) * 0.2 + 3 * label[:, None], label), metrics="frechet")
    assert "labels" not in found
    drawn = normal(200, 2, seed=1) * 0.2 + 3 * wrong[:, None]
    found = diagnose((drawn, label), (normal(200, 2, seed=2) * 0.2 + 3 * label[:, None], label), metrics="frechet")
    assert "Class 1 is worst, 0.5" in found["labels"].sentence


def test_nothing_to_judge():
    found = diagnose(Gaussian(2), metrics="likelihood")
    assert names(found) == ["undecided"] and found["undecided"].evidence == {}
    assert str(found) == "Undecided: no number here has an interval, and a baseline or a null to be judged by."
    with pytest.raises(KeyError, match="no finding 'junk'"):
        found["junk"]


# Nulls ----------------------------------------------------------------------------------------------------------------


def judged(name, better, low, high, baseline=None, **details):
    """diagnose() of a report with this one number."""
    estimate = Estimate((low + high) / 2, low, high, "", 24, 24, details=details)
    real = None if baseline is None else Baseline(sum(baseline) / 2, *baseline, 12, 12, 4, "parts of the data")
    return gf.diagnose(dataclasses.replace(plain(), records=(Record(name, better, estimate, real),)))


@pytest.mark.parametrize(
    "name, better, low, high, null, verdict",
    [
        ("kernel_distance", "lower", 0.095, 1.235, 0.0, "different"),
        ("kernel_distance", "lower", -0.1, 1.235, 0.0, "indistinguishable"),
        ("kernel_distance", "lower", 0.0, 1.235, 0.0, "indistinguishable"),
        ("kernel_distance", "lower", -1.2, -0.1, 0.0, "different"),  # nearer than fresh samples are: copies
        ("two_sample", "near_half", 0.51, 0.9, 0.5, "different"),
        ("two_sample", "near_half", 0.1, 0.49, 0.5, "different"),
        ("two_sample", "near_half", 0.4, 0.6, 0.5, "indistinguishable"),
        ("density", "higher", 1.1, 1.5, 1.0, "different"),
        ("density", "higher", 0.98, 1.5, 1.0, "indistinguishable"),
    ],
)
@pytest.mark.parametrize("baseline", [(-2.0, 2.0), None, (float("nan"), 1.0)])
def test_a_null_outside_the_interval_tells_apart(name, better, low, high, null, verdict, baseline):
    """However wide the interval of real data is, and where there is none."""
    found = judged(name, better, low, high, baseline, under_equality=null)
    assert names(found) == [verdict], str(found)
    assert f"{name}_null" in found[verdict].evidence
    if verdict == "different":
        assert f"null {null:g})" in str(found) and ("real data [-2, 2]" in str(found)) == (baseline == (-2.0, 2.0))


def test_what_chance_does_is_said():
    """Where no interval is beyond that of real data."""
    weak = judged("two_sample", "near_half", 0.51, 0.9, (-2.0, 2.0), under_equality=0.5)
    assert "By chance one of 1 intervals excludes its null in about 5% of all reports: take more" in str(weak)
    assert "chance" not in str(judged("two_sample", "near_half", 0.51, 0.9, (0.4, 0.5), under_equality=0.5))


@pytest.mark.parametrize("low, high", [(float("nan"), 1.0), (0.1, float("inf"))])
def test_an_interval_that_says_nothing_excludes_no_null(low, high):
    assert names(judged("kernel_distance", "lower", low, high, under_equality=0.0)) == ["undecided"]


def test_a_loss_against_the_null_alone():
    """Of data too few for a baseline."""
    assert names(judged("coverage", "higher", 0.2, 0.4, under_equality=0.9)) == ["collapse"]


def classes(*counts, n=24):
    """Three clouds, of class c as many samples as counts[c], asked for as such."""
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return normal(len(label), 2, seed=n) * 0.5 + 2 * label[:, None], label


@pytest.mark.parametrize("metrics", [None, "kernel_distance", "frechet"])
def test_a_class_that_was_never_drawn(metrics):
    """24 samples: the baselines are so wide that no number need be beyond them."""
    report = gf.evaluate(classes(12, 12, 0), classes(8, 8, 8, n=5), metrics=metrics, progress=False)
    assert [(row.label, row.n, row.m) for row in report.per_class] == [(0, 12, 8), (1, 12, 8), (2, 0, 8)]
    assert report.per_class[2].records == () and ["2", "0", "8"] in [
        line.split()[:3] for line in str(report).splitlines()
    ]
    found = gf.diagnose(report)
    assert "of 24 samples none is of class 2, of which the data have 8" in str(found)
    assert found["classes"].evidence == {"class_2_n": 0, "class_2_m": 8} and "indistinguishable" not in found


def test_a_class_that_was_not_drawn_by_chance():
    """Of so rare a class, or so few samples: it is in the table, and nothing is said."""
    report = gf.evaluate(classes(12, 12, 0), classes(20, 20, 1, n=5), metrics="frechet", progress=False)
    assert [row.n for row in report.per_class] == [12, 12, 0] and "classes" not in gf.diagnose(report)


def test_a_class_that_the_data_lack():
    report = gf.evaluate(
        classes(10, 10, 4), gf.data.arrays(*classes(12, 12, n=5), 3), metrics="frechet", progress=False
    )
    assert [(row.label, row.n, row.m) for row in report.per_class] == [(0, 10, 12), (1, 10, 12), (2, 4, 0)]


def test_bad_argument():
    with pytest.raises(TypeError, match=r"report must be a Report of genfast\.evaluate; got dict"):
        gf.diagnose({})
