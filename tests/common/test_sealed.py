"""A sealed file is read as it was written, or refused with its name."""

import json
import os

import pytest

from genfast.common import sealed as module
from genfast.common.files import CorruptCheckpoint
from genfast.common.sealed import read_sealed, require_format, sealed


def test_round_trip_whatever_the_layout(tmp_path):
    content, file = {"format": 1, "b": [1.5, None], "a": "ü"}, tmp_path / "x.json"
    for options in ({}, {"indent": 3}, {"sort_keys": True}, {"ensure_ascii": False}):
        file.write_text(json.dumps(sealed(content), **options), encoding="utf-8")
        assert read_sealed(file) == content


def test_what_is_not_whole(tmp_path, monkeypatch):
    file = tmp_path / "x.json"
    with pytest.raises(FileNotFoundError):
        read_sealed(file)
    good = json.dumps(sealed({"format": 1, "a": 17}))
    for bad in (
        "",
        "{}",
        "3",
        good[:-1],
        good.replace("17", "18"),
        good.replace('"a"', '"b"'),
        "[" * 10**5,
        "1" * 5000,
    ):
        file.write_text(bad)
        with pytest.raises(CorruptCheckpoint, match=r"x\.json is damaged: .*\(of genfast \w+, read by 0"):
            read_sealed(file)
    file.write_text(good)
    monkeypatch.setattr(module, "LARGEST", len(good) - 1)
    with pytest.raises(CorruptCheckpoint, match=r"x\.json is damaged: it has more than"):
        read_sealed(file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CorruptCheckpoint, match=r"x\.json is no file"):
        read_sealed(file)


def test_formats(tmp_path):
    file = tmp_path / "x.json"
    require_format(file, {"format": 3}, 3, "train again")
    for found, words in (
        (2, "an older genfast: train again. It has format 2"),
        (4, "a newer genfast: upgrade this one"),
    ):
        with pytest.raises(ValueError, match=words):
            require_format(file, {"format": found}, 3, "train again")
    for found in ({}, {"format": None}, {"format": True}):
        with pytest.raises(CorruptCheckpoint, match=r"x\.json is damaged: its format is"):
            require_format(file, found, 3, "train again")
