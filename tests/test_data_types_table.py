"""Tables in memory, as wandb's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

from wandbkeras import ClassColumn, ImageColumn, RowColumn, Table
from wandbkeras.data_types import RowKey
from wandbkeras.errors import UsageError


def test_rows_and_columns_are_added() -> None:
    """By constructor, by row and by column, as wandb does it."""
    table = Table(["a", "b"], [[1, "x"]])
    table.add_data(2, "y")
    table.add_column("c", [True, False], bool)
    assert (table.columns, table.data) == (["a", "b", "c"], [[1, "x", True], [2, "y", False]])
    assert table.get_column("b") == ["x", "y"]
    assert (len(table), table.kinds) == (2, {"a": None, "b": None, "c": bool})


def test_a_table_may_begin_with_its_first_column() -> None:
    """Without columns, the first one that is added makes the rows."""
    table = Table([], [])
    table.add_column("a", np.arange(3))
    assert table.data == [[0], [1], [2]]


def test_the_default_columns_are_wandbs() -> None:
    """A table of nothing is one for inputs, outputs and what was expected."""
    assert Table().columns == ["Input", "Output", "Expected"]


@pytest.mark.parametrize("argument", ["data", "dataframe"])
def test_a_dataframe_is_its_columns_and_rows(argument: str) -> None:
    """What is missing is None, but for numbers, where NaN is a number."""
    frame = pandas.DataFrame({"n": [1.0, float("nan")], "s": ["a", None], 7: [1, 2]})
    table = Table(**{argument: frame})
    assert table.columns == ["n", "s", "7"]
    assert table.data[0] == [1.0, "a", 1]
    assert table.data[1][1:] == [None, 2]
    assert table.data[1][0] != table.data[1][0]


def test_the_index_knows_its_table() -> None:
    """Keys are the numbers of the rows, which another table's column links by."""
    table = Table(["a"], [[1], [2]])
    keys = table.get_index()
    assert keys == [0, 1]
    assert all(isinstance(key, RowKey) and key.table is table for key in keys)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Table(["a", "a"]), "a name occurs twice"),
        (lambda: Table("abc"), "expected names"),
        (lambda: Table([None]), "expected a string"),
        (lambda: Table({"a": "float"}), "expected int, float, bool, str, object"),
        (lambda: Table(["a"], [[1, 2]]), "received 2 values; expected 1"),
        (lambda: Table(["a"], [[1]]).add_column("a", [1]), "is there already"),
        (lambda: Table(["a"], [[1]]).add_column("b", [1, 2]), "received 2 values for"),
        (lambda: Table(["a"]).get_column("b"), "no column 'b'"),
        (lambda: ImageColumn(mode="HSV"), "expected one of L, RGB, RGBA"),
        (lambda: ImageColumn(scale="bytes"), "expected 'unit'"),
        (lambda: ClassColumn(3), "Classes: received 3"),
        (lambda: RowColumn(None), "expected a table"),
    ],
)
def test_mistakes_are_refused(make: Any, match: str) -> None:
    """At once, with what was received and expected."""
    with pytest.raises(UsageError, match=match):
        make()
