"""What a user hands over becomes Data, and a file is opened once in a run."""

import builtins
import collections
import io
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from toys import normal

import genfast as gf
from genfast.evaluation.reading import NamedData, Reader

QUICK = {"metrics": ["frechet", "memorization"], "progress": False}


@pytest.fixture
def openings(monkeypatch, tmp_path):
    """How often each file below tmp_path is opened to be read, by its path there; tmp_path is the working folder."""
    monkeypatch.chdir(tmp_path)
    counts = collections.Counter()

    def counted(function):
        def wrapped(file, *args, **options):
            if isinstance(file, str | os.PathLike) and "w" not in (*args, options.get("mode", "r"))[0]:
                path = Path(file).resolve()
                if path.is_relative_to(tmp_path):
                    counts[str(path.relative_to(tmp_path))] += 1
            return function(file, *args, **options)

        return wrapped

    for module, name in ((builtins, "open"), (io, "open"), (safetensors.torch, "load_file")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    return counts


@pytest.fixture
def files(tmp_path):
    for seed, name in enumerate("xyz"):
        np.savez(tmp_path / f"{name}.npz", x=normal(60, 4, seed=seed).numpy(), label=np.arange(60) % 3)
    safetensors.torch.save_file({"x": normal(60, 4, seed=3)}, tmp_path / "s.safetensors")
    for i in range(5):
        (tmp_path / "images").mkdir(exist_ok=True)
        gf.data.save_png(tmp_path / "images" / f"{i}.png", normal(1, 64, seed=i).view(1, 1, 8, 8), padding=0)
    torch.manual_seed(0)
    gf.save(gf.Diffusion(gf.nn.MLP(4, 8), shape=(4,)), tmp_path / "run")
    return tmp_path


def test_samples_data_and_training_data_are_opened_once_each(files, openings):
    gf.evaluate("x.npz", "y.npz", train="z.npz", out="out", **QUICK)
    assert openings == {"x.npz": 1, "y.npz": 1, "z.npz": 1}


def test_a_checkpoint_is_read_once(files, openings):
    gf.evaluate("run", "y.npz", train="s.safetensors", sampling={"steps": 2}, **QUICK)
    (weights,) = files.glob("run/model-*.safetensors")
    assert openings == {"y.npz": 1, "s.safetensors": 1, "run/model.json": 1, f"run/{weights.name}": 1}


def test_a_file_of_two_arguments_is_opened_once(files, openings):
    """However it is spelled; the training data themselves are samples to try."""
    gf.evaluate("z.npz", files / "y.npz", train=files / "run" / ".." / "z.npz", **QUICK)
    assert openings == {"z.npz": 1, "y.npz": 1}
    openings.clear()
    gf.evaluate("images", "images", metrics="frechet", progress=False)
    assert openings == {f"images/{i}.png": 4 for i in range(5)}  # header, pixels, and bytes for two fingerprints


def test_models_side_by_side_share_the_files(files, openings):
    models = [("x", "x.npz"), ("s", "s.safetensors"), ("run", "run")]
    found = gf.compare(models, "y.npz", train="z.npz", n=60, **QUICK)
    assert set(openings.values()) == {1} and {"x.npz", "s.safetensors", "y.npz", "z.npz"} <= openings.keys()
    alone = gf.evaluate("x.npz", "y.npz", train="z.npz", n=60, **QUICK)
    assert found.reports["x"] == alone and alone.data["name"] == "y.npz"


def test_nothing_is_read_where_all_are_reports(openings):
    reports = [gf.evaluate(normal(60, 4, seed=seed), normal(60, 4), progress=False) for seed in (1, 2)]
    gf.compare(list(zip("ab", reports)), data="nothing.npz")
    assert not openings


def test_a_later_run_reads_again(files):
    """Files change: nothing outlives a run."""
    runs = [gf.evaluate(normal(60, 4), files / "y.npz", metrics="frechet", progress=False)]
    np.savez(files / "y.npz", x=normal(60, 4, seed=9).numpy())
    runs.append(gf.evaluate(normal(60, 4), files / "y.npz", metrics="frechet", progress=False))
    assert runs[0].data["fingerprint"] != runs[1].data["fingerprint"]


def test_names():
    data = gf.data.Data(normal(5, 4))
    read = Reader().read
    assert read(data, "data") == NamedData("Data", data) and read(NamedData("mine", data), "data").name == "mine"
    for value in (data.x, data.x.numpy(), (data.x, torch.zeros(5, dtype=torch.int64))):
        found = read(value, "data")
        assert found.name == "array" and torch.equal(found.data.x, data.x)


def test_a_name_is_no_path(tmp_path, monkeypatch):
    """A folder may be called "digits", as the data that come with a package are."""
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    gf.data.save_png("digits/0.png", normal(1, 64).view(1, 1, 8, 8), padding=0)
    read = Reader().read
    assert len(read(Path("digits"), "data").data) == len(read("./digits", "data").data) == 1
    assert len(read("digits:test", "model").data) == 450
    with pytest.raises(ValueError, match=r"^model: .*say ./digits or digits:train"):
        read("digits", "model")


def test_errors_name_the_argument(tmp_path):
    for argument in ("model", "train"):
        with pytest.raises(FileNotFoundError, match=f"^{argument}: .*nothing.npy"):
            Reader().read(tmp_path / "nothing.npy", argument)
        with pytest.raises(TypeError, match=f"^{argument}: .*floating-point"):
            Reader().read(np.zeros((5, 3), int), argument)
