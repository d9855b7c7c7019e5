"""The table that `step` reads: packed by names, in the layout of the kernel; `step` itself is a case of test_ops.py."""

import numpy as np
import pytest
import torch

from genfast import ops
from genfast._extension import extension
from genfast.ops.step import COLUMNS, StepCodes, StepRows

SLOTS = ops.SLOTS


def numbers(rows=3):
    """A value of its own for every coefficient of every row."""
    shapes = dict.fromkeys(("c_skip", "c_out", "a", "b", "c_in"), (rows,))
    shapes |= dict.fromkeys(("e", "p", "q"), (rows, SLOTS)) | {"m": (rows, SLOTS, SLOTS)}
    values, first = {}, 1
    for name, shape in shapes.items():
        values[name] = torch.arange(first, first + np.prod(shape), dtype=torch.float64).view(shape)
        first += int(np.prod(shape))
    return values


def test_the_layout_is_that_of_the_extension():
    info = extension.build_info()
    assert info["slots"] == SLOTS
    assert info["step_columns"] == COLUMNS == ops.StepTable.pack(**numbers()).coefficients.shape[1]


def test_a_table_has_what_was_packed():
    values = numbers()
    table = ops.StepTable.pack(**values)
    assert table.coefficients.dtype == torch.float32 and table.coefficients.is_contiguous()
    rows = StepRows.of(table.coefficients)
    for name, value in values.items():
        assert torch.equal(getattr(rows, name), value.float()), name
    used = sum(value[0].numel() for value in values.values())
    assert int((table.coefficients[0] != 0).sum()) == used == COLUMNS - 3 - 2 * SLOTS  # the others are padding
    assert torch.equal(ops.StepTable.pack(**values, dtype=torch.float64).coefficients.float(), table.coefficients)


def test_numbers_stand_for_all_rows():
    one = torch.ones(3)
    short = ops.StepTable.pack(c_skip=0.0, c_out=1.0, a=one, b=2 * one, c_in=1.0)
    rows = StepRows.of(short.coefficients)
    assert rows.c_out.tolist() == [1.0] * 3 and rows.b.tolist() == [2.0] * 3 and not rows.m.any()
    assert short.codes.dtype == torch.int32 and not short.codes.any()
    assert len(short.streams) == len(short.weights) == 0


def test_codes_say_what_a_row_reads_and_writes():
    e, m, writes = torch.zeros(3, SLOTS), torch.zeros(3, SLOTS, SLOTS), torch.zeros(3, SLOTS, dtype=torch.bool)
    e[0, 1], m[1, 0, 3] = 0.5, 2.0  # h_1 in x' of row 0; h_3 in h_0' of row 1
    writes[1, 0] = writes[2, 2] = writes[2, 3] = True
    base = numbers() | {"e": e, "m": m, "writes": writes}
    codes = StepCodes.of(ops.StepTable.pack(**base).codes)
    assert codes.reads.tolist() == [0b0010, 0b1000, 0] and codes.writes.tolist() == [0, 0b0001, 0b1100]


def test_terms_of_a_row_are_its_own():
    high = ops.stream(ops.Purpose.BROWNIAN, 2**24 - 1)
    terms = [[(ops.stream(ops.Purpose.STEP, 5), 0.5)], [], [(high, 1.0), (ops.stream(ops.Purpose.CHURN, 0), -2.0)]]
    table = ops.StepTable.pack(**numbers(), terms=terms)
    codes = StepCodes.of(table.codes)
    assert codes.first.tolist() == [0, 1, 1] and codes.last.tolist() == [1, 1, 3]
    assert table.streams.dtype == torch.int32 and table.weights.tolist() == [0.5, 1.0, -2.0]
    found = [ops.split_stream(stream) for stream in table.streams.tolist()]
    assert found == [(ops.Purpose.STEP, 5), (ops.Purpose.BROWNIAN, 2**24 - 1), (ops.Purpose.CHURN, 0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_table_followed_by_another_has_the_rows_of_both(dtype):
    """Its second half steps as the other table does alone."""
    one, two = (
        ops.StepTable.pack(
            c_skip=0.5, c_out=1.0, a=torch.tensor([0.25, 0.5]), b=1.0, c_in=1.0, e=torch.eye(SLOTS)[:2],
            terms=[[(ops.stream(ops.Purpose.STEP, step), 0.5 + step)] * (1 + step) for step in steps], dtype=dtype,
        )
        for steps in ((0, 1), (2, 3))
    )  # fmt: skip
    both, key = one.followed_by(two), ops.make_key(1, 3)
    assert len(both.codes) == 4 and len(both.streams) == len(one.streams) + len(two.streams)

    def stepped(table, row):
        x, history = torch.ones(3, 5, dtype=dtype), torch.full((SLOTS, 3, 5), 2.0, dtype=dtype)
        rows = torch.full((3,), row, dtype=torch.int32)
        ops.step(x, torch.ones(3, 5, dtype=dtype), key, rows, table, history=history)
        return x

    for row in range(2):
        assert torch.equal(stepped(both, row), stepped(one, row))
        assert torch.equal(stepped(both, 2 + row), stepped(two, row))
    assert not torch.equal(stepped(one, 0), stepped(two, 0))
