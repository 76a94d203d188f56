"""Which tables the records of a run name, and how a run reads of which tables are lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wandbkeras.errors import DamagedError
from wandbkeras.store.checks import check_typed, parse_json
from wandbkeras.store.manifest import Manifest
from wandbkeras.store.part_schema import is_json
from wandbkeras.store.schema import Row, TableFile, table_of
from wandbkeras.store.seal import Segment
from wandbkeras.store.source import Source
from wandbkeras.store.table_names import table_step


@dataclass(frozen=True)
class NamedTable:
    """A table that the row of ``step`` names as its ``key``; ``kind`` is the value's type."""

    step: int
    key: str
    kind: str
    file: TableFile


def in_rows(rows: Iterable[Row]) -> Iterator[NamedTable]:
    """Yield the tables that rows name."""
    for row in rows:
        if dict in map(type, row.values.values()):
            for key, value in row.values.items():
                yield from _named(row.step, key, value)


def in_history(history: pa.Table) -> Iterator[NamedTable]:
    """Yield the tables that the rows of a history table name, in the order of the rows."""
    found = [(index, named) for name in _columns(history) for index, named in _of(history, name)]
    # Within a row in the order of the columns, as sorting is stable.
    yield from (named for _, named in sorted(found, key=lambda pair: pair[0]))


def in_writer(source: Source, manifest: Manifest, tail: Segment) -> Iterator[NamedTable]:
    """Yield the tables that all rows of a writer name, sealed and not yet sealed ones."""
    for part in manifest.parts:
        if part.stream == "history":
            yield from in_history(source.part(part))
    yield from in_rows(tail.rows)


def without(history: pa.Table, lost: Collection[str]) -> pa.Table:
    """Return a history table whose rows don't name the tables at the paths ``lost``."""
    for name in _columns(history):
        gone = {index for index, named in _of(history, name) if named.file.path in lost}
        if gone:
            mask = pa.array([index in gone for index in range(len(history))])
            kept = pc.if_else(mask, pa.scalar(None, pa.string()), history[name])
            at = history.schema.get_field_index(name)
            history = history.set_column(at, history.schema.field(at), kept)
    return history


def without_values(values: Mapping[str, Any], lost: Collection[str]) -> dict[str, Any]:
    """Return a summary whose values don't name the tables at the paths ``lost``."""
    found = {}
    for key, value in values.items():
        table = _table(key, value)
        if table is None or table.path not in lost:
            nested = isinstance(value, dict) and table is None
            found[key] = without_values(value, lost) if nested else value
    return found


def in_summary(summary: Mapping[str, Any]) -> Iterator[NamedTable]:
    """Yield the tables that a summary names, also as aggregates of a metric."""
    for key, value in summary.items():
        for file in _named(0, key, value):
            yield replace(file, step=table_step(file.file.path))
        if isinstance(value, dict):
            yield from (replace(named, key=key) for named in in_summary(value))


def _columns(history: pa.Table) -> list[str]:
    return [field.name for field in history.schema if is_json(field)]


def _of(history: pa.Table, name: str) -> Iterator[tuple[int, NamedTable]]:
    """Yield the tables that a column names; only an object can be one."""
    column = history[name].combine_chunks()
    rows = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(column, r"^\s*\{"), False))
    texts, steps = column.take(rows).to_pylist(), history["_step"].take(rows).to_pylist()
    for row, text, step in zip(rows.to_pylist(), texts, steps, strict=True):
        try:
            value = parse_json(text)
            check_typed(value)
        except ValueError as error:
            where = f"history, step {step}: the value of {name!r:.80}"
            raise DamagedError(f"{where} is no JSON text of the format ({error})") from error
        for named in _named(step, name, value):
            yield row, named


def _named(step: int, key: str, value: Any) -> Iterator[NamedTable]:
    file = _table(key, value)
    if file is not None:
        yield NamedTable(step, key, value["_type"], file)


def _table(key: str, value: Any) -> TableFile | None:
    try:
        return table_of(value)
    except ValueError as error:
        raise DamagedError(f"the value of {key!r:.80} names no table ({error})") from error
