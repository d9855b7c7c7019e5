"""The studies, shortened: they write what they say, and their judges can tell good from bad."""

import json

import numpy as np
import torch

import genfast as gf
from genfast.studies import digits


def test_digits_writes_everything(tmp_path, capsys):
    digits.main(tmp_path, seed=1, steps=4)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    expected = {"label_agreement", "frechet_pixels", "frechet_pixels_floor", "train_seconds", "sample_seconds"}
    assert expected <= metrics.keys() and all(np.isfinite(v) for v in metrics.values())
    saved = np.load(tmp_path / "samples.npz")
    assert saved["images"].shape == (1797, 8, 8) and saved["labels"].shape == (1797,)
    assert saved["images"].min() >= 0 and saved["images"].max() <= 1
    for name in ("samples.png", "trajectory.png", "loss.png", "evaluation/report.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert "label agreement" in capsys.readouterr().out

    model = gf.load(tmp_path / "model")
    label = torch.as_tensor(saved["labels"])
    again = digits.pixels(model.sample([5, 900], seed=1, label=label[[5, 900]], **digits.SAMPLING, progress=False))
    assert np.array_equal(again.astype(np.float32).reshape(-1, 8, 8), saved["images"][[5, 900]])


def test_the_judges_judge():
    """Real digits agree with their labels and are no copies; shuffled labels and copies are found out."""
    data = gf.data.digits()
    real, label = digits.pixels(data.x), data.label.numpy()
    half = np.arange(len(real)) % 2 == 0
    honest = digits.judge(real[half], label[half], real[~half], label[~half])
    assert honest["label_agreement"] > 0.96
    assert abs(honest["nearest_real"] / honest["nearest_real_floor"] - 1) < 0.1
    assert digits.judge(real[half], np.roll(label[half], 1), real, label)["label_agreement"] < 0.3
    assert digits.judge(real[half], label[half], real, label)["nearest_real"] == 0
