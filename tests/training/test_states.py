"""A state comes back as it was, bit for bit, or is refused; it is whole or not there, wherever its writer is killed."""

import errno
import json
import math
import os
import random
import resource
import signal
import time

import pytest
import torch
from faults import Fate, Killed, no_space

from genfast.common.files import CorruptCheckpoint
from genfast.common.sealed import sealed
from genfast.training import states
from genfast.training.states import DTYPES, prune, read_state, state_path, step_of, write_state

MARK = {"bytes": 0, "sha256": ""}


def write(folder, step, tensors=None, numbers=None, run="r"):
    tensors = {"w": torch.full((3,), float(step))} if tensors is None else tensors
    write_state(state_path(folder, step), run, MARK, tensors, {} if numbers is None else numbers)


def same(a, b):
    """Bit for bit."""
    alike = a.shape == b.shape and a.dtype == b.dtype
    return alike and torch.equal(*(t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)))


def test_tensors_of_every_kind_come_back(tmp_path):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 4, 5, generator=generator)
    whole = torch.randn(6, 6, generator=generator)
    tensors = {f"kind/{dtype}": torch.arange(5).to(dtype) for dtype in (
        torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64, torch.float8_e4m3fn,
    )}  # fmt: skip
    tensors |= {
        "number": torch.tensor(1.5), "none": torch.empty(0), "none of a shape": torch.empty(3, 0, 2),
        "channels last": image.contiguous(memory_format=torch.channels_last), "transposed": whole.t(),
        "every other": whole[::2, 1::3], "expanded": torch.ones(1, 2).expand(4, 2), "shared": whole[1],
        "trained": torch.nn.Parameter(whole), "not finite": torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45]),
        "": torch.ones(1), "__metadata__": torch.ones(2), "../up/\n\0\ud800 ü": torch.ones(1, 2),
        "generator": torch.get_rng_state(),
    }  # fmt: skip
    write(tmp_path, 7, tensors)
    step, mark, found, numbers = read_state(state_path(tmp_path, 7), "r")
    assert (step, mark, numbers) == (7, MARK, {}) and list(found) == list(tensors)
    for name, value in tensors.items():
        assert same(found[name], value.detach()), name
        assert found[name].is_contiguous() and not found[name].requires_grad


@pytest.mark.parametrize("tensor", [torch.ones(2).to_sparse(), torch.ones(2, device="meta"), [1.0], None])
def test_what_is_no_dense_tensor_is_refused(tmp_path, tensor):
    with pytest.raises(TypeError, match=r"tensors\['w'\] must"):
        write(tmp_path, 1, {"w": tensor})
    assert os.listdir(tmp_path) == []


def test_numbers_come_back(tmp_path):
    numbers = {
        "pi": math.pi, "tiny": 5e-324, "large": 2**70, "sum": [0.1 + 0.2, math.inf, {"deep": -math.inf}], "no": None,
        "yes": True, "text": "NaN", "minus": -0.0,
    }  # fmt: skip
    write(tmp_path, 1, numbers=numbers | {"pair": (1, 2), 10: "ten", 9: "nine"})
    assert read_state(state_path(tmp_path, 1), "r")[3] == numbers | {"pair": [1, 2], "10": "ten", "9": "nine"}
    write(tmp_path, 2, numbers={"loss": math.nan})
    assert math.isnan(read_state(state_path(tmp_path, 2), "r")[3]["loss"])
    text = (state_path(tmp_path, 2) / "state.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word}, which is no JSON"))
    with pytest.raises(TypeError):
        write(tmp_path, 3, numbers={"of another kind": object()})
    assert len(os.listdir(tmp_path)) == 2


def test_states_are_sorted_by_step_and_pruned(tmp_path):
    assert states.states(tmp_path / "nowhere") == []
    for step in (5, 20, 100, 10**9, 15):
        write(tmp_path, step)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "123").mkdir()
    found = [path.name for path in states.states(tmp_path)]
    assert found == ["1000000000", "00000100", "00000020", "00000015", "00000005"]
    prune(tmp_path, 2, 10)
    assert sorted(os.listdir(tmp_path)) == ["00000020", "00000100", "1000000000", "123", "notes.txt"]
    prune(tmp_path, 1, None)
    assert sorted(os.listdir(tmp_path)) == ["1000000000", "123", "notes.txt"]


# Damage


def junk(path, content, **changes):
    (path / "state.json").write_text(json.dumps(sealed(content | changes)))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"run": "another"}, "state.json belongs to another run"),
        ({"step": 2}, "state.json is of step 2"),
        ({"step": "1"}, "state.json is not what genfast writes: step missing or wrong"),
        ({"tensors": []}, "state.json is not what genfast writes: tensors"),
        ({"log": {"bytes": "x", "sha256": ""}}, "state.json does not say how far the log"),
        ({"tensors": {}}, "tensors.bin has 12 bytes instead of 0"),
        ({"tensors": {"w": {"dtype": "float32", "shape": [2**40, 2**20]}}}, "tensors.bin has 12 bytes instead of 4611"),
        ({"tensors": {"w": {"dtype": "float32", "shape": [-3]}}}, "state.json describes no tensors"),
        ({"tensors": {"w": {"dtype": "float32", "shape": [3.0]}}}, "state.json describes no tensors"),
        ({"tensors": {"w": {"dtype": "float32", "shape": "3"}}}, "state.json describes no tensors"),
        ({"tensors": {"w": {"dtype": "load", "shape": [3]}}}, "state.json describes no tensors"),
        ({"tensors": {"w": {"dtype": ["float32"], "shape": [3]}}}, "state.json describes no tensors"),
        ({"tensors": {"w": None}}, "state.json describes no tensors"),
        ({"tensors": {"w": {"dtype": "int32", "shape": [3]}}, "sha256": "0"}, "tensors.bin is damaged: its sha256"),
        ({"format": None}, "state.json is damaged: its format is None"),
    ],
)
def test_hostile_headers(tmp_path, changes, words):
    write(tmp_path, 1)
    path = state_path(tmp_path, 1)
    content = json.loads((path / "state.json").read_text())
    del content["manifest_sha256"]
    junk(path, content, **changes)
    with pytest.raises(CorruptCheckpoint, match=words):
        read_state(path, "r")
    junk(path, content)
    assert torch.equal(read_state(path, "r")[2]["w"], torch.ones(3))


def test_other_formats(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "FORMAT", 2)
    write(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"state\.json was written by a newer genfast: upgrade this one"):
        read_state(state_path(tmp_path, 1), "r")


def test_files_that_are_none(tmp_path):
    write(tmp_path, 1)
    path = state_path(tmp_path, 1)
    for name, missing in (("tensors.bin", "is missing, or no file"), ("state.json", "is missing")):
        file = path / name
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(CorruptCheckpoint, match=f"{name} {missing}"):
            read_state(path, "r")
        os.mkfifo(file)  # which would be waited for
        with pytest.raises(CorruptCheckpoint, match=f"{name} is .*no file"):
            read_state(path, "r")
        file.unlink()
        file.mkdir()
        with pytest.raises(CorruptCheckpoint, match=name):
            read_state(path, "r")
        file.rmdir()
        file.write_bytes(content)
    assert read_state(path, "r")[0] == 1


def test_every_dtype_has_a_name():
    assert {torch.float32, torch.bfloat16, torch.bool, torch.uint8} <= set(DTYPES.values())
    assert all(str(dtype) == f"torch.{name}" for name, dtype in DTYPES.items())


# Kills and full disks


@pytest.mark.parametrize("error, forever", [(Killed, True), (no_space, False), (KeyboardInterrupt, False)])
def test_every_call_of_a_write_may_be_the_last(tmp_path, monkeypatch, error, forever):
    """The state is whole or not there, whichever call into the file system fails or is the last."""
    for k in range(1, 100):
        folder = tmp_path / str(k)
        folder.mkdir()
        write(folder, 1)
        with monkeypatch.context() as patch:
            fate = Fate(patch, error, forever, k)
            try:
                write(folder, 2, {"w": torch.full((3,), 2.0), "more": torch.ones(1000)})
            except OSError as failed:
                assert failed.errno == errno.ENOSPC and str(folder) in failed.filename and ".tmp" not in failed.filename
            except (Killed, KeyboardInterrupt):
                pass
        found = states.states(folder)
        for path in found:
            assert read_state(path, "r")[2]["w"].eq(step_of(path)).all()
        assert len(found) == (1 if fate.struck and (folder / "00000002").exists() is False else 2)
        if not fate.struck:
            assert k > 8
            return
        if not forever:
            assert len(os.listdir(folder)) == len(found)  # nothing is left lying
    pytest.fail("it never came to an end")


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Both files and the folder, so that a power cut cannot leave the name without them; and the name, at the end."""
    called = []
    for name in ("fsync", "rename"):
        function = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, f=function, name=name: (called.append(name), f(*args))[1])
    write(tmp_path, 1)
    assert called == ["fsync", "fsync", "fsync", "rename", "fsync"]


@pytest.mark.parametrize("limit", [0, 10_000, 200_000])
def test_a_disk_that_is_full(tmp_path, limit):
    write(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=r"00000002/tensors\.bin"):
            write(tmp_path, 2, {"a": torch.ones(1000), "b": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["00000001"] and read_state(state_path(tmp_path, 1), "r")[0] == 1


def test_killed_for_real(tmp_path):
    """SIGKILL a process that writes and prunes states without a pause: all that have a name are whole."""
    tensors = [{"w": torch.full((3,), float(step)), "more": torch.full((50_000,), float(step))} for step in range(300)]
    first, draw = 1, random.Random(0)
    for _ in range(10):
        child = os.fork()
        if child == 0:
            for step in range(first, 300):
                prune(tmp_path, 2, None)
                write(tmp_path, step, tensors[step])
            os._exit(0)
        while not states.states(tmp_path):
            time.sleep(0.001)
        time.sleep(draw.uniform(0.01, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = states.states(tmp_path)
        for path in found:
            step, _, values, _ = read_state(path, "r")
            assert values["w"].eq(step).all() and values["more"].eq(step).all()
        assert 1 <= len(found) <= 3
        first = step_of(found[0]) + 1
    assert first > 10, "nothing was written between the kills"
    assert all(name.endswith(".tmp") for name in {*os.listdir(tmp_path)} - {path.name for path in found})
