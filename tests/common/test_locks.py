"""One writer per folder: other runs are told at once, writers wait, and what dies or forks holds nothing back."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
import warnings

import pytest

from genfast.common import locks
from genfast.common.locks import run_in, write_in

HOLD = """
import os, sys
from genfast.common.locks import run_in
with run_in(sys.argv[1]):
    if os.fork() == 0:  # a child that outlives it, as the workers of a data loader may
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    sys.stdin.readline()
"""


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.05)


def test_killed_for_real(tmp_path):
    """After SIGKILL the folder is free at once, though a forked child lives on."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=-1, stdout=-1, text=True)
    child = int(holder.stdout.readline())
    who = f"process {holder.pid} on {socket.gethostname()}"
    with pytest.raises(BlockingIOError, match=f"{tmp_path.name} is being written to by {who}"), run_in(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == f"{who}\n"
    holder.kill()
    holder.wait()
    os.kill(child, 0)  # it is there
    with run_in(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    holder.stdin.close()


def test_a_run_writes_and_nobody_else_runs(tmp_path, impatient):
    (tmp_path / "link").symlink_to(tmp_path)
    with run_in(tmp_path):
        with write_in(tmp_path / "link") as exclusive:
            assert exclusive
            with pytest.raises(TimeoutError), write_in(tmp_path):
                pass
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()}"), run_in(tmp_path / "link"):
            pass
    with write_in(tmp_path), pytest.raises(BlockingIOError), run_in(tmp_path):
        pass
    with run_in(tmp_path), write_in(tmp_path):
        pass
    assert not locks._holds


def test_threads_take_turns(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with write_in(tmp_path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 80


def test_a_forked_child_waits_for_its_parent(tmp_path, impatient):
    with run_in(tmp_path):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with write_in(tmp_path):
                    pass
            except TimeoutError:
                code = 7
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        other = os.open(tmp_path / ".lock", os.O_RDWR)  # and has freed nothing
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)


def test_where_nothing_can_be_locked_it_is_said_once(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(locks, "_warned", set())
    with (
        pytest.warns(RuntimeWarning, match=rf"{tmp_path.name} cannot be locked \(No locks"),
        write_in(tmp_path) as held,
    ):
        assert not held
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with run_in(tmp_path), pytest.raises(BlockingIOError), run_in(tmp_path):  # in one process it holds still
            pass


def test_the_lock_of_another_user_and_no_folder(tmp_path, monkeypatch):
    with write_in(tmp_path):
        pass

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(locks, "_open", refused)
        with write_in(tmp_path) as exclusive:
            assert exclusive
    with run_in(tmp_path):
        (tmp_path / ".lock").unlink()
    with pytest.raises(FileNotFoundError), run_in(tmp_path / "nowhere"):
        pass


def test_a_file_replaced_while_it_is_locked_is_the_lock_of_nothing(tmp_path, monkeypatch):
    flock, calls = fcntl.flock, []

    def replaced(file, how):
        flock(file, how)
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()

    monkeypatch.setattr(fcntl, "flock", replaced)
    with write_in(tmp_path):
        other = os.open(tmp_path / ".lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    assert len(calls) == 2
