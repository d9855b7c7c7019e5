"""What is logged is what TensorBoard reads, once, also after a kill."""

import math
import sys

import pytest

from genfast.training.tensorboard import TensorBoard


def read(folder):
    """name -> [(step, value)]"""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def line(step, **more):
    return {"step": step, "loss": step / 8, "grad_norm": 0.5, **more}


def test_scalars_and_lists(tmp_path):
    board = TensorBoard(tmp_path)
    board(line(4, test_loss=[1.0, 0.5, 1.5], test_loss_by_snr=[[-3.0, 0.0, 2.0, 1.0, 3.0], [0.0, 4.0, 0.25, 0.0, 1.0]]))
    board(line(8, gap=math.nan, few=[math.inf, 1.0], note="words", lr=None))
    assert read(tmp_path) == {  # before it is closed: a kill loses nothing
        "loss": [(4, 0.5), (8, 1.0)],
        "grad_norm": [(4, 0.5), (8, 0.5)],
        "test_loss": [(4, 1.0)],
        "test_loss_low": [(4, 0.5)],
        "test_loss_high": [(4, 1.5)],
        "test_loss_by_snr/0": [(4, 2.0)],
        "test_loss_by_snr/1": [(4, 0.25)],
        "few/1": [(8, 1.0)],
    }
    board.close()
    board.close()


def test_a_run_that_goes_on_replaces_what_came_after_its_state(tmp_path):
    killed = TensorBoard(tmp_path)
    for step in (2, 4, 6, 8):
        killed(line(step))
    resumed = TensorBoard(tmp_path)
    for step in (6, 8, 10):
        resumed(line(step))
    assert [step for step, _ in read(tmp_path)["loss"]] == [2, 4, 6, 8, 10]


def test_a_folder_that_cannot_be_written_to_is_known_before_training(tmp_path):
    TensorBoard(tmp_path / "board")
    assert not list((tmp_path / "board").iterdir())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="folder must be a folder that can be written to"):
        TensorBoard(tmp_path / "file")
    with pytest.raises(TypeError, match="folder must be a path"):
        TensorBoard(3)


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install genfast\[tensorboard\]"):
        TensorBoard(tmp_path)
