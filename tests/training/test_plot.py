"""The picture of a run, of whatever its log has: every kind of line is drawn, and nothing else is asked for."""

import builtins
import importlib
import json
import math
import warnings

import numpy as np
import pytest
from PIL import Image

import genfast as gf
from genfast.training.plot import plot

plotting = importlib.import_module("genfast.training.plot")  # the package has the function by that name

LEVELS = [[float(k), k + 0.9, 0.1 + k, 0.05 + k, 0.2 + k] for k in range(8)]


def line(step, **more):
    loss = 0.5 + 3 * math.exp(-step / 100)
    rest = {"grad_norm": 2 * loss, "lr": 1e-3, "skipped": 0, "seconds": step / 20, "samples_per_second": 2560.0}
    return {"step": step, "samples": 128 * step, "loss": loss, **rest, "data_wait": 0.0, "memory": 2**30} | more


def held_out(step, **more):
    return line(step, test_loss=[0.5, 0.4, 0.6], test_loss_by_snr=LEVELS, **more)


PLAYERS = {"discriminator_loss": 0.7, "generator_loss": -0.8, "overconfidence": 0.2, "diversity": 1.0, "gap": 0.0}
LOGS = {
    "of one line": [line(50)],
    "of one look": [held_out(50)],
    "of two lines": [line(50), held_out(100)],
    "of a diffusion model": [held_out(k) if k % 100 == 0 else line(k) for k in range(20, 2001, 20)],
    "of a GAN": [line(k, **PLAYERS) for k in range(50, 2001, 50)],
    "of many columns": [line(k, **{f"column_{j}": k * j for j in range(13)}) for k in (1, 2, 3, 4)],
    "of nulls": [line(1, loss=None, grad_norm=None, lr=None, test_loss=[None] * 3, seconds=None) for _ in range(3)],
    "of some nulls": [held_out(k, loss=None if k > 3 else 1.0, skipped=k) for k in range(1, 9)],
    "of infinite intervals": [
        line(k, test_loss=[1.0, None, None], test_loss_by_snr=[[0, 1, 1, None, None]]) for k in (1, 2)
    ],
    "of other columns": [{"loss": 1.0}, {"loss": 0.5, "note": "words", "few": [1.0], "flag": True}],
    "of other kinds": [line(1) | {"step": "one", "skipped": "two"}, line(2, loss={"three": 3}, lr=[4.0])],
    "of other shapes": [line(1, test_loss=[1.0, 2.0]), line(2, test_loss=1.0, test_loss_by_snr=[1.0])],
    "of negative losses": [line(k, loss=100 / k - 20) for k in range(1, 60)],
    "of constant losses": [line(k, loss=0.0, grad_norm=0.0) for k in range(1, 60)],
    "of uneven steps": [line(k) for k in (1, 2, 3, 4, 5, 6, 400, 401, 402, 5000)],
}  # fmt: skip


def written(folder, lines, torn=""):
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)
    return folder


@pytest.mark.parametrize("lines", LOGS.values(), ids=[name.replace(" ", "-") for name in LOGS])
def test_every_log_is_drawn(lines, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plot(written(tmp_path, lines)) == tmp_path / "plot.png"
    width, height = Image.open(tmp_path / "plot.png").size
    assert width == 1200 and 300 < height < 1500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "plot.png"]


def titles(monkeypatch, run):
    """What stands above the panels of the picture, the steps of its grids at the end."""
    found, style, strip = [], plotting._style, plotting._draw_strip

    def styled(axes, step, title):
        found.append(title)
        style(axes, step, title)

    def stripped(band, pictures):
        found.extend(step for step, _ in pictures)
        strip(band, pictures)

    monkeypatch.setattr(plotting, "_style", styled)
    monkeypatch.setattr(plotting, "_draw_strip", stripped)
    plot(run)
    return found


def test_a_panel_for_everything_that_there_is(tmp_path, monkeypatch):
    samples = tmp_path / "samples"
    samples.mkdir()
    for name in ("00000100", "00000002", "9", "5", "4", "3", "mine"):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(samples / f"{name}.png")
    (samples / "00000200.png").write_text("no picture")
    run = written(tmp_path, LOGS["of a diffusion model"])
    expected = ["loss", "held-out loss by noise level", "learning rate", "gradient norm", 4, 5, 9, 100]
    assert titles(monkeypatch, run) == expected


def test_players_and_what_a_model_says_of_itself(tmp_path, monkeypatch):
    found = titles(monkeypatch, written(tmp_path, LOGS["of a GAN"]))
    assert found == ["losses of the players", "learning rate", "gradient norm", "overconfidence", "diversity", "gap"]


def test_a_torn_line_is_passed_over(tmp_path):
    whole = plot(written(tmp_path / "run", LOGS["of two lines"])).read_bytes()
    assert plot(written(tmp_path / "run", LOGS["of two lines"], torn='{"step": 99')).read_bytes() == whole


def test_the_line_above_says_where_the_run_stands(tmp_path):
    lines = [line(50), line(100, skipped=3)]
    words = plotting._summary(written(tmp_path / "mine", lines), lines)
    assert words.split("  ") == [
        "mine:", "step 100", "·", "12,800 samples", "·", "5 s", "·", "2,560 samples/s", "·", "1.1 GB", "·",
        "3 steps skipped",
    ]  # fmt: skip
    assert [plotting._duration(s) for s in (59.6, 150, 9000)] == ["60 s", "2.5 min", "2.5 h"]


def test_the_smooth_curve():
    """A line is one, also at its ends and where steps are uneven; noise becomes less; what stands alone stays."""
    step = np.cumsum(np.tile([1.0, 3.0, 5.0], 40))
    assert np.allclose(plotting._smoothed(step, 2 * step - 7), 2 * step - 7)
    noise = np.random.default_rng(0).standard_normal(120)
    assert plotting._smoothed(step, noise)[5:-5].std() < 0.6
    assert plotting._smoothed(np.array([1.0, 2.0, 3.0, 1e6]), np.array([1.0, 1.0, 1.0, 5.0]))[-1] == pytest.approx(5)


def test_a_real_run(tmp_path):
    data = gf.data.arrays(np.random.default_rng(0).standard_normal((64, 2)))
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1))
    gf.fit(model, data, steps=4, batch=8, log_every=2, test=data, grid_every=4, out=tmp_path, progress=False)
    out = plot(str(tmp_path), tmp_path / "other.png")
    assert out == tmp_path / "other.png" and Image.open(out).size[0] == 1200
    words = plotting._summary(tmp_path, [{"step": 4}])
    assert words.endswith("step 4 of 4")


def test_what_is_no_run(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"run must be the folder of a run, with a log\.jsonl"):
        plot(tmp_path)
    with pytest.raises(ValueError, match="run must have logged something"):
        plot(written(tmp_path, []))
    with pytest.raises(TypeError, match="run must be a path; got int"):
        plot(3)
    with pytest.raises(TypeError, match="out must be a path; got int"):
        plot(tmp_path, 3)
    known = builtins.__import__

    def without(name, *more):
        return known("no_such_package" if name.startswith("matplotlib") else name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install genfast\[demo\]"):
        plot(written(tmp_path, LOGS["of one line"]))
