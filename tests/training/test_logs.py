"""The bar moves by time, and memory is that of the process."""

import time

import torch

from genfast.training.logs import Bar, memory


def test_the_bar_moves_without_any_log(capsys):
    with Bar(1000) as bar:
        for step in range(1, 4):
            time.sleep(0.25)
            bar.advance(step)
            assert f"{step}/1000" in capsys.readouterr().err


def test_the_bar_begins_where_a_run_goes_on(capsys):
    with Bar(30, 20) as bar:
        for step in range(21, 31):
            bar.advance(step)
        bar.show({"step": 30, "loss": 0.123456, "test_loss": [0.5, 0.4, 0.6]})
    said = capsys.readouterr().err
    assert "20/30" in said and "30/30" in said and "loss=0.1235, held-out=0.5" in said


def test_what_a_log_does_not_say_stays(capsys):
    with Bar(2) as bar:
        bar.show({"step": 1, "loss": 1.0, "test_loss": [0.5, 0.4, 0.6]})
        bar.show({"step": 2, "loss": 0.25})
    assert "loss=0.25, held-out=0.5" in capsys.readouterr().err


def test_losses_may_be_missing(capsys):
    with Bar(2) as bar:
        bar.show({"step": 1, "loss": None, "test_loss": [None, None, None]})
        bar.advance(2)
        bar.show({"step": 2, "loss": float("nan")})
    assert "loss=nan" in capsys.readouterr().err


def test_a_bar_that_is_not_shown(capsys):
    with Bar(3, shown=False) as bar:
        bar.advance(3)
        bar.show({"step": 3, "loss": 1.0})
    assert capsys.readouterr().err == ""


def test_a_step_costs_the_bar_next_to_nothing(capsys):
    with Bar(10_000) as bar:
        start = time.perf_counter()
        for step in range(1, 10_001):
            bar.advance(step)
    assert time.perf_counter() - start < 0.5  # 50 us a step, on the busiest of machines


def test_memory_is_bytes_of_this_process():
    cpu = torch.device("cpu")
    before = memory(cpu)
    held = torch.ones(1000, dtype=torch.uint8)
    assert 2**25 < before < 2**42 and memory(cpu) >= before and held.sum()
