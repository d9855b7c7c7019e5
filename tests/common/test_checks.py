"""common/checks: what counts as an integer, a number, a shape; one wording."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.common.checks import (
    as_tensor,
    holds_integers,
    require_bool,
    require_choice,
    require_device,
    require_floating,
    require_integer,
    require_integers,
    require_number,
    require_pair,
    require_shape,
    require_tensor,
    shown,
)

INTEGERS = [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8)]
NO_INTEGERS = [
    3.0, "3", None, True, np.bool_(True), np.float32(3), np.array([3]), np.array(3.0), torch.tensor([3]),
    torch.tensor(3.0), torch.tensor(True), [3],
]  # fmt: skip


@pytest.mark.parametrize("value", INTEGERS, ids=repr)
def test_integers(value):
    assert require_integers(1, steps=value, batch=2) == [3, 2]
    found = require_integer("steps", value, 1, 3)
    assert found == 3 and type(found) is int
    assert require_shape("shape", value) == (3,) and require_shape("shape", [value, 2]) == (3, 2)
    assert require_number("lr", value) == 3.0


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
def test_no_integers(value):
    with pytest.raises(ValueError, match=r"^steps must be an integer of at least 1; got "):
        require_integer("steps", value, 1)


def test_integer_dtypes():
    whole = [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint64, torch.int64]
    assert all(holds_integers(torch.zeros(2, dtype=dtype)) for dtype in whole)
    assert not any(holds_integers(torch.zeros(2, dtype=dtype)) for dtype in (torch.bool, torch.half, torch.cfloat))


@pytest.mark.parametrize(
    ("least", "most", "words"),
    [
        (1, None, "of at least 1"),
        (None, 9, "of at most 9"),
        (0, 9, "from 0 to 9"),
        (0, 2**63 - 1, r"from 0 to 2\^63 - 1"),
        (0, 2**24 - 1, r"from 0 to 2\^24 - 1"),
        (0, 2**32, r"from 0 to 2\^32"),
    ],
)
def test_bounds_of_integers(least, most, words):
    for value in (least, most):
        assert value is None or require_integer("n", value, least, most) == value
    for value in (None if least is None else least - 1, None if most is None else most + 1):
        if value is not None:
            with pytest.raises(ValueError, match=rf"^n must be an integer {words}; got {value}$"):
                require_integer("n", value, least, most)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        ({}, -1.5, math.inf, "a finite number"),
        ({"above": 0}, 1e-9, 0, "a finite number above 0"),
        ({"least": 0}, 0, -1e-9, "a finite number of at least 0"),
        ({"most": 1}, 1, 1.1, "a finite number of at most 1"),
        ({"below": 1}, 0.9, 1, "a finite number below 1"),
        ({"least": 0, "below": 1}, 0, 1, r"a number in \[0, 1\)"),
        ({"above": 0, "most": 1}, 1, 0, r"a number in \(0, 1\]"),
    ],
)
def test_numbers(bounds, inside, outside, words):
    for value in (inside, np.float64(inside), torch.tensor(inside, dtype=torch.float64)):
        found = require_number("lr", value, **bounds)
        assert found == inside and type(found) is float
    for value in (outside, math.nan, "1", None, True, [1.0], 1j, 10**400):
        with pytest.raises(ValueError, match=rf"^lr must be {words}; got "):
            require_number("lr", value, **bounds)


def test_shapes_choices_and_bools():
    assert require_shape("latent", (4, 8, 8)) == (4, 8, 8) == require_shape("latent", torch.Size([4, 8, 8]))
    none = (0, (), (4, 0), (4, 8.0), "48", b"48", {4: 8}, {4}, None, True, (True,), torch.tensor(3.0), np.array(3.0))
    for value in none:
        with pytest.raises(ValueError, match=r"^latent must be a positive integer or a sequence of them; got "):
            require_shape("latent", value)
    assert require_choice("loss", "hinge", {"hinge": 1, "plain": 2}) == "hinge"
    assert require_choice("channels", None, (None, 1, 3)) is None
    for value in (3, np.int64(3), torch.tensor(3)):
        assert type(require_choice("channels", value, (None, 1, 3))) is int
    for value in ("other", 1, None, ["hinge"]):
        with pytest.raises(ValueError, match=r"^loss must be one of hinge, plain; got "):
            require_choice("loss", value, ("hinge", "plain"))
    with pytest.raises(ValueError, match=r"^channels must be one of None, 1, 3; got True$"):
        require_choice("channels", True, (None, 1, 3))
    assert require_bool("progress", np.bool_(True)) is True
    with pytest.raises(ValueError, match=r"^progress must be True or False; got 1$"):
        require_bool("progress", 1)


def test_tensors():
    """Shared where it can be, whatever the default device."""
    array = np.zeros((3, 2))
    with torch.device("meta"):
        shared = require_tensor("x", array)
        turned = require_tensor("x", array[::-1])
    assert shared.data_ptr() == array.__array_interface__["data"][0] and turned.device.type == "cpu"
    assert require_tensor("x", np.array([1, 256], ">i2")).tolist() == [1, 256]
    assert require_tensor("x", weight := torch.nn.Parameter(torch.zeros(2))) is weight
    nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged)
    quantized = torch.ops.aten.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    for value, words in (
        ([1.0], "a tensor or an array; got list"),
        (np.ma.masked_array([1.0]), "an array without a mask"),
        (torch.eye(2).to_sparse(), "a dense tensor that holds its values; got a torch.sparse_coo one"),
        (quantized, "a dense tensor that holds its values; got a quantized one"),
        (nested, "a dense tensor .*; got a nested one"),
    ):
        with pytest.raises(TypeError, match=f"^x must be {words}"):
            require_tensor("x", value)
    with pytest.raises(TypeError, match=r"^x must hold floating-point numbers; got torch.int64$"):
        require_floating("x", np.arange(3))


def test_numbers_and_lists_as_tensors():
    """float32 whatever torch's default is, integers as they are; all else is a TypeError that names the argument."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert as_tensor("x", [[0.1, 1], [2, 3]]).equal(torch.tensor([[0.1, 1], [2, 3]], dtype=torch.float32))
        assert as_tensor("x", 0.1, torch.float64).item() == 0.1
    finally:
        torch.set_default_dtype(torch.float32)
    assert as_tensor("x", (1, 2)).dtype == as_tensor("x", range(2)).dtype == torch.int64
    assert as_tensor("x", np.arange(4.0)[::-2]).tolist() == [3, 1]
    wrong = (
        None,
        "3",
        b"3",
        ["a"],
        [[1.0], [1.0, 2.0]],
        object(),
        {},
        {1},
        Image.new("L", (2, 2)),
        10**400,
        torch.half,
    )
    for value in wrong:
        with pytest.raises(
            TypeError, match=r"^x must be a tensor, an array, or numbers in lists of equal length; got "
        ):
            as_tensor("x", value, torch.float64)


def test_integers_and_shapes_that_torch_has():
    with pytest.raises(ValueError, match=r"^width must be an integer from 1 to 2\^63 - 1; got 9223372036854775808$"):
        require_integer("width", 2**63, 1)
    with pytest.raises(ValueError, match=r"^shape must have fewer than 2\^63 elements; got \(2147"):
        require_shape("shape", (2**31, 2**32))
    assert require_shape("shape", (2**31, 2**31)) == (2**31, 2**31) and require_integer("n", 2**63 - 1) == 2**63 - 1
    for value in (torch.ones((), dtype=torch.int64, device="meta"), torch.ones((), device="meta")):
        with pytest.raises(ValueError, match=r"^n must be an integer; got "):
            require_integer("n", value)
        with pytest.raises(ValueError, match=r"^lr must be a finite number; got "):
            require_number("lr", value)


def test_values_in_errors_are_short():
    assert shown(1.5) == "1.5" and shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert shown(10**5000) == "an integer of 16610 bits" and len(shown(list(range(999)))) == 203
    with pytest.raises(ValueError, match=r"^n must be an integer from 1 to 9; got an integer of 16610 bits$"):
        require_integer("n", 10**5000, 1, 9)


def test_pairs():
    assert require_pair("clamp", [-1, 1]) == (-1.0, 1.0)
    assert require_pair("clamp", (-math.inf, 0), infinite=True) == (-math.inf, 0.0)
    for value in (5, None, "ab", (1, 0), (0, 1, 2), ("0", "1"), (math.nan, 1), (0, True), (0, math.inf), (0, 10**400)):
        with pytest.raises(ValueError, match=r"^clamp must be \(low, high\) with low <= high; got "):
            require_pair("clamp", value)
    with pytest.raises(ValueError, match=r"^interval must be \(low, high\) with 0 <= low <= high <= 1; got \(0, 2\)$"):
        require_pair("interval", (0, 2), least=0, most=1)


def test_pairs_in_any_order():
    assert require_pair("range", (3, -3), ordered=False) == (3.0, -3.0)
    with pytest.raises(ValueError, match=r"^range must be a pair of finite numbers; got \(0, inf\)$"):
        require_pair("range", (0, math.inf), ordered=False)


def test_devices():
    assert require_device("device", "cpu") == torch.device("cpu") == require_device("device", torch.device("cpu"))
    assert require_device("device", "meta").type == "meta"
    for value in ("foo", "", "cuda:99", "hpu", "mps:7", None, True, 1.5, ["cpu"]):
        with pytest.raises(ValueError, match=r"^device must be a device that torch has here, such as cpu; got "):
            require_device("device", value)
