"""The type of a metric's column: the narrowest one that holds every value exactly.

Of rows, of a column that is there, and of several tables that become one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wandbkeras.store.part_schema import INDEX, JSON_FIELD, NULLS, TYPES, is_json

_EXACT_IN_DOUBLE = 2**53


def unified_schema(tables: Iterable[pa.Table]) -> pa.Schema:
    """Return the schema that holds every value of the history tables exactly."""
    spans: dict[str, _Span] = {}
    has_nulls = False
    for table in tables:
        has_nulls |= NULLS in table.column_names
        for field in table.schema:
            if field.name not in INDEX and field.name != NULLS:
                span = _span_of_column(field, table[field.name])
                spans[field.name] = spans.get(field.name, _Span("null")).joined(span)
    index = [pa.field(name, kind, nullable=False) for name, kind in INDEX.items()]
    nulls = [pa.field(NULLS, pa.list_(pa.string()))] if has_nulls else []
    return pa.schema([*index, *nulls, *(metric_field(name, s.kind) for name, s in spans.items())])


def are_alike(schemas: Iterable[pa.Schema]) -> bool:
    """Whether each column is of one type in all of the history tables that have it."""
    kinds: dict[str, tuple[pa.DataType, bool]] = {}
    return all(
        kinds.setdefault(field.name, kind) == kind
        for schema in schemas
        for field in schema
        for kind in [(field.type, is_json(field))]
    )


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return ``table`` with the columns of ``schema``; what it lacks is null."""
    arrays = []
    for field in schema:
        if field.name not in table.column_names:
            arrays.append(pa.nulls(len(table), field.type))
            continue
        column, given = table[field.name], table.schema.field(field.name)
        if is_json(field) and not is_json(given):
            texts = [None if v is None else json.dumps(v) for v in column.to_pylist()]
            arrays.append(pa.array(texts, pa.string()))
        else:
            arrays.append(column.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """Return history tables as one, its column types wide enough for all of them."""
    schema = unified_schema(tables)
    return pa.concat_tables([conform(table, schema) for table in tables])


def kind_of_values(values: Sequence[Any], types: Set[type]) -> str:
    """Return the kind of column for values of these ``types``."""
    spans = (_span_of_type(kind, values) for kind in types)
    return functools.reduce(_Span.joined, spans, _Span("null")).kind


def metric_field(name: str, kind: str) -> pa.Field:
    return pa.field(name, TYPES[kind], metadata=JSON_FIELD if kind == "json" else None)


@dataclass(frozen=True)
class _Span:
    """The kind of a column and, of integers, the range: what decides if kinds can be joined."""

    kind: str
    low: int = 0
    high: int = 0

    def joined(self, other: _Span) -> _Span:
        """Return the narrowest span that holds the values of both exactly."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        kinds = {self.kind, other.kind} - {"null"}
        if len(kinds) <= 1:
            return _Span(next(iter(kinds), "null"), low, high)
        if kinds == {"int", "float"} and max(-low, high) <= _EXACT_IN_DOUBLE:
            return _Span("float", low, high)
        return _Span("json")


def _span_of_type(kind: type, values: Sequence[Any]) -> _Span:
    if kind is int:
        integers = [value for value in values if type(value) is int]
        return _Span("int", min(integers), max(integers))
    return _Span({float: "float", bool: "bool", str: "string"}.get(kind, "json"))


def _span_of_column(field: pa.Field, column: pa.ChunkedArray) -> _Span:
    if is_json(field):
        return _Span("json")
    kind = next(name for name, arrow in TYPES.items() if field.type == arrow)
    if kind != "int":
        return _Span(kind)
    bounds = pc.min_max(column)
    return _Span(kind, bounds["min"].as_py() or 0, bounds["max"].as_py() or 0)
