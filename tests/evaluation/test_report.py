"""A Report: its schema, its file, its table."""

import dataclasses
import json
import math
import re

import pytest

from genfast.evaluation import Baseline, ClassRecord, Record, Report
from genfast.metrics import Estimate


def record(name, value, better="lower", baseline=None, **details):
    estimate = Estimate(value, value - 0.1, value + 0.1, "by hand", 100, 90, 0.95, details, ("mind this",))
    return Record(name, better, estimate, baseline)


BASELINE = Baseline(0.5, 0.4, 0.6, 45, 45, 4, "parts of the data")
RECORDS = (
    record("frechet", 2.0, baseline=BASELINE, extrapolated=1.9, se=math.nan),
    record("recall", 0.45, "higher", BASELINE),
    record("nats", -math.inf, "higher"),
)
REPORT = Report(
    model={"name": "Toy", "fingerprint": None},
    data={"name": "points", "shape": [1, 8, 8], "classes": 2, "names": None, "fingerprint": "d" * 16},
    features={"name": "pixels", "dim": 64, "fingerprint": "f" * 16},
    n=100, m=90, seed=3, level=0.95, sampling={"steps": 5}, genfast="0.1.0", torch="2.13.0", records=RECORDS,
    per_class=(
        ClassRecord(1, 50, 45, (record("coverage", 0.9, "higher"), record("recall", 0.45, "higher", BASELINE))),
    ),
    left_out={"memorization": "no training data were given"}, warnings=("frechet: mind this",),
)  # fmt: skip


def test_schema_is_pinned():
    """Whoever changes a key raises the version."""
    content = json.loads(REPORT.json())
    assert (content["schema"], content["version"]) == ("genfast.evaluation", 3)
    assert list(content) == [
        "schema", "version", "model", "data", "features", "n", "m", "seed", "level", "sampling", "genfast", "torch",
        "records", "per_class", "left_out", "warnings",
    ]  # fmt: skip
    assert content["model"].keys() == {"name", "fingerprint"}
    assert content["data"].keys() == {"name", "shape", "classes", "names", "fingerprint"}
    assert content["features"].keys() == {"name", "dim", "fingerprint"}
    assert content["per_class"][0].keys() == {"label", "n", "m", "records"}
    for row in (*content["records"], *content["per_class"][0]["records"]):
        assert row.keys() == {"name", "better", "estimate", "baseline"}
        assert row["estimate"].keys() == {
            "value", "low", "high", "method", "n", "m", "level", "details", "warnings"
        }  # fmt: skip
    assert content["records"][0]["baseline"].keys() == {"value", "low", "high", "n", "m", "splits", "kind"}


def test_what_is_not_finite():
    """NaN is null, infinity a string."""
    content = json.loads(REPORT.json(), parse_constant=pytest.fail)
    assert content["records"][2]["estimate"]["value"] == "-Infinity"
    assert content["records"][0]["estimate"]["details"] == {"extrapolated": 1.9, "se": None}


def test_save_and_load(tmp_path):
    REPORT.save(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded == REPORT and loaded.json() == REPORT.json() and str(loaded) != ""
    assert loaded.records[:2] != () and isinstance(loaded["frechet"].estimate, Estimate)
    assert loaded["recall"] == REPORT["recall"] and loaded.per_class == REPORT.per_class
    assert loaded["nats"] == REPORT["nats"] and loaded["nats"].value == -math.inf
    assert math.isnan(loaded["frechet"].estimate.details["se"])
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("low, high", [(0.0, math.inf), (-math.inf, -math.inf), (math.nan, 1.0)])
def test_intervals_that_say_nothing(tmp_path, low, high):
    """No verdict, a dash in the table, and the same after a file."""
    known = record("frechet", 2.0, baseline=BASELINE, extrapolated=1.9)
    assert known.worse
    unknown = dataclasses.replace(known, estimate=dataclasses.replace(known.estimate, low=low, high=high))
    of_baseline = dataclasses.replace(known, baseline=dataclasses.replace(BASELINE, low=low, high=high))
    report = dataclasses.replace(REPORT, records=(unknown, of_baseline))
    assert unknown.worse is None and of_baseline.worse is None
    report.save(tmp_path / "report.json")
    for shown in (report, Report.load(tmp_path / "report.json")):
        assert shown == report and [found.worse for found in shown.records] == [None, None]
        rows = [re.split(r"\s{2,}", line.strip()) for line in str(shown).splitlines()]
        assert ["at infinite n", "1.9", "-", "[0.4, 0.6]"] in rows and [
            "at infinite n",
            "1.9",
            "[1.9, 2.1]",
            "-",
        ] in rows


def test_the_null_is_printed_beside_the_baseline(tmp_path):
    """And the verdict is by both."""
    wide = dataclasses.replace(BASELINE, low=-2.0, high=2.0)
    found = [
        record("worse", 0.5, "lower", wide, under_equality=0.0),
        record("apart", -0.5, "lower", wide, under_equality=0.0),
        record("same", 0.55, "near_half", wide, under_equality=0.5),
        record("alone", 0.5, "lower", expected=0.1),
    ]
    assert [(one.worse, one.apart) for one in found] == [(True, True), (False, True), (False, False), (True, True)]
    report = dataclasses.replace(REPORT, records=tuple(found))
    report.save(tmp_path / "report.json")
    for shown in (report, Report.load(tmp_path / "report.json")):
        rows = [re.split(r"\s{2,}", line.strip()) for line in str(shown).splitlines()]
        assert ["worse", "↓", "0.5", "[0.4, 0.6]", "0.5", "[-2, 2]", "0", "100", "worse than real"] in rows
        assert ["apart", "↓", "-0.5", "[-0.6, -0.4]", "0.5", "[-2, 2]", "0", "100", "unlike real data"] in rows
        assert ["same", "½", "0.55", "[0.45, 0.65]", "0.5", "[-2, 2]", "0.5", "100", "as real data"] in rows
        assert ["alone", "↓", "0.5", "[0.4, 0.6]", "-", "0.1", "100", "worse than real"] in rows


def test_a_class_without_samples(tmp_path):
    rows = (*REPORT.per_class, ClassRecord(2, 0, 45, ()))
    dataclasses.replace(REPORT, per_class=rows).save(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded.per_class == rows and ["2", "0", "45", "-", "-"] in [
        line.split() for line in str(loaded).splitlines()
    ]


def test_wide_tables_of_classes_are_folded():
    records = tuple(record(f"number_{i}", 0.45, "higher", BASELINE) for i in range(9))
    report = dataclasses.replace(REPORT, per_class=tuple(ClassRecord(i, 50, 45, records) for i in range(3)))
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 120 and sum(line.startswith("real data  ") for line in lines) == 2
    assert all(f"number_{i}" in str(report) for i in range(9))


def test_reports_differ_in_any_number():
    assert dataclasses.replace(REPORT, seed=4) != REPORT and REPORT != "a report"
    other = dataclasses.replace(REPORT, records=(record("frechet", 2.1, baseline=BASELINE), *RECORDS[1:]))
    assert other != REPORT and hash(dataclasses.replace(REPORT)) == hash(REPORT)


def test_by_name():
    assert REPORT["recall"].value == 0.45 and "recall" in REPORT and "fid" not in REPORT
    with pytest.raises(KeyError, match="no 'fid' in this report; it has frechet, recall, nats"):
        REPORT["fid"]


def test_a_report_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        REPORT.n = 5


def test_table():
    lines = str(REPORT).splitlines()
    assert lines[0] == "samples   100 of Toy, seed 3, steps=5"
    assert lines[1] == "data      90 of points, 1x8x8, 2 classes"
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert ["frechet", "↓", "2", "0.5", "100"] in rows
    # Frechet's interval is about infinite n, and so is what it is held against.
    assert ["at infinite n", "1.9", "[1.9, 2.1]", "[0.4, 0.6]", "worse than real"] in rows
    assert ["recall", "↑", "0.45", "[0.35, 0.55]", "0.5", "[0.4, 0.6]", "100", "as real data"] in rows
    assert ["1", "50", "45", "0.9 [0.8, 1]", "0.45 [0.35, 0.55]"] in rows and ["real data", "-", "0.5"] in rows
    assert "real data: parts of the data, 45 against 45, mean of 4 (frechet, recall)" in lines
    assert "no memorization: no training data were given" in lines and "note: frechet: mind this" in lines
    start = next(i for i, line in enumerate(lines) if line.startswith("metric"))
    ends = {len(line[: line.index("real data") + 9]) for line in lines[start : start + 1]}
    assert ends and max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    "change",
    [
        {"n": "abc"}, {"n": True}, {"n": 1.5}, {"left_out": None}, {"warnings": "abc"}, {"warnings": [1]},
        {"level": "0.95"}, {"records": {}}, {"records": [5]}, {"model": []}, {"data": {}}, {"more": 1},
        {"per_class": [{"label": 1}]},
    ],
)  # fmt: skip
def test_fields_of_the_wrong_type(tmp_path, change):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(REPORT.json()) | change))
    with pytest.raises(ValueError, match=re.escape(f"path: {path} is damaged")):
        Report.load(path)


@pytest.mark.parametrize(
    "name, value", [("details", []), ("details", {"se": "x"}), ("value", "abc"), ("n", None), ("method", 3)]
)
def test_estimates_of_the_wrong_type(tmp_path, name, value):
    content = json.loads(REPORT.json())
    content["records"][1]["estimate"][name] = value
    path = tmp_path / "report.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(f"{path} is damaged: report.records[1].estimate.{name}")):
        Report.load(path)


@pytest.mark.parametrize(
    "text, match",
    [
        ('"abc"', "path must be a report"),
        ("5", "path must be a report"),
        ("{", "path must be a report"),
        ("[]", "path must be a report"),
        ('{"schema": "genfast.evaluation", "version": 1}', "version 3; got genfast.evaluation version 1"),
        ('{"schema": "genfast.evaluation", "version": 3, "records": [{}]}', "is damaged"),
        ('{"schema": "genfast.evaluation", "version": 3, "records": [], "per_class": []}', "is damaged"),
    ],
)
def test_files_that_are_no_report(tmp_path, text, match):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        Report.load(tmp_path / "report.json")
