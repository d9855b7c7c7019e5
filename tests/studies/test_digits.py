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
    digits.draw_loss(logs, tmp_path / "loss.png")
    digits.draw_trajectory(model, 0, tmp_path / "trajectory.png")
    for name in ("loss.png", "trajectory.png"):
        assert np.asarray(Image.open(tmp_path / name).convert("L")).std() > 1


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_it_empties_its_own_folder(tmp_path):
    """What an earlier demo left of its model is removed; what others have put beside it is not."""
    digits.take(tmp_path)
    gf.save(digits.build(), tmp_path / "model")
    for name in ("model/log.jsonl", "samples.png", "evaluation/report.json", "notes.txt", "model/notes.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model" / "model-best.safetensors").write_text("mine")
    digits.take(tmp_path)
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert names == {".lock", "demo.json", "notes.txt", "model-best.safetensors"} and (tmp_path / "notes.txt").exists()


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
    with pytest.raises(FileExistsError, match=r"got log\.jsonl, model\.json in \S+model, which it did not write"):
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
