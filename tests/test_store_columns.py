"""Rows to columns and back: no value is changed, however values are mixed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import canonical, rows
from wandbkeras.store import columns, part_schema
from wandbkeras.store.schema import Row

histories = st.lists(rows, max_size=8)


def _rows(contents: list[dict[str, Any]], first: int = 0) -> list[Row]:
    return [Row(first + i, 100.0 + i, 0.5 * i, values) for i, values in enumerate(contents)]


def _values(history: pa.Table, histograms: pa.Table | None = None) -> list[Any]:
    return [canonical(row.values) for row in columns.read_rows(history, histograms)]


@given(histories)
def test_rows_come_back_from_columns(contents: list[dict[str, Any]]) -> None:
    """Any mix of values under any names comes back as it was, with its step and times."""
    given_rows = _rows(contents)
    history = columns.history_table(given_rows)
    found = list(columns.read_rows(history, columns.histogram_table(given_rows)))
    assert canonical([row.values for row in found]) == canonical(contents)
    index = [(row.step, row.timestamp, row.runtime, row.attempt) for row in found]
    assert index == [(r.step, r.timestamp, r.runtime, r.attempt) for r in given_rows]


def test_a_metric_that_appears_late_is_null_before() -> None:
    """A column begins with nulls, and a null is not a value that was logged."""
    contents: list[dict[str, Any]] = [{"a": 1}, {"a": 2}, {"a": 3, "late": 0.5}]
    table = columns.history_table(_rows(contents))
    assert table["late"].to_pylist() == [None, None, 0.5]
    assert _values(table) == contents


def test_a_none_that_was_logged_is_told_from_a_missing_value() -> None:
    """The row's ``_null`` list names what was logged as None."""
    contents = [{"a": None, "b": 1}, {"b": None}, {}]
    table = columns.history_table(_rows(contents))
    assert table["_null"].to_pylist() == [["a"], ["b"], None]
    assert _values(table) == contents


def test_histograms_are_rows_of_a_table_of_their_own() -> None:
    """A metric may be a histogram in one row and a number in the next."""
    histogram = {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}
    given_rows = _rows([{"w": histogram, "b": histogram}, {"w": 0.5}])
    table = columns.histogram_table(given_rows)
    assert table.column_names[:7] == [*part_schema.INDEX, "key", "values", "bins"]
    assert table["key"].to_pylist() == ["w", "b"]
    assert _values(columns.history_table(given_rows), table) == [r.values for r in given_rows]
