"""Batches of validation data: what they hold, and how rows are chosen."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from wandbkeras.callbacks.batches import Batches, KeptBatches, batches_of

X = np.arange(30.0).reshape(10, 3)
Y = np.arange(10)


def made(data: Any, steps: int | None = None, size: int | None = None) -> Batches:
    found = batches_of(data, steps, size, "validation_data")
    assert found is not None
    return found


def sampled(batches: Batches, rows: int, seed: int = 0) -> Any:
    return batches.sample(rows, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (X.tolist(), X),
        (pd.DataFrame(X), X),
        (keras.ops.convert_to_tensor(X, "float64"), X),
        ([X, Y], [X, Y]),
        ({"a": X, "b": {"c": Y}}, {"a": X, "b": {"c": Y}}),
    ],
)
def test_arrays_of_any_kind_are_sliced(x: Any, expected: Any) -> None:
    """Each batch holds NumPy arrays in the structure that was given."""
    (first, second) = made((x, pd.Series(Y)), size=6)
    assert (first.rows, second.rows) == (6, 4)
    joined = keras.tree.map_structure(lambda *p: np.concatenate(p), first.x, second.x)
    keras.tree.map_structure(np.testing.assert_array_equal, joined, expected)
    np.testing.assert_array_equal(np.concatenate([first.y, second.y]), Y)


def test_rows_of_arrays_are_chosen_by_the_given_generator() -> None:
    """Each seed chooses other rows, in order and without repetition, with their own targets."""
    batches = made((X, Y))
    chosen = sampled(batches, 4)
    np.testing.assert_array_equal(chosen.x, X[chosen.y])
    assert sorted(set(chosen.y.tolist())) == chosen.y.tolist() != [0, 1, 2, 3]
    np.testing.assert_array_equal(sampled(batches, 4).y, chosen.y)
    assert sampled(batches, 4, seed=1).y.tolist() != chosen.y.tolist()
    np.testing.assert_array_equal(sampled(batches, 100).y, Y)


def test_of_a_stream_the_first_rows_are_taken() -> None:
    """No more batches are read than the rows are in."""

    class Counting(keras.utils.PyDataset):  # type: ignore[misc]
        asked = 0
        num_batches = 5

        def __getitem__(self, index: int) -> Any:
            Counting.asked += 1
            return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]

    np.testing.assert_array_equal(sampled(made(Counting()), 3).y, [0, 1, 2])
    assert Counting.asked == 2


def test_a_stream_without_targets_has_none() -> None:
    """A batch may be inputs alone."""

    class Inputs:
        def __iter__(self) -> Any:
            return iter([X[:4], X[4:]])

    assert [(batch.rows, batch.y) for batch in made(Inputs())] == [(4, None), (6, None)]


def test_kept_batches_are_what_they_were() -> None:
    """Structure, types and texts come back from the file, several readers at once."""
    texts = np.array([b"one", b"three"], dtype=object)
    given = [({"t": texts, "n": X[:2]}, None), ({"t": texts[:1], "n": X[2:3]}, None)]
    kept = KeptBatches(given, io.BytesIO())
    for one, other in zip(kept, kept, strict=True):
        assert one.x["t"].tolist() == other.x["t"].tolist()
    first, second = kept
    assert first.x["t"].tolist() == [b"one", b"three"]
    assert second.x["n"].dtype == np.float64
    np.testing.assert_array_equal(second.x["n"], X[2:3])
    assert second.y is None
