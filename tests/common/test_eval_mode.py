"""Eval mode for a while: restored part by part, by the last to leave."""

import threading

import pytest
from torch import nn

from genfast.common.eval_mode import evaluating


def modes(net):
    return [module.training for module in net.modules()]


def test_each_part_gets_its_mode_back():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    net[1].eval()
    before = modes(net)
    with pytest.raises(KeyError), evaluating(net, None, "no module"):
        assert not any(modes(net))
        with evaluating(net):
            assert not any(modes(net))
        assert not any(modes(net))
        raise KeyError
    assert modes(net) == before == [True, True, False, False, False]


def test_the_last_thread_restores():
    net, first_left, both = nn.Dropout(), threading.Event(), threading.Barrier(2)
    seen = []

    def second():
        with evaluating(net):
            both.wait(10)
            first_left.wait(10)
            seen.append(net.training)

    thread = threading.Thread(target=second)
    thread.start()
    with evaluating(net):
        both.wait(10)
    seen.append(net.training)
    first_left.set()
    thread.join()
    assert seen == [False, False] and net.training
