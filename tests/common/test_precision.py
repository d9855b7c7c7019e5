"""One float64 tensor from every kind of number, and errors that name the argument."""

import fractions
import math

import numpy as np
import pytest
import torch

from genfast.common.precision import as_float64, float64_function, weights_device


class Line:
    """A made-up schedule: doubles its t; `time` halves its log_snr."""

    @float64_function
    def double(self, t):
        assert isinstance(t, torch.Tensor) and t.dtype == torch.float64
        return 2 * t

    @float64_function
    def time(self, log_snr):
        return log_snr / 2


def test_every_kind_of_number_becomes_a_float64_tensor():
    for value in (0.5, np.float32(0.5), fractions.Fraction(1, 2), np.array(0.5, np.float16), torch.tensor(0.5)):
        tensor = as_float64("t", value)
        assert tensor.dtype == torch.float64 and tensor.item() == 0.5
    assert as_float64("t", np.array([1, 2])).tolist() == [1.0, 2.0]
    assert as_float64("t", math.inf).item() == math.inf
    assert as_float64("t", 0.1).item() == 0.1  # not by way of float32


def test_arrays_are_copied():
    array = np.zeros(2)
    tensor = as_float64("t", array)
    array[0] = 1
    assert tensor.tolist() == [0, 0]


def test_a_function_answers_in_the_kind_of_the_question():
    double = Line().double
    assert type(double(0.25)) is float and double(0.25) == 0.5
    array = double(np.array([0.25, 0.5], np.float32))
    assert isinstance(array, np.ndarray) and array.dtype == np.float64 and array.tolist() == [0.5, 1.0]
    assert torch.equal(double(torch.tensor([[0.25]])), torch.tensor([[0.5]], dtype=torch.float64))
    assert Line.double.__name__ == "double"


def test_times_lie_in_the_unit_interval_and_log_snrs_anywhere():
    for t in (-0.1, 1.1, math.inf, np.array([0.5, 2.0])):
        with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\]"):
            Line().double(t)
    assert Line().time(-6.0) == -3.0 and Line().time(math.inf) == math.inf
    with pytest.raises(ValueError, match=r"^log_snr must not hold NaN"):
        Line().time(math.nan)


@pytest.mark.parametrize("value", ["0.5", None, True, [0.5], torch.tensor([True]), 1j, np.array([1j])])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match=r"^rho must"):
        as_float64("rho", value)


@pytest.mark.parametrize("value", [math.nan, np.array([0.0, math.nan]), torch.tensor([math.nan])])
def test_nan_is_refused(value):
    with pytest.raises(ValueError, match=r"^rho must not hold NaN"):
        as_float64("rho", value)


def test_where_weights_are():
    assert weights_device(torch.nn.Linear(2, 2, device="meta")).type == "meta"
    assert weights_device(torch.nn.Identity()).type == "cpu"
