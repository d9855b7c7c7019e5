"""genfast sample: the slice that is asked for, in every form, and drawn once."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from several import finished, start

import genfast as gf
from genfast.cli.sample_files import MOST

QUICK = ["--steps", "2", "--chunk", "4"]


@pytest.fixture
def run(tmp_path):
    """A model of pictures in three classes, two of which have words for names and one a number."""
    torch.manual_seed(0)
    net = gf.nn.UNet(1, 8, (1,), classes=3)
    model = gf.Diffusion(net, shape=(1, 8, 8))
    model.names = ("cat", "dog", "0")
    gf.save(model, tmp_path / "run")
    return tmp_path / "run"


def drawn(run, index, **settings):
    index = torch.as_tensor(index)
    label = settings.pop("label", index % 3)
    return gf.load(run).sample(index, seed=0, steps=2, chunk=4, label=label, progress=False, **settings)


def test_first_and_n_are_a_slice(genfast, run, tmp_path):
    out = tmp_path / "x.npy"
    result = genfast("sample", run, *QUICK, "--first", "5", "--n", "6", "--out", out)
    assert result.returncode == 0 and result.stdout == f"{out}\n", result.stderr
    x = np.load(out)
    assert x.dtype == np.float32 and (torch.from_numpy(x) == drawn(run, range(5, 11))).all()
    genfast("sample", run, *QUICK, "--n", "11", "--out", tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as both:
        assert (both["x"][5:] == x).all() and both["label"].tolist() == [i % 3 for i in range(11)]


@pytest.mark.parametrize("given, label", [("dog", 1), ("1", 1), ("0", 2)])
def test_a_label_is_a_name_or_else_a_number(genfast, run, tmp_path, given, label):
    result = genfast("sample", run, *QUICK, "--n", "3", "--label", given, "--out", tmp_path / "x.npz")
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "x.npz") as found:
        assert found["label"].tolist() == [label] * 3
        assert (torch.from_numpy(found["x"]) == drawn(run, range(3), label=label)).all()


def test_a_sheet(genfast, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = genfast("sample", run, *QUICK, "--n", "6", "--json")
    report = json.loads(result.stdout)
    assert report["paths"] == ["samples.png"] and report["n"] == 6 and report["settings"]["steps"] == 2
    assert Image.open(tmp_path / "samples.png").size[0] > 16


def test_a_folder_goes_on(genfast, run, tmp_path, monkeypatch):
    """What is there is not drawn again; what is drawn later is what would have been drawn at once."""
    out = tmp_path / "pictures"
    assert genfast("sample", run, *QUICK, "--first", "2", "--n", "3", "--out", out).stdout == f"{out}\n"
    names = sorted(path.name for path in out.glob("*.png"))
    assert names == ["0000002.png", "0000003.png", "0000004.png"]
    asked, sample = [], gf.Diffusion.sample

    def counted(self, n, **settings):
        asked.extend(n.tolist())
        return sample(self, n, **settings)

    monkeypatch.setattr(gf.Diffusion, "sample", counted)
    before = {path: path.read_bytes() for path in out.glob("*.png")}
    (out / "0000003.png").unlink()
    assert genfast("sample", run, *QUICK, "--n", "6", "--out", out).returncode == 0
    assert asked == [0, 1, 3, 5] and all(path.read_bytes() == content for path, content in before.items())
    result = genfast("sample", run, *QUICK, "--n", "6", "--seed", "1", "--out", out)
    assert result.returncode == 1 and "differ in seed" in result.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").touch()
    result = genfast("sample", run, *QUICK, "--n", "1", "--out", tmp_path / "mine")
    assert result.returncode == 1 and "which holds letter" in result.stderr


def test_a_file_is_replaced_whole_or_not_at_all(genfast, run, tmp_path, monkeypatch):
    out = tmp_path / "x.npy"
    out.write_bytes(b"before")

    def fail(*_, **__):
        raise RuntimeError("no more")

    monkeypatch.setattr(gf.Diffusion, "sample", fail)
    result = genfast("sample", run, *QUICK, "--out", out)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, "genfast sample: no more")
    assert out.read_bytes() == b"before" and sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.npy"]


SEVERAL = """
import json
import sys
import genfast as gf
from genfast import cli

def fail(*_, **__):
    raise RuntimeError("no more")

_, commands, rank = sys.argv
for words in json.loads(commands):
    if words[-1].endswith("none.npy") and rank == "1":
        gf.Diffusion.sample = fail
    sys.argv = ["genfast", "sample", *words]
    cli.main()
"""


@pytest.mark.slow
def test_two_processes_draw_what_one_does(genfast, run, tmp_path):
    """In every form, by chunks of samples, not of positions; a folder that is begun goes on; the first one speaks, and
    where one fails, all do."""
    asked, begun = [str(run), *QUICK, "--first", "130", "--n", "70", "--out"], tmp_path / "2" / "pictures"
    begun.parent.mkdir()
    genfast("sample", run, *QUICK, "--first", "150", "--n", "9", "--out", begun)
    (begun / "0000151.png").unlink()
    (begun / ".0000151.png.1-00000000.tmp").touch()  # of a process that was killed
    (tmp_path / "2" / "none.npy").write_bytes(b"before")
    (tmp_path / "1").mkdir()
    started = []
    for ranks in (1, 2):
        names = ("sheet.png", "x.npy", "both.npz", "pictures", "none.npy")
        commands = [[*asked, str(tmp_path / str(ranks) / name)] for name in names]
        started += start(["-c", SEVERAL, json.dumps(commands), "RANK"], ranks)
    alone, first, second = finished(started)
    assert (alone.returncode, first.returncode, second.returncode) == (0, 1, 1), (alone, first, second)
    assert first.stderr == second.stderr == "genfast sample: no more\n" and not second.stdout
    assert first.stdout.splitlines() == [command[-1] for command in commands[:-1]]
    (tmp_path / "1" / "none.npy").write_bytes(b"before")
    one, two = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "1", tmp_path / "2")
    )
    assert one == two and len(one) == 4 + 70 + 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--n", "0"], "n must be an integer of at least 1; got 0"),
        (["--first", "-1"], "first must be an integer of at least 0; got -1"),
        (["--n", str(MOST + 1)], f"n must be at most {MOST} for one sheet"),
        (["--out", "x.jpg"], "out must be a .png, .npy or .npz file or a folder; got x.jpg"),
        (["--solver", "newton"], "solver must be one of "),
        (["--label", "cow"], "label must be cat, dog, 0, or a number from "),
        (["--device", "tpu"], "device must be "),
        (["--steps", "0"], "steps must be an integer of at least 1; got 0"),
    ],
)
def test_a_wrong_argument_is_a_sentence_and_exit_2(genfast, run, arguments, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = genfast("sample", run, *arguments)
    assert result.returncode == 2 and not result.stdout and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"genfast sample: {words}"), result.stderr


def test_a_setting_of_other_models(genfast, tmp_path):
    torch.manual_seed(0)
    model = gf.VAE(gf.nn.FeedForward(2, 4, 8), gf.nn.FeedForward(2, 2, 8), latent=2, shape=(2,))
    gf.save(model, tmp_path / "run")
    result = genfast("sample", tmp_path / "run", "--solver", "euler", "--guidance", "2")
    assert result.returncode == 2
    assert result.stderr == "genfast sample: --solver, --guidance: VAE.sample takes no such\n"
    result = genfast("sample", tmp_path / "run", "--n", "5", "--out", tmp_path / "x.npy")
    assert result.returncode == 0 and np.load(tmp_path / "x.npy").shape == (5, 2), result.stderr
    result = genfast("sample", tmp_path / "run", "--n", "5", "--out", tmp_path / "folder")
    assert result.returncode == 2 and "samples that are no images" in result.stderr
    result = genfast("sample", tmp_path / "run", "--n", "5", "--label", "1")
    assert result.returncode == 2 and "a model without classes" in result.stderr


def test_an_average_of_any_length(genfast, tmp_path):
    run = tmp_path / "run"
    told = ["--preset", "toy-mlp", "--batch", "16", "--steps", "40", "--ema", "0.05", "0.1", "--no-progress"]
    result = genfast("train", *told, "--out", run)
    assert result.returncode == 0, result.stderr
    result = genfast("sample", run, "--ema", "0.08", "--n", "4", *QUICK, "--out", tmp_path / "x.npy")
    assert result.returncode == 0, result.stderr
    expected = gf.training.average(run, 0.08).sample(4, seed=0, label=torch.arange(4) % 2, steps=2, chunk=4)
    assert (torch.from_numpy(np.load(tmp_path / "x.npy")) == expected).all()
    assert genfast("sample", run, "--ema", "0.2", "--out", tmp_path / "x.npy").returncode == 1
