"""The command: verbs, help, and exit codes."""

import builtins
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toys import Ring

import genfast as gf

COMMAND = [sys.executable, "-m", "genfast"]


def launch(*arguments, **environment):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=os.environ | environment)


def test_info_prints_what_info_says():
    result = launch("info")
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(gf.info())
    assert gf.__version__ in result.stdout.splitlines()[0]


def test_info_as_json(genfast):
    report = json.loads(genfast("info", "--json").stdout)
    assert report.keys() == gf.info().keys() and report["genfast"] == gf.__version__


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--help"]])
def test_help(genfast, arguments):
    result = genfast(*arguments)
    assert result.returncode == 0 and "info" in result.stdout and "usage: genfast" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["dance"], ["info", "--jsn"], ["info", "now"]])
def test_bad_commands_exit_with_an_error(genfast, arguments):
    result = genfast(*arguments)
    assert result.returncode == 2 and result.stderr and "Traceback" not in result.stderr


# How errors end the command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["evaluate", "a.npy", "--data", "a.npy", "--size", "0"], "size must be an integer of at least 1; got 0"),
        (["evaluate", "a.npy", "--data", "a.npy", "--n", "1"], "n must be an integer of at least 2; got 1"),
        (["evaluate", "a.npy", "--data", "a.npy", "--levels", "1"], "levels must be an integer of at least 2; got 1"),
        (
            ["evaluate", "a.npy", "--data", "a.npy", "--seed", "-1"],
            "seed must be an integer from 0 to 2^63 - 1; got -1",
        ),
        (["evaluate", "a.npy", "--data", "a.npy", "--level", "1"], "level must be a number in (0, 1); got 1.0"),
        (["evaluate", "a.npy", "--data", "a.npy", "--metrics", "fid"], "metrics must be one of frechet, "),
        (["evaluate", "a.npy", "--data", "a.npy", "--features", "vgg"], "features must be one of pixels, "),
        (["evaluate", "a.npy", "--data", "a.npy", "--features", "classifier"], "features: a classifier needs --train"),
        (
            ["evaluate", "digits:all", "--data", "a.npy"],
            "SAMPLES must be one of digits, digits:train, digits:test",
        ),
        (["evaluate", "a.npy", "--data", "a.npy", "--sampling.solver", "x"], "sampling.solver must be one of ddpm, "),
        (["evaluate", "a.npy", "--data", "a.npy", "--sampling.steps", "0"], "sampling.steps must be an integer of at"),
        (["evaluate", "a.npy", "--data", "a.npy", "--sampling.guidance", "nan"], "sampling.guidance must be a finite"),
        (["evaluate", "a.npy", "--data", "a.npy", "--sampling.clamp", "1", "0"], "sampling.clamp must be (low, high)"),
        (["verify", "--solvers", "lcm", "newton"], "solvers must be one of ddpm, "),
        (["study", "alchemy"], "NAME must be one of dimensionality, "),
        (["study", "manifold", "--seed", "-1"], "seed must be an integer from 0 to 2^63 - 1; got -1"),
    ],
)
def test_a_wrong_argument_is_a_sentence_and_exit_2(genfast, arguments, words):
    """Before any file is opened: these are not there."""
    result = genfast(*arguments)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.startswith(f"genfast {arguments[0]}: {words}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "error, code, words",
    [
        (KeyError("records"), 1, "genfast info: KeyError: 'records'\n"),
        (AttributeError("two\n lines"), 1, "genfast info: AttributeError: two lines\n"),
        (RuntimeError("samples [3] are not\nfinite"), 1, "genfast info: samples [3] are not finite\n"),
        (FloatingPointError(), 1, "genfast info: FloatingPointError\n"),
        (MemoryError(), 1, "genfast info: MemoryError\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_an_error_is_a_sentence(genfast, monkeypatch, error, code, words):
    def fail():
        raise error

    monkeypatch.setattr("genfast._info.info", fail)
    result = genfast("info")
    assert (result.returncode, result.stdout, result.stderr) == (code, "", words)
    monkeypatch.setenv("GENFAST_TRACEBACK", "1")
    with pytest.raises(type(error)):
        genfast("info")


def test_a_traceback_for_who_asks(tmp_path):
    result = launch("evaluate", "nothing.npy", "--data", "nothing.npy", GENFAST_TRACEBACK="1")
    assert result.returncode == 1 and "Traceback" in result.stderr and "FileNotFoundError" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        result = subprocess.run([*COMMAND, "study"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1 and result.stderr == "genfast study: [Errno 28] No space left on device\n"


def test_a_pipe_that_nobody_reads():
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([*COMMAND, "study"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert result.returncode == 141 and not result.stderr


# genfast evaluate -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Samples, collapsed samples and data, as files."""
    for name, x in {
        "good": Ring().sample(150),
        "half": Ring(4).sample(150),
        "data": Ring().sample(150, seed=1),
    }.items():
        np.save(tmp_path / f"{name}.npy", x.numpy())
    return tmp_path


def test_evaluate_prints_table_and_diagnosis(genfast, files):
    quick = ["--metrics", "frechet", "precision_recall", "--out", str(files / "out")]
    result = genfast("evaluate", str(files / "half.npy"), "--data", str(files / "data.npy"), *quick)
    assert result.returncode == 0, result.stderr
    assert "half.npy" in result.stdout and "recall" in result.stdout and "Collapse: parts of the data" in result.stdout
    report = gf.evaluation.Report.load(files / "out" / "report.json")
    assert str(report) in result.stdout and report.data["name"] == "data.npy"


def test_evaluate_as_json(genfast, files):
    result = genfast(
        "evaluate", str(files / "good.npy"), "--data", str(files / "data.npy"), "--metrics", "frechet", "--json"
    )
    expected = gf.evaluate(files / "good.npy", files / "data.npy", metrics="frechet", progress=False)
    assert json.loads(result.stdout) == json.loads(expected.json())


def test_evaluate_a_checkpoint(genfast, files):
    torch.manual_seed(0)
    gf.save(gf.Diffusion(gf.nn.MLP(2, 8), shape=(2,)), files / "run")
    options = ["--n", "70", "--seed", "3", "--sampling.steps", "2", "--sampling.solver", "euler", "--json"]
    result = genfast(
        "evaluate", str(files / "run"), "--data", str(files / "data.npy"), "--metrics", "two_sample", *options
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["model"]["name"] == "Diffusion" and (report["n"], report["seed"]) == (70, 3)
    assert report["sampling"] == {"solver": "euler", "steps": 2, "chunk": 64}


def test_training_data_of_a_classifier_are_opened_once(genfast, files, monkeypatch):
    np.savez(files / "train.npz", x=Ring().sample(60, seed=2).numpy(), label=np.arange(60) % 2)
    opened, open_file = [], builtins.open

    def counted(file, *args, **options):
        opened.append(str(file))
        return open_file(file, *args, **options)

    monkeypatch.setattr(builtins, "open", counted)
    result = genfast(
        "evaluate", str(files / "good.npy"), "--data", str(files / "data.npy"), "--train", str(files / "train.npz"),
        "--features", "classifier", "--metrics", "two_sample",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert [opened.count(str(files / name)) for name in ("good.npy", "data.npy", "train.npz")] == [1, 1, 1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.npy", "--data", "data.npy"], "nothing.npy"),
        (["good.npy", "--data", "data.npy", "--metrics", "memorization"], "no training data were given: train="),
        (["good.npy", "--data", "data.npy", "--features", "inception:nothing.pth"], "nothing.pth"),
        (["good.npy", "--data", "data.npy", "--sampling.steps", "4"], "sampling must be empty"),
    ],
)
def test_evaluate_errors_are_a_sentence(genfast, files, arguments, message, monkeypatch):
    monkeypatch.chdir(files)
    result = genfast("evaluate", *arguments)
    assert result.returncode == 1 and not result.stdout and result.stderr.count("\n") == 1
    assert result.stderr.startswith("genfast evaluate: ") and message in result.stderr


def test_evaluate_exits_with_one():
    result = launch("evaluate", "nothing.npy", "--data", "nothing.npy")
    assert result.returncode == 1 and "Traceback" not in result.stderr and not result.stdout
    assert result.stderr.startswith("genfast evaluate: ") and "nothing.npy" in result.stderr


def test_evaluate_help(genfast):
    text = genfast("evaluate", "--help").stdout
    assert all(option in text for option in ("SAMPLES", "--data", "--metrics", "--sampling.steps", "--train", "--json"))


# genfast study --------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(monkeypatch):
    """The studies it was asked for, in place of two minutes."""
    asked = []

    def run(name, **_):
        asked.append(name)
        return gf.studies.Finding(
            name, "Is it so?", ("n",), [(1,)], [gf.studies.Claim("It is.", True)], lambda figure: None, {"seed": 0}
        )

    monkeypatch.setattr(gf.studies, "run", run)
    return asked


def test_a_study_replaces_its_files(genfast, study, tmp_path):
    for _ in range(2):
        result = genfast("study", "manifold", "--out", str(tmp_path / "new"))
        assert result.returncode == 0 and "manifold.json" in result.stdout, result.stderr
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"manifold.png", "manifold.json"}


def test_a_study_tries_its_folder_first(genfast, study, tmp_path):
    (tmp_path / "manifold.png").write_text("mine")
    for out, words in (
        (tmp_path, "manifold.png, which 'manifold' did not write"),
        (tmp_path / "manifold.png", "folder"),
    ):
        result = genfast("study", "manifold", "--out", str(out))
        assert result.returncode == 1 and result.stderr.startswith("genfast study: ") and words in result.stderr
        assert str(out) in result.stderr
    assert genfast("study", "alchemy", "--out", str(tmp_path / "new")).returncode == 2
    assert not study and not (tmp_path / "new").exists()


# What needs no torch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["train", "--help"], ["sample", "--help"]])
def test_help_does_not_import_torch(arguments):
    """Which takes 2 s. The time is 0.2 s here, and generous for a busy machine."""
    code = (
        "import sys; from genfast import cli; sys.argv = ['genfast', *sys.argv[1:]]\n"
        "try: cli.main()\nexcept SystemExit as left: assert not left.code\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    began = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout and time.perf_counter() - began < 5
    if arguments == ["--version"]:
        assert result.stdout == f"genfast {gf.__version__}\n"


def test_freed_memory_is_kept_unless_it_is_not_wanted(genfast, monkeypatch):
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *what: asked.append(what)))
    genfast("study")
    assert asked == [(-3, 2**31 - 1), (-1, 2**31 - 1)]
    monkeypatch.setenv("GENFAST_MALLOC", "0")
    genfast("study")
    assert len(asked) == 2


def test_plot_says_what_it_cannot(genfast, tmp_path):
    result = genfast("plot", tmp_path)
    assert result.returncode == 1 and result.stderr.startswith("genfast plot: ") and str(tmp_path) in result.stderr
