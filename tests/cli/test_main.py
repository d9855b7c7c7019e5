"""The command: verbs, help, and exit codes."""

import builtins
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from toys import Ring

import genfast as gf
from genfast import cli


@pytest.fixture
def genfast(monkeypatch, capsys):
    """The command in this process, as one that is completed: a launch would take 2 s."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["genfast", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code or 0
        out, err = capsys.readouterr()
        if isinstance(code, str):  # as Python does with it
            code, err = 1, f"{err}{code}\n"
        return subprocess.CompletedProcess(sys.argv, code, out, err)

    return run


def launch(*arguments):
    command = [sys.executable, "-m", "genfast", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


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
    assert result.returncode != 0 and result.stderr and "Traceback" not in result.stderr


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
    assert report["sampling"] == {"solver": "euler", "steps": 2}


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
        (["good.npy", "--data", "data.npy", "--metrics", "fid"], "metrics must be one of frechet"),
        (["good.npy", "--data", "data.npy", "--metrics", "memorization"], "no training data were given: train="),
        (["good.npy", "--data", "data.npy", "--features", "inception:nothing.pth"], "nothing.pth"),
        (["good.npy", "--data", "data.npy", "--features", "classifier"], "a classifier needs --train"),
        (["good.npy", "--data", "data.npy", "--sampling.steps", "4"], "sampling must be empty"),
    ],
)
def test_evaluate_errors_are_a_sentence(files, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["genfast", "evaluate", *arguments])
    with pytest.raises(SystemExit, match=message) as error:
        cli.main()
    assert error.value.code.startswith("genfast evaluate: ") and not capsys.readouterr().out


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
    assert genfast("study", "alchemy", "--out", str(tmp_path / "new")).returncode == 1
    assert not study and not (tmp_path / "new").exists()
