"""Rows to Arrow columns and back, without losing a value.

A metric becomes one column of the narrowest type that holds every value logged under it: bool,
int64, double or string. Values that no such type holds together (a number and a string, an
int beyond 2**53 and a float, a list) become JSON text, and the field says so in its metadata.
A null in a column is a metric that was not logged at that step; a ``None`` that was logged is named
in the row's ``_null`` list.
"""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import numpy as np
import pyarrow as pa

from wandbkeras.errors import DamagedError
from wandbkeras.store.checks import check_typed, parse_json
from wandbkeras.store.column_kinds import kind_of_values, metric_field
from wandbkeras.store.part_schema import (
    EVENT_SCHEMA,
    HISTOGRAM_COUNTS,
    HISTOGRAM_MOMENTS,
    HISTOGRAM_SCHEMA,
    INDEX,
    NULLS,
    TYPES,
    is_json,
)
from wandbkeras.store.schema import HISTOGRAM, Row
from wandbkeras.store.state import Event, RunState

# Values that are no plain element of a column: None is noted, histograms have a part of their own.
_SPECIAL = frozenset({type(None), dict})


def is_histogram(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_type") == HISTOGRAM


@dataclass
class _Metric:
    """What was logged under one name, and in which rows; ``kinds`` are the types of the values."""

    ranges: list[range] = member(default_factory=list)
    values: list[Any] = member(default_factory=list)
    kinds: set[type] = member(default_factory=set)

    def extend(self, start: int, values: Sequence[Any], kinds: set[type]) -> None:
        self.ranges.append(range(start, start + len(values)))
        self.values.extend(values)
        self.kinds |= kinds


@dataclass
class _Logged:
    """What rows hold, by metric; by row the metrics logged as None, and where histograms are."""

    metrics: dict[str, _Metric] = member(default_factory=dict)
    nulls: dict[int, list[str]] = member(default_factory=dict)
    histograms: list[tuple[int, str]] = member(default_factory=list)

    def add(self, start: int, name: str, values: Sequence[Any]) -> None:
        """Add the values of a metric in the rows from ``start`` on."""
        kinds = set(map(type, values))
        if kinds.isdisjoint(_SPECIAL):
            self.metrics.setdefault(name, _Metric()).extend(start, values, kinds)
            return
        for index, value in enumerate(values, start):
            if is_histogram(value):
                self.histograms.append((index, name))
                continue
            metric = self.metrics.setdefault(name, _Metric())
            if value is None:
                self.nulls.setdefault(index, []).append(name)
            else:
                metric.extend(index, [value], {type(value)})


def _logged(rows: Sequence[Row]) -> _Logged:
    """Sort what rows hold by metric.

    Rows in sequence that have the same metrics, as most have, are taken column by column.
    """
    logged, start = _Logged(), 0
    for names, group in itertools.groupby(rows, key=lambda row: tuple(row.values)):
        alike = [row.values for row in group]
        for name in names:
            logged.add(start, name, [row[name] for row in alike])
        start += len(alike)
    logged.histograms.sort(key=operator.itemgetter(0))
    return logged


def row_tables(rows: Sequence[Row]) -> tuple[pa.Table, pa.Table]:
    """Return the history and the histograms of rows."""
    logged = _logged(rows)
    return _history(rows, logged), _histograms(rows, logged)


def history_table(rows: Sequence[Row]) -> pa.Table:
    """Return one row a step: the index columns, then a column a metric in order of appearance."""
    return _history(rows, _logged(rows))


def histogram_table(rows: Sequence[Row]) -> pa.Table:
    """Return one row a histogram: counts in ``values``, edges in ``bins``."""
    return _histograms(rows, _logged(rows))


def _history(rows: Sequence[Row], logged: _Logged) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "_step": pa.array([row.step for row in rows], pa.int64()),
        "_timestamp": pa.array([row.timestamp for row in rows], pa.float64()),
        "_runtime": pa.array([row.runtime for row in rows], pa.float64()),
        "_attempt": pa.array([row.attempt for row in rows], pa.int32()),
    }
    fields = [pa.field(name, kind, nullable=False) for name, kind in INDEX.items()]
    if logged.nulls:
        fields.append(pa.field(NULLS, pa.list_(pa.string())))
        nulls = map(logged.nulls.get, range(len(rows)))
        columns[NULLS] = pa.array(nulls, fields[-1].type, size=len(rows))
    for name, metric in logged.metrics.items():
        kind = kind_of_values(metric.values, metric.kinds)
        fields.append(metric_field(name, kind))
        columns[name] = _spread(_array(metric.values, kind), metric.ranges, len(rows))
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _histograms(rows: Sequence[Row], logged: _Logged) -> pa.Table:
    if not logged.histograms:
        return HISTOGRAM_SCHEMA.empty_table()
    records = [
        {
            "_step": row.step,
            "_timestamp": row.timestamp,
            "_runtime": row.runtime,
            "_attempt": row.attempt,
            "key": name,
            "values": value["values"],
            "bins": value["bins"],
            **value.get("stats", {}),
        }
        for row, name in ((rows[index], name) for index, name in logged.histograms)
        for value in (row.values[name],)
    ]
    return pa.Table.from_pylist(records, schema=HISTOGRAM_SCHEMA)


def event_table(events: Iterable[Event], attempt: int) -> pa.Table:
    """Return one row an event, its body as JSON text."""
    records = [
        {
            "_timestamp": event.timestamp,
            "_attempt": attempt,
            "type": event.type,
            "body": json.dumps(event.body, ensure_ascii=False),
        }
        for event in events
    ]
    return pa.Table.from_pylist(records, schema=EVENT_SCHEMA)


def read_events(table: pa.Table) -> Iterator[Event]:
    """Yield the events of an event table."""
    for record in table.to_pylist():
        try:
            event = Event(record["type"], record["_timestamp"], parse_json(record["body"]))
            RunState().apply_event(event)  # what can't be applied is none
        except (ValueError, AttributeError, TypeError) as error:
            text = f"events: a {record['type']!r:.80} event that makes no sense ({error})"
            raise DamagedError(text) from error
        yield event


def read_rows(history: pa.Table, histograms: pa.Table | None = None) -> Iterator[Row]:
    """Yield the rows of a history table, each with its histograms."""
    return read_tables([history], histograms)


def read_tables(tables: Iterable[pa.Table], histograms: pa.Table | None = None) -> Iterator[Row]:
    """Yield the rows of history tables one after the other, each with its histograms."""
    by_step = _histograms_by_step(histograms)
    for table in tables:
        yield from _read_table(table, by_step)


def _read_table(history: pa.Table, by_step: Mapping[int, Mapping[str, Any]]) -> Iterator[Row]:
    names = [name for name in history.column_names if name not in INDEX and name != NULLS]
    json_names = [name for name in names if is_json(history.schema.field(name))]
    for batch in history.to_batches(max_chunksize=10_000):
        is_full = not any(batch.column(name).null_count for name in names)
        nulls = batch.column(NULLS).to_pylist() if NULLS in history.column_names else None
        columns = (batch.column(name).to_pylist() for name in (*INDEX, *names))
        for i, (step, timestamp, runtime, attempt, *cells) in enumerate(zip(*columns, strict=True)):
            named = zip(names, cells, strict=True)
            values = dict(named) if is_full else {k: v for k, v in named if v is not None}
            for name in json_names:
                if name in values:
                    values[name] = _from_json(values[name], name, step)
            if nulls is not None and nulls[i]:
                values.update(dict.fromkeys(nulls[i]))
            if step in by_step:  # of several writers the first counts, here as in the columns
                values = {**by_step[step], **values}
            yield Row(step, timestamp, runtime, values, attempt)


def _from_json(text: str, name: str, step: int) -> Any:
    try:
        value = parse_json(text)
        if isinstance(value, dict):
            check_typed(value)
        return value
    except ValueError as error:
        where = f"history, step {step}: the value of {name!r:.80}"
        raise DamagedError(f"{where} is no JSON text of the format ({error})") from error


def _histograms_by_step(table: pa.Table | None) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for record in table.to_pylist() if table is not None else ():
        value = {
            "_type": HISTOGRAM,
            "values": [int(v) if v.is_integer() else v for v in record["values"]],
            "bins": record["bins"],
        }
        stats = {name: record[name] for name in (*HISTOGRAM_COUNTS, *HISTOGRAM_MOMENTS)}
        if record["count"] is not None:
            value["stats"] = {name: stat for name, stat in stats.items() if stat is not None}
        found.setdefault(record["_step"], {}).setdefault(record["key"], value)
    return found


def _array(values: Sequence[Any], kind: str) -> pa.Array:
    if kind == "json":
        return pa.array([json.dumps(value, ensure_ascii=False) for value in values], pa.string())
    return pa.array(values, TYPES[kind])


def _spread(array: pa.Array, ranges: Sequence[range], length: int) -> pa.Array:
    """Return ``length`` elements: those of ``array`` in ``ranges``, null elsewhere."""
    if len(array) == length:
        return array
    if not len(array):
        return pa.nulls(length, array.type)
    positions = np.full(length, -1, np.int64)
    positions[np.concatenate([np.arange(r.start, r.stop) for r in ranges])] = np.arange(len(array))
    return array.take(pa.array(positions, mask=positions < 0))
