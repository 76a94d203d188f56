"""Merging history tables: of attempts and writers, of sealed parts and live journals, into one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from wandbkeras.store import columns
from wandbkeras.store.schema import Row


def before(tables: Iterator[pa.Table], step: int | None) -> Iterator[pa.Table]:
    for table in tables:
        if step is None:
            yield table
        else:
            yield table.filter(pc.less(table["_step"], step))


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    return columns.concatenate(tables or [columns.history_table([])])


def one_row_a_step(table: pa.Table) -> pa.Table:
    """Return the table with the rows of one step, which several writers logged, as one.

    Each writer's metrics are kept; of one metric the first writer's value counts.
    """
    steps = table["_step"].to_numpy()
    if (steps[1:] != steps[:-1]).all():
        return table
    merged: dict[int, Row] = {}
    for row in columns.read_rows(table):
        first = merged.get(row.step)
        values = row.values if first is None else {**row.values, **first.values}
        merged[row.step] = msgspec.structs.replace(first or row, values=values)
    return columns.conform(columns.history_table(list(merged.values())), table.schema)


def sorted(table: pa.Table) -> pa.Table:
    steps = table["_step"].to_numpy()
    return table if (steps[1:] > steps[:-1]).all() else table.sort_by("_step")
