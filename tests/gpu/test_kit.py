"""The kit itself, without a GPU: its stages are commands that run; one that fails is reported and stops no other."""

import json
import re
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benches"))
    monkeypatch.delenv("GENFAST_WHEELS", raising=False)
    return pytest.importorskip("gpu_stages")


def record(folder):
    (file,) = folder.glob("cpu-*.json")
    return json.loads(file.read_text())


def test_every_bench_stage_is_understood(gpu):
    run = pytest.importorskip("run")
    for arguments in gpu.BENCH.values():
        if arguments.split()[0] in run.BENCHES:
            run._parse([*arguments.split(), "--device", "cuda", "--json", "rows.json"])


def test_the_record_names_every_stage(gpu):
    readme = (ROOT / "benches" / "README.md").read_text()
    assert set(gpu.BENCH) | set(gpu.TEST) <= set(re.findall(r"\w+", readme.partition("## On a GPU")[2]))


def test_every_test_stage_is_there(gpu):
    for arguments in gpu.TEST.values():
        assert isinstance(arguments, str) or (ROOT / arguments[0]).exists()


def test_stages_run_by_themselves_and_share_a_record(gpu, tmp_path, capfd):
    for stage in ("noise", "pairs"):
        assert gpu.main(["bench", stage, "--device", "cpu", "--quick", "--out", str(tmp_path)]) == 0
    content = record(tmp_path)
    assert set(content) == {"noise", "pairs"}
    for stage in content.values():
        assert stage["exit"] == 0 and stage["rows"] and stage["torch"] and stage["date"]
    out = capfd.readouterr().out
    assert "denoising_loss_backward" in out and str(tmp_path) in out
    (log,) = tmp_path.glob("*.log")
    assert "denoising_loss_backward" in log.read_text() and "kernel_sums_rbf" in log.read_text()


def test_failures_and_timeouts_do_not_stop_the_rest(gpu, tmp_path, monkeypatch, capfd):
    late, begin = tmp_path / "late", time.monotonic()
    sleep = f"import subprocess; subprocess.run(['sh', '-c', 'sleep 2; touch {late}'])"
    commands = {
        "absent": ["no-such-command"],
        "broken": [sys.executable, "-c", "print('why'); raise SystemExit(3)"],
        "slow": [sys.executable, "-c", sleep],
        "good": [sys.executable, "-c", "print('done')"],
    }
    monkeypatch.setattr(gpu, "BENCH", dict.fromkeys(commands))
    monkeypatch.setattr(gpu, "_command", lambda arguments, stage, rows: commands[stage])
    assert gpu.main(["bench", "--device", "cpu", "--limit", "1", "--out", str(tmp_path)]) == 1
    content = record(tmp_path)
    assert {stage: found["exit"] for stage, found in content.items()} == {
        "absent": 127, "broken": 3, "slow": 124, "good": 0,
    }  # fmt: skip
    assert content["broken"]["output"] == ["why"] and content["good"]["output"] == ["done"]
    assert "out of time" in capfd.readouterr().out
    time.sleep(max(0, begin + 4 - time.monotonic()))
    assert not late.exists(), "what a stage has started ends with it"
    assert gpu.main(["bench", "good", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert record(tmp_path).keys() == commands.keys()


def test_what_a_stage_had_measured_when_its_time_was_up_is_kept(gpu, tmp_path, monkeypatch):
    def command(arguments, stage, rows):
        text = f"import pathlib, time; pathlib.Path({str(rows)!r}).write_text('{{\"rows\": [1]}}'); time.sleep(9)"
        return [sys.executable, "-c", text]

    monkeypatch.setattr(gpu, "_command", command)
    assert gpu.main(["bench", "noise", "--device", "cpu", "--limit", "0.5", "--out", str(tmp_path)]) == 1
    assert record(tmp_path)["noise"]["rows"] == [1] and record(tmp_path)["noise"]["exit"] == 124


def test_without_a_gpu_that_is_said_at_once(gpu, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit, match="torch sees no GPU"):
        gpu.main(["test", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_an_unknown_stage_is_refused(gpu, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["test", "nonsense", "--device", "cpu"])
    assert "STAGE must be one of suite, twins" in capsys.readouterr().err


def test_the_cases_for_the_sanitizer_run(gpu, tmp_path, capfd):
    assert gpu.main(["test", "memcheck", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert "calls of" in capfd.readouterr().out


def test_the_sanitizer_is_told_to_fail_and_to_see_every_tensor_by_itself(gpu):
    arguments = gpu._parse(["test", "memcheck"])
    for stage in ("memcheck", "racecheck", "initcheck"):
        command = gpu._command(arguments, stage, Path("rows.json"))
        assert command[1:5] == ["--tool", stage, "--error-exitcode", "1"] and command[-1] == "cuda"
        assert ("kns=genfast" in command) == (stage != "initcheck")
    wanted = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "GENFAST_REQUIRE_CUDA": "1"}
    assert gpu._demands("cuda", command) == wanted and not gpu._demands("cpu", ["pytest"])


def test_a_bare_machine_unpacks_its_wheels_once(gpu, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(gpu.bare, "SITE", tmp_path / "site")
    monkeypatch.setenv("GENFAST_WHEELS", str(tmp_path))
    monkeypatch.setattr(gpu.bare.subprocess, "run", lambda command, **rest: calls.append((command, rest)))
    with pytest.raises(SystemExit, match="GENFAST_WHEELS must be a folder with wheels"):
        gpu.bare.prepare(str(tmp_path))
    (tmp_path / "tyro-1.0-py3-none-any.whl").touch()
    (tmp_path / "site").mkdir()
    for _ in range(2):
        gpu.bare.prepare(str(tmp_path))
        (tmp_path / "site").mkdir(exist_ok=True)
    pip, build, again = calls
    assert pip[0][1:4] == ["-m", "pip", "install"] and pip[0][-1].endswith("tyro-1.0-py3-none-any.whl")
    assert build == again and build[0][1:] == ["setup.py", "-q", "build_ext", "--inplace"]
    assert build[1]["env"]["PYTHONPATH"].startswith(f"{ROOT}:{tmp_path / 'site'}")
