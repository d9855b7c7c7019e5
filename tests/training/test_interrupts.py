"""Signals wait for the end of a step."""

import os
import signal
import threading

import pytest

from genfast.training.interrupts import Interrupts


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
    with pytest.raises(error):
        interrupts.act()


def test_nothing_caught_nothing_done():
    Interrupts(True).act()


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
