"""Rows that processes write to their place in one file, which is whole or not there."""

import numpy as np
import pytest

from genfast.common.rows import replace, written

X = np.arange(24, dtype=np.float32).reshape(8, 3)


def test_rows_in_any_order(tmp_path):
    """Of any type and layout."""
    path = tmp_path / "x.npy"
    rows = [(5, X[5:]), (0, X[:2].astype(np.float64)), (2, np.asfortranarray(X[2:5]))]
    with written(path, X.shape, rows) as waiting:
        assert not path.exists() and np.array_equal(np.load(waiting), X)
        replace(waiting, path)
    assert np.load(path).dtype == np.float32 and np.array_equal(np.load(path), X)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npy"]


def test_nothing_is_left(tmp_path):
    """Of this file: not of one that was killed, nor of one that fails."""
    others = [".y.npy.1-00000000.tmp", "letter"]
    for name in (".x.npy.1-00000000.tmp", *others):
        (tmp_path / name).touch()

    def rows():
        yield 0, X[:2]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"), written(tmp_path / "x.npy", X.shape, rows()):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == others


def test_an_error_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/x\.npy'"), written(tmp_path / "none" / "x.npy", X.shape, []):
        pass
