"""A column of a metric has the narrowest type that holds its values, also over several tables."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import canonical, rows
from wandbkeras.store import column_kinds, columns
from wandbkeras.store.schema import Row

histories = st.lists(rows, max_size=8)


def _rows(contents: list[dict[str, Any]], first: int = 0) -> list[Row]:
    return [Row(first + i, 100.0 + i, 0.5 * i, values) for i, values in enumerate(contents)]


def _values(history: pa.Table, histograms: pa.Table | None = None) -> list[Any]:
    return [canonical(row.values) for row in columns.read_rows(history, histograms)]


def _through_parquet(table: pa.Table) -> pa.Table:
    file = io.BytesIO()
    pq.write_table(table, file)
    return pq.read_table(file)


@given(st.tuples(histories, histories, histories))
def test_parts_become_one_table(parts: tuple[list[dict[str, Any]], ...]) -> None:
    """Tables of different columns and types are joined without changing a value."""
    tables = [columns.history_table(_rows(part, 100 * i)) for i, part in enumerate(parts)]
    histograms = pa.concat_tables(
        columns.histogram_table(_rows(part, 100 * i)) for i, part in enumerate(parts)
    )
    contents = [values for part in parts for values in part]
    joined = column_kinds.concatenate([_through_parquet(table) for table in tables])
    assert _values(joined, histograms) == canonical(contents)
    again = column_kinds.concatenate([column_kinds.concatenate(tables[:2]), tables[2]])
    assert again.schema.equals(joined.schema, check_metadata=False)
    assert _values(again, histograms) == canonical(contents)


def _kind(*values: Any) -> pa.DataType:
    rows = _rows([{"m": value} for value in values])
    return columns.history_table(rows).schema.field("m").type


def test_a_column_has_the_narrowest_type_that_holds_its_values() -> None:
    """Bools, ints, floats and strings have columns of their own kind; mixtures have text."""
    assert _kind(True, False) == pa.bool_()
    assert _kind(1, -(2**63), 2**63 - 1) == pa.int64()
    assert _kind(0.5, float("nan")) == pa.float64()
    assert _kind("a", "b") == pa.string()
    assert _kind(None, None) == pa.null()
    assert _kind(1, 0.5) == pa.float64()
    assert _kind(2**53, 0.5) == pa.float64()
    assert _kind(2**53 + 1, 0.5) == pa.string()
    assert _kind(True, 1) == pa.string()
    assert _kind(1, "a") == pa.string()
    assert _kind([1.0]) == pa.string()


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([1, 2.5], id="int then float"),
        pytest.param([2**53 + 1, 2.5], id="a large int then a float"),
        pytest.param([0.5, "diverged"], id="number then string"),
        pytest.param(["a", 1, None, True, [1, "x"], -0.0], id="everything"),
        pytest.param([True, 1], id="a bool is not a number"),
        pytest.param([float("nan"), float("inf"), "-"], id="non-finite beside text"),
    ],
)
def test_a_metric_may_change_its_kind(values: list[Any]) -> None:
    """What was logged first does not decide what can be logged later."""
    contents = [{"m": value} for value in values]
    whole = columns.history_table(_rows(contents))
    assert _values(whole) == canonical(contents)
    singles = [columns.history_table(_rows([row], i)) for i, row in enumerate(contents)]
    assert _values(column_kinds.concatenate(singles)) == canonical(contents)
