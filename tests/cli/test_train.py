"""genfast train: runs by the command alone, that go on, and what it says where they cannot."""

import functools
import inspect
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import genfast as gf
from genfast import cli
from genfast.cli import errors
from genfast.cli.train import Training

QUICK = ["--preset", "toy-mlp", "--batch", "16", "--no-progress"]


def files_of(run):
    """What a run holds, byte for byte; a lock is no part of it."""
    files = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith(".lock")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def test_settings_are_those_of_fit():
    """A new argument of `fit` is one of the command, or is named here, with the reason why not."""
    only_python = {"callbacks", "optimizer"}  # functions
    otherwise = {"model", "data", "test", "out"}  # said by the verb's own arguments
    parameters = inspect.signature(gf.Fit).parameters
    assert Training.__annotations__.keys() == parameters.keys() - only_python - otherwise
    kinds = inspect.get_annotations(Training, eval_str=True)
    for name in ("steps", "batch", "lr", "clip", "seed", "resume", "keep", "compile", "progress"):
        assert str(kinds[name]).replace("<class '", "").replace("'>", "") == str(parameters[name].annotation).replace(
            "<class '", ""
        ).replace("'>", "")


def test_a_run_is_trained_and_goes_on(genfast, tmp_path):
    """The same command does not train again; with more steps it goes on; --out alone knows the rest."""
    run = tmp_path / "run"
    result = genfast("train", *QUICK, "--out", run, "--steps", "4", "--seed", "2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{run}: step 4, loss ") and result.stdout.count("\n") == 1
    assert "Diffusion(MLP)" in result.stderr
    before = files_of(run)
    assert genfast("train", *QUICK, "--out", run, "--steps", "4", "--seed", "2").returncode == 0
    assert files_of(run) == before
    result = genfast("train", "--out", run, "--steps", "6", "--no-progress")
    assert result.returncode == 0 and f"{run}: step 6, " in result.stdout, result.stderr
    result = genfast("train", "--out", run, "--lr", "0.5", "--no-progress")
    assert result.returncode == 1 and "lr" in result.stderr and not result.stdout
    model = gf.load(run)
    assert model.shape == (2,) and model.classes == 2


def test_config_repeats_a_run(genfast, tmp_path):
    genfast("train", *QUICK, "--out", tmp_path / "a", "--steps", "3", "--lr", "0.002")
    result = genfast("train", "--config", tmp_path / "a", "--out", tmp_path / "b", "--no-progress")
    assert result.returncode == 0, result.stderr
    a, b = (gf.load(tmp_path / name) for name in "ab")
    assert (a.sample(4, seed=1) == b.sample(4, seed=1)).all()
    result = genfast("train", "--config", tmp_path / "a", "--out", tmp_path / "c", "--steps", "2", "--no-progress")
    said = json.loads((tmp_path / "c" / "run.json").read_text())["settings"]
    assert result.returncode == 0 and said["lr"] == 0.002 and said["steps"] == 2


@pytest.mark.parametrize("preset, net", [("autoencoder-32", "UNet"), ("digits-vae", "MLP")])
def test_a_model_of_latents(genfast, pictures, tmp_path, preset, net):
    """Over the VAE of a run, with its data and its size of images; it goes on, and is repeated, with that VAE."""
    few = ["--steps", "4", "--batch", "6", "--grid-every", "9", "--no-progress"]
    vae, run = tmp_path / "vae", tmp_path / "run"
    result = genfast("train", "--preset", preset, "--data", pictures, "--size", "6", *few, "--out", vae)
    assert result.returncode == 0, result.stderr
    result = genfast("train", "--preset", "latent-32", "--vae", vae, *few, "--out", run)
    assert result.returncode == 0 and "LatentDiffusion(VAE, Diffusion)" in result.stderr, result.stderr
    model = gf.load(run)
    assert model.shape == (1, 6, 6) and list(model.names) == ["bright", "dark"]
    assert type(model.diffusion.net).__name__ == net and (run / "latents.npy").exists()
    again = genfast("train", "--config", run, *few[4:], "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    other = gf.load(tmp_path / "again")
    assert other.diffusion.config() | {"net": None} == model.diffusion.config() | {"net": None}
    for name, value in gf.load(vae).state_dict().items():
        assert torch.equal(value, model.vae.state_dict()[name]) and torch.equal(value, other.vae.state_dict()[name])
    result = genfast("train", "--out", run, "--steps", "5", "--no-progress")
    assert result.returncode == 0 and "step 5" in result.stdout, result.stderr
    result = genfast("train", "--preset", "latent-32", "--vae", run, *few, "--out", tmp_path / "other")
    assert result.returncode == 2 and "vae must be the folder of a VAE" in result.stderr
    result = genfast("train", "--preset", "latent-32", "--vae", tmp_path / "none", *few, "--out", tmp_path / "other")
    assert result.returncode == 1 and "none" in result.stderr and not (tmp_path / "other").exists()


def test_a_learning_rate_that_spoils_nothing(genfast, tmp_path):
    run = tmp_path / "run"
    result = genfast("train", *QUICK, "--out", run, "--steps", "50", "--lr", "1e38", "--warmup", "0", "--clip", "None")
    assert result.returncode == 1 and not result.stdout and "Traceback" not in result.stderr
    assert "lr" in result.stderr.splitlines()[-1]
    genfast("train", *QUICK, "--out", run.with_name("good"), "--steps", "2")
    before = files_of(run.with_name("good"))
    result = genfast("train", *QUICK, "--out", run.with_name("good"), "--steps", "2", "--lr", "1e38")
    assert result.returncode == 1 and files_of(run.with_name("good")) == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--preset", "cats"], "preset must be one of digits-unet, "),
        (["--preset", "digits-unet", "--net", "big"], "net must be one of "),
        (["--preset", "digits-vae", "--net", "unet_32"], "--net is the network of a diffusion model, which digits-vae"),
        (["--preset", "digits-unet", "--config", "run"], "--preset and --config are two runs"),
        (["--preset", "folder-64"], "data must be given: --data FOLDER"),
        (["--preset", "latent-32"], "vae must be given: --vae RUN, the folder of a trained VAE"),
        (
            ["--preset", "latent-32", "--net", "unet_8", "--vae", "run"],
            "--net is the network of a diffusion model, which",
        ),
        (["--preset", "digits-unet", "--vae", "run"], "--vae is for a diffusion model of latents: --preset latent-32"),
        ([], "data must be given: --data FOLDER"),
        (["--preset", "toy-mlp", "--steps", "0"], "steps must be an integer of at least 1; got 0"),
        (["--preset", "toy-mlp", "--ema", "0.999"], "ema must be "),
    ],
)
def test_a_wrong_argument_is_a_sentence_and_exit_2(genfast, tmp_path, arguments, words):
    result = genfast("train", "--out", tmp_path / "run", *arguments)
    assert result.returncode == 2 and not result.stdout and not (tmp_path / "run").exists()
    assert result.stderr.startswith(f"genfast train: {words}") and result.stderr.count("\n") == 1, result.stderr


def test_other_data_and_networks_that_do_not_fit(genfast, pictures, tmp_path):
    result = genfast("train", "--data", "toy:moons", "--preset", "digits-vae", "--out", tmp_path / "run")
    assert result.returncode == 1 and "data must be images" in result.stderr
    result = genfast("train", "--data", pictures, "--preset", "folder-64", "--size", "129", "--out", tmp_path / "run")
    assert result.returncode == 1 and "at most 128 pixels" in result.stderr
    result = genfast("train", "--data", tmp_path / "nothing", "--out", tmp_path / "run")
    assert result.returncode == 1 and "nothing" in result.stderr and not (tmp_path / "run").exists()


def test_a_folder_of_pictures(genfast, pictures, tmp_path):
    """Classes and their names are those of its subfolders."""
    run = tmp_path / "run"
    result = genfast("train", "--data", pictures, "--out", run, "--steps", "2", "--batch", "4", "--no-progress")
    assert result.returncode == 0, result.stderr
    model = gf.load(run)
    assert model.shape == (1, 8, 8) and list(model.names) == ["bright", "dark"]
    result = genfast("plot", run, "--out", tmp_path / "plot.png")
    assert result.stdout == f"{tmp_path / 'plot.png'}\n" and (tmp_path / "plot.png").exists(), result.stderr


def test_augmented_images_of_a_file(tmp_path):
    """What is done to them is kept in the run, which goes on with it, and is no other run without it."""
    x = np.random.default_rng(0).integers(0, 256, (12, 3, 12, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    run, quick = tmp_path / "run", {"batch": 4, "progress": False}
    told = {"layout": "hwc", "flip": True, "crop": (2, 8)}
    cli.train.train(run, data=str(tmp_path / "x.npy"), **told, training={"steps": 1, **quick})
    said = json.loads((run / "run.json").read_text())
    kept = {"flip": True, "crop": [2, 8]}
    assert said["words"].items() >= (kept | {"layout": "hwc"}).items() and said["data"]["augment"] == kept
    assert gf.load(run).shape == (3, 2, 8)
    cli.train.train(run, training={"steps": 2, **quick})
    with pytest.raises(ValueError, match=r"data\.augment\.flip"):
        cli.train.train(run, data=str(tmp_path / "x.npy"), layout="hwc", crop=(2, 8), training={"steps": 3, **quick})


def test_broken_pictures_are_left_out_if_that_is_asked(tmp_path):
    pictures, run, quick = tmp_path / "pictures", tmp_path / "run", {"batch": 2, "progress": False}
    pictures.mkdir()
    for name in "abc":
        Image.new("RGB", (8, 8)).save(pictures / f"{name}.png")
    (pictures / "b.png").write_bytes((pictures / "b.png").read_bytes()[:-30])
    told = {"data": str(pictures), "broken": "skip", "preset": "digits-vae"}
    with pytest.warns(UserWarning, match=r"1 of 3 images were skipped, the first: path: .*b.png cannot be read"):
        cli.train.train(run, **told, training={"steps": 1, **quick})
    with pytest.warns(UserWarning, match="1 of 3 images were skipped"):  # who goes on says it no more
        cli.train.train(run, training={"steps": 2, **quick})
    with pytest.raises(ValueError, match=r"b.png cannot be read"):
        cli.train.train(tmp_path / "other", **told | {"broken": None}, training={"steps": 9, **quick})


def test_evaluate_is_told_of_levels_and_of_what_is_cut(monkeypatch, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((12, 3, 12, 3), np.uint8))
    asked = []
    monkeypatch.setattr(
        gf.evaluation, "evaluate", lambda *data, **options: asked.append((*data, options["likelihood"]))
    )
    told = {"layout": "hwc", "crop": (2, 8)}
    for levels in ({}, {"levels": None}, {"levels": 17}):
        with pytest.raises(AttributeError):  # of no report
            cli.evaluate.evaluate(str(tmp_path / "x.npy"), str(tmp_path / "x.npy"), **told, **levels, json=True)
    assert [options for _, _, options in asked] == [{}, {"levels": None}, {"levels": 17}]
    assert all(data.shape == (3, 2, 8) and data.levels == 256 for *both, _ in asked for data in both)


def test_what_stops_it_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["genfast", "train", "--out", "my run", "--no-resume"])
    for error in (KeyboardInterrupt(), SystemExit(143)):
        with pytest.raises(type(error)), errors.going_on(lambda: "run: stopped"):
            raise error
        assert capsys.readouterr().err == "run: stopped; what goes on from there: genfast train --out 'my run'\n"
    with pytest.raises(KeyboardInterrupt), errors.going_on(lambda: None):
        raise KeyboardInterrupt
    assert not capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run(genfast, tmp_path, number, code):
    """And the command that it names goes on from there."""
    run = tmp_path / "run"
    words = ["train", *QUICK, "--out", str(run), "--steps", "100000", "--log-every", "1"]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # who runs in the background ignores it
    command = [sys.executable, "-m", "genfast", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 120
    while not (run / "log.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, number)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == code and "Traceback" not in err, err
    assert err.splitlines()[-1].endswith(f"what goes on from there: genfast {' '.join(words)}"), err
    saved = int(max(path.name for path in (run / "state").iterdir()))
    assert f"stopped after step {saved}, which is saved" in err
