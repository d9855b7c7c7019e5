"""Training runs that are killed at random times, and gone on with by the same command, against one that was not.

    python tests/long/kill.py [--n 20] [--steps 400] [--families diffusion vae gan] [--seed 0] [--fork]
        [--processes 2] [--parallel fsdp]

Of each family a script with `gf.fit(..., out=RUN)` runs once to its end. Then it runs again, is killed by SIGKILL n
times and started again each time, until it is done; at random moments, of which every other one is counted from the
first state that a process saves, so that the run comes forward. Weights, averages, the whole last state, all pictures
and the log, but for its times and memory, must have the same bits. Printed is, of each family, where the kills fell.

--fork: processes are forks of one that has imported everything, which saves 3 s a start.
--processes: that train together; by turns all of them are killed, the last, and the first, and the others must end
within a minute.  --parallel: how; with "fsdp" there are no GANs.
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

import genfast as gf
from genfast.common.files import TEMPORARY
from genfast.training.log_file import LogFile
from genfast.training.run_file import read_run
from genfast.training.settings import MODES
from genfast.training.states import read_state, states

TIMES = {"seconds", "samples_per_second", "data_wait", "memory"}  # columns of the log that differ from run to run
SCRIPT = """
import sys
import torch
import genfast as gf

torch.set_num_threads(1)
torch.manual_seed(0)
train, test = gf.data.digits("train"), gf.data.digits("test")
flat_train, flat_test = (gf.data.arrays(data.x.flatten(1)) for data in (train, test))
net = lambda inputs, outputs: gf.nn.FeedForward(inputs, outputs, width=32, depth=2)
{call}
"""
FAMILIES = {  # the call that trains one
    "diffusion": """
unet = gf.nn.UNet(channels=1, width=8, multipliers=(1, 2), blocks=1, classes=10)
gf.fit(gf.Diffusion(unet), train, test=test, {settings})
""",
    "vae": """
gf.fit(gf.VAE(net(64, 16), net(8, 64), latent=8, kl_warmup=2000), flat_train, test=flat_test, {settings})
""",
    "gan": """
gf.fit(gf.GAN(net(8, 64), net(64, 1), latent=8, lazy=4, spectral_norm=True), flat_train, {settings})
""",
}
WHO = (slice(None), slice(-1, None), slice(0, 1))  # of the processes is killed
SETTINGS = "out=sys.argv[1], steps={steps}, batch=16, ema=(0.05, 0.1), log_every=9, save_every=7, progress=False"


class Child:
    """Processes that run a script on a folder together; what they say goes to files beside that."""

    def __init__(self, script, run, fork, ranks):
        self.run = run
        run.mkdir(exist_ok=True)  # so that the lock is first taken at the same place, by who begins and who goes on
        self.first = at(run)
        self.said = [run.with_suffix(f".{rank}.txt") for rank in range(ranks)]
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.processes = []
        for rank, said in enumerate(self.said):
            environment = os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            if fork:
                self.processes.append(Fork(script, run, said, environment))
                continue
            with open(said, "wb") as file:
                command = [sys.executable, script, run]
                options = {"stdout": file, "stderr": subprocess.STDOUT, "env": environment}
                self.processes.append(subprocess.Popen(command, **options))

    def wait(self, seconds=None):
        """Whether they have come to their end, after this time at most; an error if that was a failure."""
        codes = []
        for process in self.processes:
            try:
                codes.append(process.wait(seconds))
            except subprocess.TimeoutExpired:
                return False
        for code, said in zip(codes, self.said):
            if code:
                raise AssertionError(f"{said.stem} ended with {code}:\n{said.read_text(errors='replace')}")
        return True

    def wait_until(self, happened):
        """Or until it has ended: seconds."""
        begun = time.monotonic()
        while not happened() and not self.wait(0.002):
            pass
        return time.monotonic() - begun

    def is_training(self):
        """Whether the folder's lock is its own; for how long torch takes to start varies."""
        return f"process {self.processes[0].pid} on ".encode() in _content(self.run / ".lock")

    def has_come_forward(self):
        """Whether there is another state than when it began."""
        return at(self.run) != self.first

    def kill(self, who):
        """Kills these processes; the others are to end."""
        for process in self.processes[who]:
            process.kill()
        for process in self.processes:
            process.wait(60)


def _content(file):
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


class Fork:
    """The part of a Popen that is needed, of a fork of this process."""

    def __init__(self, script, run, said, environment):
        self.pid = self.child = os.fork()
        if self.pid == 0:
            os.environ.update(environment)
            self._run(script, run, said)

    def _run(self, script, run, said):
        code = 1
        try:
            with open(said, "wb", buffering=0) as file:
                for number in (1, 2):
                    os.dup2(file.fileno(), number)
            sys.argv = [str(script), str(run)]
            exec(compile(script.read_text(), script, "exec"), {"__name__": "__main__"})
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def wait(self, seconds=None):
        end = None if seconds is None else time.monotonic() + seconds
        while self.child:
            found, status = os.waitpid(self.child, 0 if end is None else os.WNOHANG)
            if found:
                self.child, self.code = 0, os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                raise subprocess.TimeoutExpired("fork", seconds)
            else:
                time.sleep(0.001)
        return self.code

    def kill(self):
        if self.child:
            os.kill(self.child, signal.SIGKILL)


def lasting(run):
    """The log, without what differs from run to run."""
    lines = LogFile(run / "log.jsonl").lines()
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def last_state(run):
    """Tensors, by name, and numbers of the last state, without seconds."""
    _, _, tensors, numbers = read_state(states(run / "state")[0], read_run(run)["id"])
    return tensors, {name: value for name, value in numbers.items() if name != "run"}


def require_equal(run, whole):
    """AssertionError with the first thing in which the two runs are not the same, bit for bit."""
    found, expected = lasting(run), lasting(whole)
    assert len(found) == len(expected), f"log: {len(found)} lines instead of {len(expected)}"
    for line, other in zip(found, expected):
        assert line == other, f"log: {line} instead of {other}"
    for folder in (".", "best"):
        if (whole / folder / "model.json").exists():
            found, expected = (gf.load(path / folder) for path in (run, whole))
            assert found.extra == expected.extra, f"{folder}/model.json: {found.extra} instead of {expected.extra}"
            require_equal_tensors(f"{folder}: ", found.state_dict(), expected.state_dict())
    (tensors, numbers), (expected, counted) = last_state(run), last_state(whole)
    require_equal_tensors("state: ", tensors, expected)
    assert numbers == counted, f"state: {numbers} instead of {counted}"
    for folder in ("averages", "samples"):
        names, expected = (sorted(path.name for path in (one / folder).glob("*")) for one in (run, whole))
        assert names == expected, f"{folder}: {names} instead of {expected}"
        for name in names:
            assert (run / folder / name).read_bytes() == (whole / folder / name).read_bytes(), f"{folder}/{name}"


def require_equal_tensors(where, found, expected):
    assert found.keys() == expected.keys(), f"{where}{found.keys() ^ expected.keys()}"
    for name, value in expected.items():
        same = found[name].dtype == value.dtype and found[name].shape == value.shape
        bits = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (found[name], value))
        assert same and torch.equal(*bits), f"{where}{name}"


def being_written(run):
    """Whether a killed process has left something half done."""
    return any(TEMPORARY.fullmatch(path.name) for path in run.rglob(".*"))


def at(run):
    """The step of the newest state; 0 without one."""
    return int(found[0].name) if (found := states(run / "state")) else 0


def killed(family, folder, *, n, steps, seed=0, fork=False, ranks=1, parallel=None):
    """Kills n times, and goes on; the steps from which it went on, and how many kills fell into a write."""
    script = folder / f"{family}.py"
    settings = SETTINGS.format(steps=steps) + f", parallel={parallel!r}"
    script.write_text(SCRIPT.format(call=FAMILIES[family].format(settings=settings)))
    whole = folder / f"{family}-whole"
    first = Child(script, whole, fork, ranks)
    first.wait_until(first.has_come_forward)
    span = 4 * first.wait_until(lambda: False) / (n + 1)
    draw, found, writes, runs = random.Random(seed), [], 0, 0
    run = None
    while len(found) < n or run is not None:
        if run is None:
            runs += 1
            run = folder / f"{family}-{runs}"
        child = Child(script, run, fork, ranks)
        if len(found) < n:
            child.wait_until(child.has_come_forward if len(found) % 2 == 0 else child.is_training)
            if not child.wait(draw.uniform(0, span)):
                child.kill(WHO[len(found) % len(WHO)])
                found.append(at(run))
                writes += being_written(run)
                continue
        child.wait()
        require_equal(run, whole)
        run = None
    return found, writes


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20, help="kills of each family")
    parser.add_argument("--steps", type=int, default=400, help="of a run")
    parser.add_argument("--families", nargs="+", default=[*FAMILIES], choices=[*FAMILIES])
    parser.add_argument("--seed", type=int, default=0, help="of the times")
    parser.add_argument("--fork", action="store_true", help="fork processes instead of starting them")
    parser.add_argument("--processes", type=int, default=1, help="that train together")
    parser.add_argument("--parallel", choices=MODES, help="how they do")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.fork:
        _import_everything()
    with tempfile.TemporaryDirectory() as folder:
        for family in options.families:
            found, writes = killed(
                family, Path(folder), n=options.n, steps=options.steps, seed=options.seed, fork=options.fork,
                ranks=options.processes, parallel=options.parallel,
            )  # fmt: skip
            print(
                f"{family}: {len(found)} kills, {writes} of them in a write, {sum(map(bool, found))} after a state; it "
                f"went on from steps {', '.join(map(str, found))}: the same bits",
                flush=True,
            )


def _import_everything():
    """What the scripts import, and torch at its first step, so that forks have it."""
    gf.data.digits()
    for model in (gf.VAE(gf.nn.FeedForward(2, 2), gf.nn.FeedForward(1, 2), latent=1), gf.Diffusion(gf.nn.MLP(2))):
        gf.fit(model, torch.zeros(4, 2) + torch.arange(4)[:, None], steps=1, batch=2, progress=False)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
