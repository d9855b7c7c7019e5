"""Studies: what a finding prints and writes, and that every study runs and bears out its claims."""

import dataclasses
import inspect
import json
import math
from pathlib import Path

import pytest

from genfast import studies
from genfast.studies import Claim, Finding


def finding(holds=True):
    return Finding(
        "two-lines", "Do two lines cross?", ("line", "slope", "n"), [("up", 0.123456, 1000), ("down", -1.0, 2)],
        [Claim("They cross once.", True), Claim("They cross at 3.", holds)],
        lambda figure: figure.subplots().plot([0, 1], [1, 0]), {"seed": 0},
    )  # fmt: skip


def test_a_finding_prints_table_and_claims():
    lines = str(finding()).splitlines()
    assert lines[:2] == ["Do two lines cross?", ""] and lines[2].split() == ["line", "slope", "n"]
    assert lines[3].split() == ["up", "0.1235", "1,000"] and lines[-2:] == ["- They cross once.", "- They cross at 3."]
    assert finding().holds and not finding(False).holds and "NOT SHOWN: They cross at 3." in str(finding(False))


def test_a_finding_is_saved(tmp_path):
    picture, record = finding(False).save(tmp_path / "new")
    assert picture.name == "two-lines.png" and picture.read_bytes().startswith(b"\x89PNG")
    saved = json.loads(record.read_text())
    assert saved["schema"] == "genfast.study" and saved["rows"] == [["up", 0.123456, 1000], ["down", -1.0, 2]]
    assert [claim["holds"] for claim in saved["claims"]] == [True, False] and saved["settings"] == {"seed": 0}


def test_a_finding_replaces_its_own_files_and_no_others(tmp_path):
    finding(False).save(tmp_path)
    (tmp_path / "another.png").write_text("mine")
    _, record = finding().save(tmp_path)
    assert [claim["holds"] for claim in json.loads(record.read_text())["claims"]] == [True, True]
    for content in ("mine", "[]", '{"schema": "genfast.study", "name": "another"}'):
        record.write_text(content)
        with pytest.raises(FileExistsError, match=r"folder must .*two-lines\.png and .*two-lines\.json"):
            finding().save(tmp_path)
        assert record.read_text() == content
    record.unlink()
    (tmp_path / "two-lines.png").write_text("mine")
    with pytest.raises(FileExistsError, match=r"got \S*two-lines\.png, which 'two-lines' did not write"):
        finding().save(tmp_path)
    assert {file.read_text() for file in tmp_path.iterdir()} == {"mine"}


def test_a_record_is_json_for_everybody(tmp_path):
    broken = dataclasses.replace(finding(), rows=[("up", math.nan, 1), ("down", math.inf, 2)])
    assert json.loads(broken.json(), parse_constant=pytest.fail)["rows"] == [["up", None, 1], ["down", None, 2]]


def test_unknown_names_and_seeds():
    with pytest.raises(ValueError, match=r"name must be one of.*'alchemy'"):
        studies.run("alchemy")
    with pytest.raises(ValueError, match=r"seed.*-1"):
        studies.run("alchemy", seed=-1)


def test_every_study_is_there():
    for name in studies.STUDIES:
        study = studies.load(name)
        source = Path(inspect.getsourcefile(study)).read_text()
        assert callable(study) and f'"{name}"' in source, f"the Finding of {study.__module__} must be called {name!r}"
