"""Signals wait for the end of a step."""

import os
import signal
import threading

import pytest

from genfast.training.interrupts import Interrupts


@pytest.fixture(autouse=True)
def plain():
    """Signals do what Python makes them do: in the background Ctrl-C is ignored."""
    plain = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in plain.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_first_one_is_noted_and_the_second_acts(number, error):
    before = signal.getsignal(number)
    interrupts, done = Interrupts(True), []
    with pytest.raises(error) as raised, interrupts.held():
        os.kill(os.getpid(), number)
        done.append(interrupts.caught)
        os.kill(os.getpid(), number)
        done.append("never")
    assert done == [number] and signal.getsignal(number) is before
    assert number != signal.SIGTERM or raised.value.code == 143
    assert [interrupts.news(), interrupts.news()] == [number, 0]
    with pytest.raises(error):
        interrupts.act(number)


def test_nothing_caught_nothing_done():
    interrupts = Interrupts(True)
    interrupts.act(interrupts.news())


def test_the_same_signal_from_two_sides():
    interrupts = Interrupts(True, once=True)
    with interrupts.held():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.caught == signal.SIGINT


def test_where_signals_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts(False).held():
        assert signal.getsignal(signal.SIGINT) is before

    def elsewhere():
        with Interrupts(True).held():
            found.append(signal.getsignal(signal.SIGINT) is before)

    found = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [True]


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts = Interrupts(True)
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.caught is None and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_the_caller_is_called_at_the_end():
    told = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        interrupts = Interrupts(True)
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not told
        interrupts.act(interrupts.news())
        assert told == [signal.SIGTERM] and interrupts.caught is None
    finally:
        signal.signal(signal.SIGTERM, before)
