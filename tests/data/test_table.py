"""Tables: numeric columns are x, a label's values are classes, what is missing is named."""

import numpy as np
import pytest
import torch

import genfast as gf
from genfast.data.dataset import Data

ROWS = {"age": [30, 41, 25], "height": [1.8, 1.6, 1.7], "kind": ["dog", "cat", "dog"], "smokes": [True, False, True]}
ORDERED = ("age", "height", "smokes")


class NAType:
    """As pandas' NA: it says of no comparison whether it is true."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


NA = NAType()


class Series:
    """A column as pandas and polars have it: no sequence, but an array."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        objects = any(type(value) in (str, NAType, type(None)) for value in self.values)
        return np.array(self.values, object if objects else dtype)


class Frame:
    def __init__(self, columns):
        self.held, self.columns = columns, list(columns)

    def __getitem__(self, name):
        return Series(self.held[name])


@pytest.mark.parametrize("frame", [ROWS, Frame(ROWS), {name: np.array(column) for name, column in ROWS.items()}])
def test_columns(frame):
    data = gf.data.table(frame, label="kind")
    expected = torch.tensor([[30, 1.8, 1], [41, 1.6, 0], [25, 1.7, 1]])
    assert torch.equal(data.x, expected) and data.columns == ORDERED and data.levels is None
    assert data.label.tolist() == [1, 0, 1] and data.names == ("cat", "dog") and data.classes == 2
    assert data.replace(label=None, classes=None, names=None).columns == ORDERED
    told = gf.data.table(frame, "kind", "age")
    assert told.condition.tolist() == [[30], [41], [25]] and told.columns == ("height", "smokes")
    both = gf.data.table(frame, label="kind", condition=["age", "smokes"])
    assert both.condition.tolist() == [[30, 1], [41, 0], [25, 1]] and both.shape == (1,)


def test_integers_are_classes_in_their_order():
    data = gf.data.table({"x": [0.0] * 5, "grade": np.array([10, 9, -1, 10, 9])}, label="grade")
    assert data.names == ("-1", "9", "10") and data.label.tolist() == [2, 1, 0, 2, 1]
    assert gf.data.table({"x": [0.0] * 2, "y": [True, False]}, label="y").names == ("False", "True")


def test_missing_conditions_are_null():
    data = gf.data.table(Frame({"x": [1.0, 2.0, 3.0], "c": [1.0, NA, None]}), condition="c")
    assert data.condition[0].item() == 1 and data.condition[1:].isnan().all()


def test_columns_of_another_order_are_refused():
    data = gf.data.table({"a": [1.0, 2.0], "b": [1.0, 2.0]})
    other = gf.data.table({"b": [1.0, 2.0], "a": [1.0, 2.0]})
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="test must have the columns a, b, in this order; got b, a"):
        gf.Fit(gf.Diffusion(gf.nn.MLP(2, width=4, depth=1)), data, test=other, steps=1)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: gf.data.table({"a": [1.0, float("nan"), 2.0]}), ValueError, "got one in column a, row 1"),
        (lambda: gf.data.table(Frame({"a": [1, None, NA]})), ValueError, "got one in column a, row 1 and 1 other rows"),
        (lambda: gf.data.table(ROWS | {"kind": ["a", None, "b"]}, "kind"), ValueError, "column kind, row 1"),
        (lambda: gf.data.table(ROWS), TypeError, "got 'dog' in column kind, row 0: pass it as label="),
        (lambda: gf.data.table(ROWS, label="age", condition="kind"), TypeError, "got 'dog' in column kind, row 0"),
        (lambda: gf.data.table({"t": np.array(["2020"], "datetime64")}), TypeError, "column t, row 0"),
        (lambda: gf.data.table(ROWS, label="sort"), ValueError, "label must be one of age, height.*; got 'sort'"),
        (lambda: gf.data.table(ROWS, condition=["age", "x"]), ValueError, "condition must be one of .*; got 'x'"),
        (
            lambda: gf.data.table(ROWS, "kind", "kind"),
            ValueError,
            "condition must be other columns than label; got kind",
        ),
        (lambda: gf.data.table(ROWS, label="height"), TypeError, "label must be .*; got float in column height"),
        (lambda: gf.data.table({"y": ["a"]}, label="y"), ValueError, "frame must have a column besides"),
        (lambda: gf.data.table({"a": [1, 2], "b": [1]}), ValueError, "got 2 in a, 1 in b"),
        (lambda: gf.data.table({"a": []}), ValueError, "at least one row"),
        (lambda: gf.data.table([1, 2]), TypeError, "frame must be a frame of pandas or polars, .*; got list"),
        (lambda: Data(torch.zeros(2, 3), columns=["a"]), ValueError, r"columns must be names .*\(3,\); got 1"),
        (lambda: Data(torch.zeros(2, 3), columns=[1, 2, 3]), TypeError, "columns must be a sequence of names"),
    ],
)
def test_bad_tables(call, error, words):
    with pytest.raises(error, match=words):
        call()
