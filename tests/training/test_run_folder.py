"""A folder of a run: every row of its table, and that a run killed anywhere finds a whole state again."""

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from faults import Fate, Killed, no_space
from long import fuzz_runs

import genfast as gf
from genfast.common.files import CorruptCheckpoint
from genfast.training.description import describe_run
from genfast.training.run_file import read_run
from genfast.training.run_folder import RunFolder

SETTINGS = {"steps": 100, "batch": 8, "seed": 3, "lr": 1e-3, "save_every": 10}


def model():
    return gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))


def described(**settings):
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    return describe_run(model(), gf.data.arrays(points), SETTINGS | settings)


DESCRIPTION, LONGER = described(), described(steps=200)


def begun(path, description=DESCRIPTION, **options):
    """What `open` says of the folder, without a warning."""
    folder = RunFolder(path, **options)
    with folder.claimed(), warnings.catch_warnings():
        warnings.simplefilter("error")
        return folder.open(description)


@pytest.fixture
def memory(tmp_path):
    """A folder in memory, where there is one: for thousands of files."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def tensors(step):
    return {"w": torch.full((4,), float(step)), "n": torch.tensor(step)}


def trained(path, steps=range(10, 60, 10), finish=False, description=DESCRIPTION, **options):
    """A run that logs at every fifth step and saves at these."""
    folder = RunFolder(path, **options)
    with folder.claimed():
        start = folder.open(description)
        for step in range(start.step + 5, max(steps, default=0) + 6, 5):
            folder.log({"step": step, "loss": 1 / step})
            if step in steps:
                folder.save(step, tensors(step), {"loss": 1 / step})
        if finish:
            folder.save_model(model(), step)
            folder.finish()
    return folder


def is_at(start, step):
    assert start.step == step and start.numbers == {"loss": 1 / step}
    assert start.tensors["w"].eq(step).all() and start.tensors["n"] == step
    return True


def names(path):
    return sorted(name for name in os.listdir(path) if name != ".lock")


# The table


def test_nothing_there(tmp_path):
    start = begun(tmp_path / "deep" / "run")
    assert (start.step, start.tensors, start.numbers, start.finished, start.words) == (0, None, None, False, None)
    assert names(tmp_path / "deep" / "run") == ["run.json"]
    run = read_run(tmp_path / "deep" / "run")
    assert run["settings"] == SETTINGS and run["data"]["samples"] == 20 and run["model"]["model"] == "Diffusion"


def test_unfinished(tmp_path):
    folder = trained(tmp_path)
    assert names(tmp_path) == ["log.jsonl", "run.json", "state"]
    assert names(tmp_path / "state") == ["00000040", "00000050"]
    assert [line["step"] for line in folder.history()] == list(range(5, 60, 5))
    before = read_run(tmp_path)
    start = begun(tmp_path)
    assert is_at(start, 50) and not start.finished
    assert start.words == f"{tmp_path} goes on from step 50 of 100"
    assert [line["step"] for line in folder.history()] == list(range(5, 55, 5))  # as it was then
    assert read_run(tmp_path) == before


def test_finished(tmp_path):
    trained(tmp_path, range(10, 110, 10), finish=True)
    start = begun(tmp_path)
    assert (
        is_at(start, 100) and start.finished and start.words == f"{tmp_path} holds this run, finished after 100 steps"
    )
    assert gf.load(tmp_path).extra == {"step": 105, "batch": 8, "seed": 3}
    shutil.rmtree(tmp_path / "state" / "00000100")  # then there is something left to do
    assert not begun(tmp_path).finished


def test_saved_at_the_end_and_killed_before_it_was_finished(tmp_path):
    trained(tmp_path, range(10, 110, 10))
    start = begun(tmp_path)
    assert is_at(start, 100) and not start.finished


def test_steps_are_raised_and_it_is_said_once(tmp_path):
    trained(tmp_path, range(10, 110, 10), finish=True)
    longer = described(steps=1200)
    RunFolder(tmp_path).look(longer)
    start = begun(tmp_path, longer)
    assert is_at(start, 100) and not start.finished
    assert start.words.startswith(
        f"{tmp_path} goes on from step 100, with 1,200 steps instead of 100: from here on the l"
    )
    assert read_run(tmp_path)["settings"]["steps"] == 1200 and read_run(tmp_path)["finished"] is None
    assert begun(tmp_path, longer).words == f"{tmp_path} goes on from step 100 of 1,200"
    with pytest.raises(ValueError, match=r"steps +1200 +100"):
        begun(tmp_path)


def test_what_may_differ_is_kept_as_it_was_last(tmp_path):
    trained(tmp_path)
    start = begun(tmp_path, described(save_every=7, device="cuda"))
    assert is_at(start, 50) and read_run(tmp_path)["settings"] == SETTINGS | {"save_every": 7, "device": "cuda"}


@pytest.mark.parametrize("call", [RunFolder.look, lambda folder, said: begun(folder.path, said)])
def test_another_run(tmp_path, call):
    trained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    with pytest.raises(ValueError) as caught:
        call(RunFolder(tmp_path), described(lr=0.5, seed=4))
    assert str(caught.value) == (
        f"out must be a new folder, or hold this run; got {tmp_path}, which holds another one:\n"
        "    name  there  here\n"
        "    seed  3      4\n"
        "    lr    0.001  0.5\n"
        "pass another folder, or what is there"
    )
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}


def test_other_settings_where_nothing_was_saved(tmp_path):
    """Such as after an error in the first step: nothing is lost."""
    folder = trained(tmp_path, ())
    first = read_run(tmp_path)["id"]
    start = begun(tmp_path, described(lr=0.5))
    assert start.step == 0 and start.tensors is None and not start.finished
    assert start.words == f"{tmp_path} holds a run that was not saved before it ended: it starts anew"
    assert folder.history() == [] and read_run(tmp_path)["settings"]["lr"] == 0.5 and read_run(tmp_path)["id"] != first


@pytest.mark.parametrize(
    "there, named",
    [
        (["model.json"], "model.json"),
        (["b.txt", "a.txt", "sub/c"], "a.txt, b.txt, sub"),
        ([*"abcdefg"], "a, b, c, d, e and 2 more"),
        (["log.jsonl", "state/00000010/state.json"], "log.jsonl, state"),
    ],
)
def test_foreign_files(tmp_path, there, named):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    for call in (RunFolder(tmp_path).look, lambda said: begun(tmp_path, said)):
        with pytest.raises(
            FileExistsError, match=rf"out must be an empty folder, or that of a run; .* holds {named} and"
        ):
            call(DESCRIPTION)
    assert all((tmp_path / name).read_text() == "mine" for name in there)


def test_what_counts_as_nothing(tmp_path):
    for name in (".hidden/x", "board/events.out.tfevents.1.host", "events.out.tfevents.2", "board/deep/.x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert begun(tmp_path).words is None
    shutil.rmtree(tmp_path / "board")
    assert begun(tmp_path, description=DESCRIPTION).step == 0
    assert begun(tmp_path).words is not None


def test_files_beside_a_run_are_nobodys_business(tmp_path):
    trained(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert is_at(begun(tmp_path), 50) and (tmp_path / "notes.txt").read_text() == "mine"


def test_the_run_json_of_another_program(tmp_path):
    (tmp_path / "run.json").write_text('{"name": "my run"}')
    with pytest.raises(FileExistsError, match=r"run\.json is of another program"):
        begun(tmp_path)


def test_without_resume_the_folder_is_empty(tmp_path):
    assert begun(tmp_path / "new", resume=False).step == 0
    for call in (
        RunFolder(tmp_path / "new", resume=False).look,
        lambda said: begun(tmp_path / "new", said, resume=False),
    ):
        with pytest.raises(FileExistsError, match=r"out must be an empty folder with resume=False; .* holds run\.json"):
            call(DESCRIPTION)
    (tmp_path / "run.json").write_text("damaged")
    with pytest.raises(FileExistsError, match=r"resume=False; .* holds new, run\.json"):
        begun(tmp_path, resume=False)


def test_two_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()

    def hold():
        with RunFolder(tmp_path).claimed():
            ready.set()
            done.wait(60)

    process = context.Process(target=hold)
    process.start()
    assert ready.wait(60)
    try:
        for call in (RunFolder(tmp_path).look, lambda said: begun(tmp_path, said)):
            with pytest.raises(BlockingIOError, match=rf"is being written to by process {process.pid} on"):
                call(DESCRIPTION)
    finally:
        done.set()
        process.join()
    assert begun(tmp_path).step == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"path": 3}, "out must be a path"), ({"path": "model.pt"}, "out must be a folder"),
        ({"path": "run", "resume": 1}, "resume must be True or False"),
        ({"path": "run", "keep": 0}, "keep must be an integer of at least 1"),
        ({"path": "run", "keep_every": 0}, "keep_every must be an integer of at least 1"),
    ],
)  # fmt: skip
def test_arguments(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        RunFolder(**arguments)
    assert not os.path.exists("run")


# What is kept


def test_keep_and_keep_every(tmp_path):
    trained(tmp_path, keep=3, keep_every=20)
    assert names(tmp_path / "state") == ["00000020", "00000030", "00000040", "00000050"]
    trained(tmp_path, [60], keep=1)
    assert names(tmp_path / "state") == ["00000060"]


def test_a_step_is_saved_once(tmp_path):
    folder = trained(tmp_path)
    with folder.claimed():
        folder.open(DESCRIPTION)
        folder.save(50, tensors(7), {})
    assert is_at(begun(tmp_path), 50)


def test_model_and_best(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.claimed():
        folder.open(DESCRIPTION)
        folder.save_best(model(), 5)
        folder.save_model(model(), 10)
    assert gf.load(tmp_path).extra["step"] == 10 and gf.load(tmp_path / "best").extra["step"] == 5


def test_what_was_measured_is_kept_beside_the_model_as_new(tmp_path):
    new = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1))
    points = gf.data.arrays(torch.randn(20, 2))
    description = describe_run(new, points, SETTINGS)
    folder = RunFolder(tmp_path)
    with folder.claimed():
        folder.open(description)
        new.shape = (2,)  # as measuring does
        folder.measured(new)
        folder.save(10, tensors(10), {"loss": 1 / 10})
    run = read_run(tmp_path)
    assert run["model"]["config"]["shape"] is None and run["measured"]["config"]["shape"] == [2]
    assert is_at(begun(tmp_path, description), 10)  # a model as new
    assert is_at(begun(tmp_path, describe_run(new, points, SETTINGS)), 10)  # the one that was trained
    assert read_run(tmp_path) == run
    with pytest.raises(ValueError, match=r"model\.config\.shape +(null|\[2\]) +\[3\]"):
        begun(tmp_path, describe_run(gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(3,)), points, SETTINGS))


def test_words_of_the_command_are_kept(tmp_path):
    folder = RunFolder(tmp_path)
    folder.words = {"data": "digits", "preset": "digits-unet"}
    with folder.claimed():
        folder.open(DESCRIPTION)
        folder.save(10, tensors(10), {"loss": 1 / 10})
    assert is_at(begun(tmp_path), 10)
    assert read_run(tmp_path)["words"] == folder.words


# Damage


def flip(path, place=-2):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_damaged_newest_state(tmp_path):
    folder = trained(tmp_path)
    flip(tmp_path / "state" / "00000050" / "tensors.bin")
    RunFolder(tmp_path).look(DESCRIPTION)
    with folder.claimed():
        with pytest.warns(UserWarning, match=r"00000050/tensors\.bin is damaged: .*: the run goes on from .* step 40"):
            start = folder.open(DESCRIPTION)
        assert is_at(start, 40)
        assert [line["step"] for line in folder.history()] == list(range(5, 45, 5))
        assert names(tmp_path / "state") == ["00000040", "00000050"]  # somebody may want to look at it
        folder.save(45, tensors(45), {"loss": 1 / 45})
    assert names(tmp_path / "state") == ["00000040", "00000045"]
    assert is_at(begun(tmp_path), 45)


def test_a_damaged_state_is_replaced_by_a_whole_one_of_its_step(tmp_path):
    folder = trained(tmp_path)
    (tmp_path / "state" / "00000050" / "state.json").unlink()
    with folder.claimed(), pytest.warns(UserWarning, match=r"00000050/state\.json is missing"):
        folder.open(DESCRIPTION)
        folder.save(50, tensors(50), {"loss": 1 / 50})
    assert is_at(begun(tmp_path), 50)


@pytest.mark.parametrize("call", [RunFolder.look, lambda folder, said: begun(folder.path, said)])
def test_no_whole_state(tmp_path, call):
    trained(tmp_path)
    for step in (40, 50):
        flip(tmp_path / "state" / f"000000{step}" / "state.json")
    with pytest.raises(
        CorruptCheckpoint, match=r"state holds no whole state, out of 2: .*00000050/state\.json is damaged"
    ):
        call(RunFolder(tmp_path), DESCRIPTION)
    assert names(tmp_path / "state") == ["00000040", "00000050"]


def test_states_that_were_removed(tmp_path):
    trained(tmp_path, range(10, 110, 10), finish=True)
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(CorruptCheckpoint, match=r"state holds no state, .* gf\.load\('.*'\) reads the model"):
        begun(tmp_path)


def test_a_state_of_another_run(tmp_path):
    for name in ("one", "two"):
        trained(tmp_path / name)
    shutil.rmtree(tmp_path / "one" / "state" / "00000050")
    shutil.copytree(tmp_path / "two" / "state" / "00000050", tmp_path / "one" / "state" / "00000050")
    folder = RunFolder(tmp_path / "one")
    with folder.claimed(), pytest.warns(UserWarning, match=r"00000050/state\.json belongs to another run"):
        assert is_at(folder.open(DESCRIPTION), 40)


def test_a_damaged_log_does_not_end_the_run(tmp_path):
    folder = trained(tmp_path)
    flip(tmp_path / "log.jsonl", 5)
    with folder.claimed(), pytest.warns(UserWarning, match=r"log\.jsonl is damaged"):
        assert is_at(folder.open(DESCRIPTION), 50)
    assert [line["step"] for line in folder.history()] == list(range(10, 55, 5))


# Kills, full disks, folders that cannot be written to


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    folder = trained(tmp_path)
    left = [".run.json.9-0123abcd.tmp", "state/.00000060.9-0123abcd.tmp/tensors.bin", "samples/.x.png.9-0123abcd.tmp"]
    kept = [".model.json.9-0123abcd.tmp", ".notes.tmp", "state/.mine.tmp"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with folder.claimed():
        folder.open(DESCRIPTION)
        assert all((tmp_path / name).exists() == (name in kept) for name in left + kept)
        (tmp_path / left[1]).parent.mkdir()
        folder.save(60, tensors(60), {"loss": 1 / 60})
    assert names(tmp_path / "state") == [".mine.tmp", "00000050", "00000060"]


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("error, forever", [(Killed, True), (no_space, False)])
def test_every_call_of_a_run_may_be_its_last(memory, monkeypatch, error, forever, keep):
    """Opening, logging, saving over a damaged state, pruning, finishing: wherever it ends, a whole state is found, the
    log fits it, and the next process goes on to the end."""
    first = memory / "first"
    trained(first, range(10, 50, 10))
    flip(first / "state" / "00000040" / "state.json")
    for k in range(1, 300):
        path = memory / str(k)
        shutil.copytree(first, path)
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fate = Fate(patch, error, forever, k)
            try:
                trained(path, [40, 50], description=LONGER, finish=True, keep=keep)
            except OSError as failed:
                assert failed.errno == errno.ENOSPC and str(path) in str(failed)
            except Killed:
                pass
        folder = RunFolder(path)
        with folder.claimed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = folder.open(LONGER)
            assert start.step in (30, 40, 50) and is_at(start, start.step)
            assert [line["step"] for line in folder.history()] == list(range(5, start.step + 5, 5))
            folder.save(60, tensors(60), {"loss": 1 / 60})
        assert is_at(begun(path, LONGER), 60)
        assert names(path / "state") == [f"000000{max(start.step, 10)}", "00000060"]
        if not fate.struck:
            assert k > 60
            return
    pytest.fail("it never came to an end")


@pytest.mark.parametrize("error", [Killed, no_space])
def test_a_new_run_may_end_anywhere(memory, monkeypatch, error):
    for k in range(1, 100):
        path = memory / str(k)
        with monkeypatch.context() as patch:
            fate = Fate(patch, error, error is Killed, k)
            with contextlib.suppress(OSError, Killed):
                begun(path)
        RunFolder(path).look(DESCRIPTION)
        assert begun(path).step == 0 and names(path) == ["run.json"]
        if not fate.struck:
            return
    pytest.fail("it never came to an end")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path):
    trained(tmp_path)
    os.chmod(tmp_path, 0o500)
    try:
        for call in (RunFolder(tmp_path).look, lambda said: begun(tmp_path, said)):
            with pytest.raises(PermissionError, match="out must be a folder that can be written to"):
                call(DESCRIPTION)
    finally:
        os.chmod(tmp_path, 0o700)


def test_a_file_in_the_place_of_a_folder(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.claimed():
        folder.open(DESCRIPTION)
        (tmp_path / "state").write_text("mine")
        with pytest.raises(FileExistsError, match="state"):
            folder.save(10, tensors(10), {})
    assert json.loads((tmp_path / "run.json").read_text())["finished"] is None


def test_damaged_at_random(memory, one_thread):
    """The whole is fuzz_runs.py."""
    found = fuzz_runs.fuzz(50, memory)
    assert sum(found.values()) == 50 and len(found) > 8
