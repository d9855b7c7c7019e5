"""run.json says what a run is, or is refused in words."""

import json
import os
import pickle

import pytest

import genfast as gf
from genfast.common.files import CorruptCheckpoint
from genfast.common.sealed import sealed
from genfast.training import run_file
from genfast.training.description import describe_model
from genfast.training.run_file import new_run, read_run, rebuilt_model, write_run

MODEL = {"model": "Toy", "config": {}, "names": None, "trained": {"tensors": 1, "numbers": 2}}
DESCRIPTION = {"settings": {"steps": 3}, "data": {"samples": 2}, "test": None, "model": MODEL}


def test_round_trip(tmp_path):
    run = new_run(DESCRIPTION, {"data": "digits"})
    write_run(tmp_path, run)
    assert read_run(tmp_path) == read_run(str(tmp_path)) == run
    assert run["words"] == {"data": "digits"} and run["measured"] is run["finished"] is None
    assert run["genfast"] and run["torch"] and new_run(DESCRIPTION, None)["id"] != run["id"]


def test_where_there_is_none(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=r"no run in .*: run\.json is not there"):
            read_run(path)
    with pytest.raises(TypeError, match="path must be a path"):
        read_run(3)


@pytest.mark.parametrize(
    "bad", [b"", b'{"genfast": 1}', b'{"genfast": "x", "manifest_sha256": 0}', b'"genfast"' + b"[" * 10**5]
)
def test_damage(tmp_path, bad):
    (tmp_path / "run.json").write_bytes(bad)
    with pytest.raises(CorruptCheckpoint, match=r"run\.json is damaged"):
        read_run(tmp_path)


@pytest.mark.parametrize("bad", [b"[]", b'{"name": "my run"}', b"\x00" * 100, pickle.dumps({"a": 1})])
def test_files_of_others(tmp_path, bad):
    (tmp_path / "run.json").write_bytes(bad)
    with pytest.raises(FileExistsError, match=r"run\.json is of another program: pass another folder, or move it away"):
        read_run(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(CorruptCheckpoint, match=r"run\.json is no file"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", run_file.FIELDS)
def test_fields_that_are_wrong(tmp_path, name):
    run = new_run(DESCRIPTION, None)
    for content in (run | {name: 1.5}, {key: value for key, value in run.items() if key != name}):
        (tmp_path / "run.json").write_text(json.dumps(sealed(content)))
        with pytest.raises(CorruptCheckpoint, match=rf"run\.json is not what genfast writes: {name} missing or wrong"):
            read_run(tmp_path)


@pytest.mark.parametrize("name", run_file.MODEL)
def test_what_is_said_of_the_model(tmp_path, name):
    for model in (MODEL | {name: 1.5}, {key: value for key, value in MODEL.items() if key != name}):
        write_run(tmp_path, new_run(DESCRIPTION | {"model": model}, None))
        with pytest.raises(CorruptCheckpoint, match=rf"run\.json is not what genfast writes: {name} missing or wrong"):
            read_run(tmp_path)


def test_a_model_is_rebuilt_as_new(tmp_path):
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1, classes=2))
    description = describe_model(model)
    write_run(tmp_path, new_run(DESCRIPTION | {"model": description}, None))
    assert describe_model(rebuilt_model(tmp_path)) == description
    large = json.loads(json.dumps(description))
    large["config"]["net"]["config"]["width"] = 60_000  # 29 GB of weights
    for bad, words in (
        (large, "parameters instead of"),
        (description | {"trained": {"tensors": 3, "numbers": 4}}, "parameters instead of 4"),
        (description | {"config": description["config"] | {"schedule": 3}}, "refuses its config"),
    ):
        write_run(tmp_path, new_run(DESCRIPTION | {"model": bad}, None))
        with pytest.raises(CorruptCheckpoint, match=rf"run\.json describes no model: .*{words}"):
            rebuilt_model(tmp_path)


def test_other_formats(tmp_path):
    write_run(tmp_path, new_run(DESCRIPTION, None) | {"format": 99})
    with pytest.raises(ValueError, match=r"run\.json was written by a newer genfast: upgrade this one"):
        read_run(tmp_path)
