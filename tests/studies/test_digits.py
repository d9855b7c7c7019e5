"""The demo: its judges on known answers, and its pictures."""

import numpy as np
import torch
from PIL import Image

import genfast as gf
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
