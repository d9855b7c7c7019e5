"""The demo: its judges on known answers, and its pictures."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import genfast as gf
from genfast.common.locks import run_in
from genfast.studies import digits


def test_judges_know_real_digits_copies_and_wrong_labels():
    train, test = gf.data.digits("train"), gf.data.digits("test")
    real, label = digits.pixels(train.x), train.label.numpy()
    found = digits.judge(digits.pixels(test.x), test.label.numpy(), real, label)
    assert found["label_agreement"] > 0.97  # held-out ones
    assert 0.8 < found["nearest_real"] / found["nearest_real_baseline"] < 1.25
    copies = digits.judge(real[:200], (label[:200] + 1) % 10, real, label)
    assert copies["nearest_real"] == 0 and copies["label_agreement"] < 0.02


def test_it_trains_and_draws(tmp_path):
    torch.manual_seed(0)
    model = digits.build()
    logs = digits.train(model, gf.data.digits(), seed=0, steps=2, out=tmp_path / "model")
    assert logs[-1]["step"] == 2 and sum(p.numel() for p in model.parameters()) == 312_609
    again = gf.load(tmp_path / "model")
    assert all(a.equal(b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    digits.draw_trajectory(model, 0, tmp_path / "trajectory.png")
    assert np.asarray(Image.open(tmp_path / "trajectory.png").convert("L")).std() > 1


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("stopped", [False, True])
def test_the_run_of_an_earlier_demo_makes_room(tmp_path, stopped):
    """Whether it has ended, or was stopped after a step, with what a killed one leaves; what lies beside it stays."""
    digits.take(tmp_path)
    data, run = gf.data.digits(), tmp_path / "model"
    settings = {"steps": 2, "batch": 2, "out": run, "save_every": 1, "grid_every": 1, "progress": False}
    logs = iter(gf.Fit(digits.build(), data, log_every=1, seed=1, **settings))
    next(logs)
    logs.close() if stopped else list(logs)
    assert {"run.json", "log.jsonl", "model.json", "state", "samples"} <= {path.name for path in run.iterdir()}
    (run / "model-0123456789abcdef.safetensors").write_text("of a process that was killed")
    for name in ("notes.txt", "model/.notes", "samples.png", "evaluation/report.json"):
        (tmp_path / name).write_text("{}")
    digits.take(tmp_path)
    assert {path.name for path in run.iterdir()} == {".lock", ".demo.json", ".notes"}
    assert (tmp_path / "notes.txt").exists()
    gf.fit(digits.build(), data, **settings)  # another seed than before: nothing of that is left


@pytest.mark.parametrize("name", ["notes.txt", "model-best.safetensors"])
def test_files_of_others_in_the_folder_of_the_run(tmp_path, name):
    digits.take(tmp_path)
    for file in ("run.json", name):
        (tmp_path / "model" / file).write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=f"out must have no files of others.*got {name} in "):
        digits.take(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["samples.png", "metrics.json", "model/model.json", "evaluation/report.png"])
def test_files_of_others_are_not_the_demos(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=rf"out must have no files of others.*got {name.split('/')[-1]} in "):
        digits.main(tmp_path, steps=1)
    assert contents(tmp_path) == before


def test_the_run_of_another_in_its_folder(tmp_path):
    digits.take(tmp_path)
    shutil.rmtree(tmp_path / "model")
    gf.fit(
        gf.Diffusion(gf.nn.MLP(2, 8), shape=(2,)), torch.randn(9, 2), steps=1, batch=4, out=tmp_path / "model",
        progress=False,
    )  # fmt: skip
    before = contents(tmp_path)
    names = r"run\.json, log\.jsonl, model\.json, state, samples"
    with pytest.raises(FileExistsError, match=rf"got {names} in \S+model, which it did not write"):
        digits.take(tmp_path)
    assert contents(tmp_path) == before
    with run_in(tmp_path / "model"), pytest.raises(FileExistsError):
        digits.take(tmp_path)


def test_two_demos_at_once(tmp_path):
    digits.take(tmp_path)
    with run_in(tmp_path / "model"), pytest.raises(BlockingIOError, match="by process"):
        digits.take(tmp_path)


@pytest.mark.slow
def test_the_demo_twice(tmp_path, capsys):
    for steps in (2, 1):
        digits.main(tmp_path, steps=steps)
    assert gf.load(tmp_path / "model").extra["step"] == 1 and "label agreement" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["samples"] == 1797
