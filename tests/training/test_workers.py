"""Processes that read ahead change nothing but the time it takes; when one fails or dies, the run says why."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

import genfast as gf
from genfast.data.source import Source
from genfast.training.workers import Workers


class Read(Source):
    """Sample i is (i, i), read from nowhere, and spoils as it is told."""

    shape, keepable = (2,), False

    def __init__(self, spoil=lambda index: None):
        self.spoil = spoil

    def __len__(self):
        return 40

    def stored(self, index):
        self.spoil(index)
        assert torch.get_num_threads() == 1 or os.getpid() == PARENT
        return index.float()[:, None].expand(-1, 2).contiguous()

    def identity(self):
        yield b"read"


PATHS = os.pathsep.join([*sys.path, os.path.dirname(__file__)])
PARENT, SPOILED = os.getpid(), gf.data.permutation(40, 0, 0)[39]  # the last sample of an epoch


def killed(index):
    """Whoever reads this sample, but for the run itself, is killed."""
    if SPOILED in index and os.getpid() != PARENT:
        os.kill(os.getpid(), signal.SIGKILL)


def broken(index):
    if SPOILED in index:
        raise ValueError("path: cat.jpg cannot be read")


def trained(data, out=None, **settings):
    torch.manual_seed(0)
    model = gf.Diffusion(gf.nn.MLP(2, width=8, classes=data.classes))
    logs = gf.fit(model, data, **{"steps": 12, "batch": 8, "log_every": 1, "progress": False, "out": out} | settings)
    return [log["loss"] for log in logs], torch.cat([p.detach().flatten() for p in model.parameters()])


def children():
    """Processes that this one has started and that still run."""
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        return set(file.read().split())


@pytest.fixture(scope="module")
def alone():
    return trained(gf.data.Data(Read(), torch.arange(40) % 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_bit(alone, workers):
    before = children()
    torch.manual_seed(5)
    losses, weights = trained(gf.data.Data(Read(), torch.arange(40) % 2), workers=workers)
    assert losses == alone[0] and torch.equal(weights, alone[1])
    assert children() <= before


def test_the_generators_of_the_run_are_left_alone():
    rows = Workers(Read(), lambda step: [torch.arange(3)], 5, 1)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    rows(0)
    assert torch.equal(torch.rand(1), expected)
    rows.close()


def test_a_run_goes_on_at_its_step(alone, tmp_path):
    data = gf.data.Data(Read(), torch.arange(40) % 2)
    with pytest.raises(LookupError):
        trained(data, tmp_path / "run", workers=2, callbacks=[stop_at(7)])
    losses, weights = trained(data, tmp_path / "run", workers=1)  # a free choice
    assert losses == alone[0] and torch.equal(weights, alone[1])


def stop_at(step):
    def callback(log):
        if log["step"] == step:
            raise LookupError

    return callback


def test_steps_in_any_order():
    rows = Workers(Read(), lambda step: [torch.tensor([step]), torch.tensor([10 + step])], 20, 2)
    for step in (4, 5, 5, 2, 3, 19):
        assert [part[0, 0].item() for part in rows(step)] == [step, 10 + step]
    rows.close()


def test_a_worker_that_fails_ends_the_run_with_its_error(tmp_path):
    with pytest.raises(ValueError, match=r"cat.jpg cannot be read"):
        trained(gf.data.Data(Read(broken)), tmp_path / "run", workers=2)


def test_a_worker_that_dies_ends_the_run_and_the_run_is_kept(tmp_path):
    """That is noticed between two steps, so that the last one is saved."""
    steps = []
    with pytest.raises(RuntimeError, match=r"workers must live .*; of 2, number \d died \(killed by SIGKILL\)"):
        trained(
            gf.data.Data(Read(killed)), tmp_path / "run", workers=2, callbacks=[lambda log: steps.append(log["step"])]
        )
    assert steps and (tmp_path / "run" / "state" / f"{steps[-1]:08}").is_dir()


def test_a_folder_is_decoded_once(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(tmp_path / f"{i:02}.png")

    def run(**settings):
        run = gf.Fit(gf.Diffusion(gf.nn.UNet(3, 8, (1,))), gf.data.folder(tmp_path), steps=6, batch=8, **settings)
        return [log["loss"] for log in run], run._feed

    torch.manual_seed(0)
    there, feed = run(log_every=1, progress=False)
    assert feed.source.left == 0 and feed.source.x.dtype == torch.uint8
    torch.manual_seed(0)
    read, feed = run(log_every=1, progress=False, workers=2)
    assert read == there and feed.workers is None, "when all were read, workers have gone"


def test_data_in_memory_need_no_workers():
    run = gf.Fit(gf.Diffusion(gf.nn.MLP(2, width=8)), torch.randn(40, 2), steps=3, workers=4, progress=False)
    assert run._feed.workers is None
    with pytest.raises(ValueError, match="workers must be an integer of at least 0; got -1"):
        gf.Fit(run.model, torch.randn(40, 2), steps=3, workers=-1)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are told apart by /proc")
def test_ctrl_c_is_quiet(tmp_path):
    """Of all processes that a terminal sends it to, only the run says something."""
    script = """
        import os, signal, torch, genfast as gf, test_workers
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def stop(log):
            if log["step"] == 3:
                os.killpg(0, signal.SIGINT)
        try:
            test_workers.trained(gf.data.Data(test_workers.Read()), workers=2, steps=100000, callbacks=[stop])
        except KeyboardInterrupt:
            print("stopped")
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60,
        start_new_session=True, env=os.environ | {"PYTHONPATH": PATHS},
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (0, "stopped\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the file is sparse, and memory is counted in KiB")
def test_twenty_gigabytes_train_in_two(tmp_path):
    """With and without workers: a process holds what it reads."""
    script = """
        import resource, sys, numpy as np, torch, genfast as gf
        n, path = 20 * 10**9 // 20_000, sys.argv[1]
        with open(path, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (n, 5000)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + n * 20_000)
        data = gf.data.load(path)
        for workers in (0, 2):
            model = gf.Diffusion(gf.nn.MLP(5000, width=8), schedule="vp_cosine")
            gf.fit(model, data, steps=3, batch=32, progress=False, workers=workers)
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        print(len(data), *(resource.getrusage(one).ru_maxrss for one in who))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "x.npy"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": PATHS})
    assert found.returncode == 0, found.stderr
    samples, *peaks = map(int, found.stdout.split())
    assert samples == 10**6 and max(peaks) < 2 * 10**6
