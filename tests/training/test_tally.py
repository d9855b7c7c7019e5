"""What is counted on the device, and read at once."""

import math

import torch

from genfast.training.tally import Tally

CPU, YES, NO = torch.device("cpu"), torch.tensor(True), torch.tensor(False)


def add(tally, losses, norm, good=YES, parameter=-1.0, finite=YES):
    values = torch.tensor(losses), torch.tensor(norm), good, torch.tensor(parameter, dtype=torch.float64), finite
    tally.add(*values)


def test_means_are_those_of_good_steps_since_the_last_log():
    tally = Tally(2, CPU)
    add(tally, [1.0, 2.0], 3.0)
    add(tally, [math.nan, 5.0], math.inf, good=NO, parameter=4.0)
    add(tally, [3.0, 4.0], 5.0)
    reading = tally.read()
    assert reading.losses == [2.0, 3.0] and reading.norm == 4.0
    assert reading[2:] == (2, 1, 0, 4, 0)
    tally.logged()
    assert all(map(math.isnan, tally.read().losses)) and tally.read()[2:] == (2, 1, 0, 4, 0)
    add(tally, [7.0, 8.0], 9.0)
    assert tally.read().losses == [7.0, 8.0]


def test_skipped_steps_on_end():
    tally = Tally(1, CPU)
    for good, expected in ((NO, 1), (NO, 2), (YES, 0), (NO, 1)):
        add(tally, [1.0], 1.0, good=good, parameter=-1.0 if good else 3.0)
        assert tally.read().in_row == expected
    assert tally.read().skipped == 3 and tally.read().updates == 1 and tally.updates == 1


def test_the_first_step_with_broken_weights_is_kept():
    tally = Tally(1, CPU)
    for finite in (YES, YES, NO, YES, NO):
        add(tally, [1.0], 1.0, finite=finite)
    assert tally.read().broken == 3
