"""Rows found again, in whatever order they come."""

from __future__ import annotations

import numpy as np
import pytest

from wandbkeras.callbacks.batches import Batch
from wandbkeras.callbacks.row_numbers import RowNumbers
from wandbkeras.errors import UsageError

GENERATOR = np.random.default_rng(7)
X = GENERATOR.normal(size=(50, 4, 3)).astype(np.float32)
Y = np.arange(50) % 3


def learned(size: int = 20) -> RowNumbers:
    rows = RowNumbers()
    for start in range(0, 50, size):
        rows.learn(Batch({"image": X[start : start + size]}, Y[start : start + size]))
    return rows


def test_a_shuffled_row_has_its_number() -> None:
    """Batches of another order and size are found, row by row."""
    order = GENERATOR.permutation(50)
    rows = learned()
    found = [rows.find(Batch({"image": X[part]}, Y[part])) for part in np.split(order, 5)]
    np.testing.assert_array_equal(np.concatenate(found), order)


def test_equal_inputs_with_other_targets_are_other_rows() -> None:
    """The target is part of what a row is."""
    rows = RowNumbers()
    rows.learn(Batch(np.ones((2, 3)), np.array([0, 1])))
    np.testing.assert_array_equal(rows.find(Batch(np.ones((1, 3)), np.array([1]))), [1])


def test_a_row_that_was_not_there_is_refused() -> None:
    """Data that change at random have no rows to refer to."""
    with pytest.raises(UsageError, match="1 of 2 rows are not among the 50 that were read"):
        learned().find(Batch({"image": X[:2] + np.float32([[[0.0]], [[1.0]]])}, Y[:2]))


def test_the_digest_is_of_the_rows_not_of_the_batches() -> None:
    """Equal rows in equal order have one, whatever the size of the batches."""
    assert learned(20).digest == learned(7).digest
    other = RowNumbers()
    other.learn(Batch({"image": X[::-1]}, Y[::-1]))
    assert other.digest != learned().digest


def test_texts_are_values_too() -> None:
    """Strings, as objects or not, tell rows apart."""
    rows = RowNumbers()
    rows.learn(Batch(np.array([b"a", b"bc"], dtype=object), None))
    np.testing.assert_array_equal(rows.find(Batch(np.array([b"a"], dtype=object), None)), [0])
    np.testing.assert_array_equal(rows.find(Batch(np.array([b"bc"]), None)), [1])
