"""Everything that only a GPU shows, in stages of at most four minutes:  make bench-gpu STAGE=norms,  make test-gpu

Each stage is a process of its own with a limit of its own; one that fails does not stop the others. What a bench
measures goes into <out>/<card>-<date>.json, stage by stage, what all of them print into a .log beside it.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bare

ROOT, LIMIT = bare.ROOT, 240
NO_SUCH_COMMAND, OUT_OF_TIME = 127, 124  # as shells say

# Arguments of benches/run.py.
BENCH = {
    "noise": "ops --cases normal uniform diffuse diffuse_target denoising_loss denoising_loss_backward "
    "reparameterize reparameterize_backward dot",
    "step": "ops --cases step_ode step_sde step_history step_brownian step_everything step_ddpm step_ddpm_y step_euler "
    "step_euler_y langevin langevin_guided dynamic_threshold runge_kutta_4 runge_kutta_7_error",
    "norms": "ops --compile --cases group_norm_act group_norm_act_backward",
    "modulate": "ops --compile --cases layer_norm_modulate layer_norm_modulate_backward gate_residual_norm_modulate",
    "glu": "ops --compile --cases swiglu swiglu_backward bias_act_gelu_tanh bias_act_gelu_tanh_backward time_embedding",
    "pairs": "metrics",
    "sampling": "sampling",
    "networks": "networks --compile",
    "loops": "loops --compile",
    "training": "training",
    "training_compiled": "training --compile --cases step_unet_ddpm_cifar10",
    "host": "host",
    "launches": "launches",
}
# Arguments of pytest, or the tool of compute-sanitizer.
TEST = {
    "suite": ["tests", "--ignore=tests/gpu", "--ignore=tests/test_layout.py", "-m", "gpu"],
    "twins": ["tests/gpu/test_twins.py", "tests/gpu/test_group_norm.py"],
    "large": ["tests/gpu/test_large.py"],
    "verbs": ["tests/gpu/test_verbs.py"],
    "graphs": ["tests/gpu/test_graphs.py"],
    "memcheck": "memcheck",
    "racecheck": "racecheck",
    "initcheck": "initcheck",
}


def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    if wheels := os.environ.get("GENFAST_WHEELS"):
        bare.prepare(wheels)
    if arguments.device == "cuda" and _run([sys.executable, "-c", _SEEN], {}, LIMIT)["exit"]:
        raise SystemExit("torch sees no GPU; `--device cpu --quick` shows that the stages run")
    name = f"{_card(arguments.device)}-{datetime.date.today().isoformat()}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    log, record = (arguments.out / f"{name}.{ending}" for ending in ("log", "json"))
    results = {}
    for stage in arguments.stages:
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder) / "rows.json"
            command = _command(arguments, stage, rows)
            result = results[stage] = _run(command, _demands(arguments.device, command), arguments.limit)
            text = f"== {stage}\n{result['output']}\n"
            print(text, end="", flush=True)
            with log.open("a") as file:
                file.write(text)
            if arguments.kind == "bench":
                _keep(record, stage, result, rows)
    print(f"\n{'stage':<18}{'exit':>6}{'seconds':>9}")
    for stage, result in results.items():
        print(f"{stage:<18}{result['exit']:>6}{result['seconds']:>9.0f}{_NOTES.get(result['exit'], '')}")
    print(f"log: {log}" + f", rows: {record}" * (arguments.kind == "bench"))
    return int(any(result["exit"] for result in results.values()))


_SEEN = "import sys, torch; sys.exit(not torch.cuda.is_available())"
_NOTES = {OUT_OF_TIME: "  out of time", NO_SUCH_COMMAND: "  no such command"}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, stages in {"bench": BENCH, "test": TEST}.items():
        one = kinds.add_parser(kind)
        one.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(stages))
        one.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="folder for what is written")
        one.add_argument("--device", default="cuda", help="cuda, or cpu: does it run?")
        one.add_argument("--quick", action="store_true", help="benches of tiny shapes")
        one.add_argument("--limit", type=float, default=LIMIT, help="seconds a stage may take")
    arguments = parser.parse_args(argv)
    known = {"bench": BENCH, "test": TEST}[arguments.kind]
    arguments.stages = arguments.stages or [*known]
    if unknown := [stage for stage in arguments.stages if stage not in known]:
        parser.error(f"STAGE must be one of {', '.join(known)}; got {', '.join(unknown)}")
    return arguments


def _command(arguments: argparse.Namespace, stage: str, rows: Path) -> list[str]:
    device = ["--device", arguments.device]
    if arguments.kind == "bench":
        quick = ["--quick"] * arguments.quick
        return [sys.executable, "benches/run.py", *BENCH[stage].split(), *device, *quick, "--json", str(rows)]
    if isinstance(TEST[stage], list):
        return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=20", *TEST[stage]]
    checked = [sys.executable, "tests/gpu/sanitize.py", *device]
    if arguments.device == "cpu":
        return checked
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    # Our kernels alone, but where what torch's have written must be known.
    ours = ["--kernel-name", "kns=genfast"] * (stage != "initcheck")
    return [tool, "--tool", TEST[stage], "--error-exitcode", "1", "--print-limit", "8", *ours, *checked]


def _run(command: list[str], demands: dict[str, str], limit: float) -> dict:
    """Exit status, seconds and output of a command; what it has started dies with it."""
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT, "start_new_session": True}
        try:
            status = _wait(subprocess.Popen(command, cwd=ROOT, env=bare.environment() | demands, **streams), limit)
        except FileNotFoundError as error:
            status = NO_SUCH_COMMAND
            print(error, file=output)
        output.seek(0)
        return {"exit": status, "seconds": round(time.monotonic() - begin, 1), "output": output.read().rstrip()}


def _wait(process: subprocess.Popen, limit: float) -> int:
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return OUT_OF_TIME
    finally:  # also where Ctrl-C ends the wait
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _demands(device: str, command: list[str]) -> dict[str, str]:
    """What a stage wants of its environment: tests that do not skip, and for the sanitizer no cache of memory, in which
    the end of one tensor is the beginning of another."""
    required = {"GENFAST_REQUIRE_CUDA": "1"} if device == "cuda" else {}
    return required | ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"} if "--tool" in command else {})


def _keep(record: Path, stage: str, result: dict, rows: Path) -> None:
    """The stage's part of the record: its rows, or where it makes none what it printed."""
    content = json.loads(record.read_text()) if record.exists() else {}
    measured = json.loads(rows.read_text()) if rows.exists() else {"output": result["output"].split("\n")}
    content[stage] = {"exit": result["exit"], "seconds": result["seconds"], **measured}
    temporary = record.with_name(record.name + ".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(record)


def _card(device: str) -> str:
    """The GPU's name, as a part of a file's: nvidia-h200."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if device == "cpu" or shutil.which(command[0]) is None:
        return device
    found = subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0]
    return re.sub(r"\W+", "-", found.strip().lower()) or device


if __name__ == "__main__":
    sys.exit(main())
