"""The log of a run that was killed is what it was when its state was saved."""

import json
import math
import os
import warnings

import pytest

from genfast.common.files import CorruptCheckpoint
from genfast.training.log_file import LogFile


def written(folder, n=5):
    log = LogFile(folder / "log.jsonl")
    marks = [log.mark()]
    for step in range(1, n + 1):
        log.append({"step": step, "loss": 1 / step})
        marks.append(log.mark())
    return log, marks


def lines(n):
    return [{"step": step, "loss": 1 / step} for step in range(1, n + 1)]


def test_lines_come_back(tmp_path):
    log, _ = written(tmp_path)
    assert log.lines() == lines(5)
    log.append({"step": 6, "loss": math.nan, "bins": [[0.1, math.inf]]})
    assert log.lines()[-1] == {"step": 6, "loss": None, "bins": [[0.1, None]]}
    for line in log.path.read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word}, which is no JSON"))


def test_it_is_cut_to_a_mark(tmp_path):
    log, marks = written(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.cut(marks[5], 5)
        assert log.lines() == lines(5)
        log.cut(marks[3], 3)
        assert log.lines() == lines(3) and log.mark() == marks[3]
        with open(log.path, "ab") as file:
            file.write(b'{"step": 4, "lo')  # torn
        assert log.lines() == lines(3)
        log.cut(marks[3], 3)
        assert log.mark() == marks[3]
        log.cut(marks[0], 0)
        assert log.path.read_bytes() == b""
        log.append({"step": 1})
        log.cut(None, 0)
        assert log.lines() == []


def test_without_a_file(tmp_path):
    log = LogFile(tmp_path / "log.jsonl")
    log.cut(None, 0)
    log.cut(log.mark(), 0)
    assert log.lines() == [] and not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "bad", [b"", b'{"step": 1}\n{"step": "x"}\n[1]\nnull\n\xff\n{"step": 9}\n' + b"[" * 5000 + b"\n"]
)
def test_damage_costs_lines_and_not_the_run(tmp_path, bad):
    log, marks = written(tmp_path)
    log.path.write_bytes(bad)
    with pytest.warns(
        UserWarning, match=r"log\.jsonl is damaged: the run goes on with the [01] lines that can be read"
    ):
        log.cut(marks[3], 3)
    assert log.lines() == ([{"step": 1}] if bad else [])
    mark = log.mark()
    log.append({"step": 4})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.cut(mark, 3)


def test_something_else_in_its_place(tmp_path):
    log = LogFile(tmp_path / "log.jsonl")
    os.mkfifo(log.path)
    for call in (log.lines, log.mark, lambda: log.cut(None, 0)):
        with pytest.raises(CorruptCheckpoint, match=r"log\.jsonl is no file"):
            call()
    log.path.unlink()
    log.path.symlink_to("nowhere")
    with pytest.raises(CorruptCheckpoint, match=r"log\.jsonl is no file"):
        log.lines()
