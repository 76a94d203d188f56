"""Merging history tables: of attempts and writers, of sealed parts and live journals, into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from wandbkeras.store import column_kinds, columns
from wandbkeras.store.schema import Row


def before(tables: Iterator[pa.Table], step: int | None) -> Iterator[pa.Table]:
    for table in tables:
        if step is None:
            yield table
        else:
            yield table.filter(pc.less(table["_step"], step))


def without_first(tables: Iterable[pa.Table], count: int) -> Iterator[pa.Table]:
    """Yield tables without so many of their first rows."""
    for table in tables:
        skipped = min(count, len(table))
        count -= skipped
        yield table.slice(skipped)


def with_values(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """Return the rows that have a value in each of the columns; one that isn't there has none."""
    for name in names:
        if name not in table.column_names:
            return table.slice(0, 0)
        table = table.filter(pc.is_valid(table[name]))
    return table


def merged(tables: Sequence[pa.Table]) -> pa.Table:
    """Return history tables as one, sorted by step.

    The rows of one step, which several writers logged, become one: each writer's metrics are kept;
    of one metric the first writer's value counts.
    """
    table = column_kinds.concatenate(tables or [columns.history_table([])])
    if is_rising(table["_step"]):
        return table
    return _one_row_a_step(table.sort_by("_step"))


def is_rising(steps: pa.ChunkedArray) -> bool:
    """Whether every step is larger than the one before; without a copy of them."""
    last = -1
    for chunk in steps.chunks:
        array = chunk.to_numpy()
        if len(array):
            if array[0] <= last or not (array[1:] > array[:-1]).all():
                return False
            last = array[-1]
    return True


def _one_row_a_step(table: pa.Table) -> pa.Table:
    if is_rising(table["_step"]):
        return table
    rows: dict[int, Row] = {}
    for row in columns.read_rows(table):
        first = rows.get(row.step)
        values = row.values if first is None else {**row.values, **first.values}
        rows[row.step] = msgspec.structs.replace(first or row, values=values)
    return column_kinds.conform(columns.history_table(list(rows.values())), table.schema)
