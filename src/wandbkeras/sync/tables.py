"""Tables of a run as W&B holds them: a file of the run, and the entries of an artifact.

They are written to a scratch directory as they are read, row by row; images stay in their Parquet
file until they are to be sent. The same table gives the same bytes each time, so what has arrived
is known by size and MD5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from wandbkeras.errors import DamagedError
from wandbkeras.store.checks import parse_json
from wandbkeras.store.limits import MAX_TABLE_ROWS
from wandbkeras.store.schema import TABLE_SUFFIX, ArtifactFile
from wandbkeras.store.table_schema import TableColumn, TableSchema, array_shape
from wandbkeras.store.tables import StoredTable
from wandbkeras.sync.images import artifact_image, found_images
from wandbkeras.sync.media import made_file
from wandbkeras.sync.scratch import ArrayFile, JsonRows, Scratch, ScratchFile
from wandbkeras.sync.table_json import (
    class_column_name,
    column_type,
    column_types,
    is_beside,
    made_classes,
    reference_to,
    without_nan,
)

# W&B's own, of a table in a file of the run.
MAX_FILE_ROWS = 10_000


@dataclass(frozen=True)
class RenderedTable:
    """What W&B holds of a table.

    ``file`` is the file of the run, with the first rows; ``parts`` are the tables of the artifact,
    as many as its rows need; ``media`` lies beside them, by its path, and ``links`` are paths in
    the artifact to the tables, by their paths in the run, whose rows it names.
    """

    rows: int
    columns: int
    file: ScratchFile
    parts: tuple[ScratchFile, ...]
    media: Mapping[str, ArtifactFile]
    links: Mapping[str, str]

    def entries(self, name: str) -> dict[str, ArtifactFile]:
        """Return the files of an artifact that holds the table under ``name``, by their paths."""
        return {**self.media, **{part_name(name, i): p for i, p in enumerate(self.parts)}}


def part_name(name: str, part: int = 0) -> str:
    """Return the path of a table in an artifact; one of more rows than W&B takes has parts.

    >>> part_name("t"), part_name("t", 1)
    ('t.table.json', 't.part2.table.json')
    """
    return f"{name}.part{part + 1}{TABLE_SUFFIX}" if part else f"{name}{TABLE_SUFFIX}"


def render_table(
    stored: StoredTable,
    scratch: Scratch,
    is_held: Callable[[str], bool],
    *,
    file_rows: int = MAX_FILE_ROWS,
    part_rows: int = MAX_TABLE_ROWS,
) -> RenderedTable:
    """Write a table to ``scratch``; ``is_held`` says whether the run still has another table."""
    with stored.opened() as (parquet, schema):
        media, links, beside = _around(schema, is_held)
        large = [c.name for c in schema.columns if is_beside(c, schema.arrow.field(c.name))]
        arrays = _Rows(stored.batches_of(parquet, columns=large))
        rows = _Rows(stored.batches_of(parquet))
        names = _compact([column.name for column in schema.columns])
        file = JsonRows(scratch.new_path(), f'{{"columns":{names},"data":[', _compact)
        parts: list[ScratchFile] = []
        for first in range(0, max(stored.rows, 1), part_rows):
            size = min(part_rows, stored.rows - first)
            files = _array_files(arrays.take(size), size, large, schema, scratch)
            media |= {_array_name(made): made for made in files.values()}
            types = {**beside, **{name: _array_place(name, made) for name, made in files.items()}}
            part = JsonRows(scratch.new_path(), _beginning(schema, types), _spaced)
            for number, batch in rows.numbered(size):
                part.add(_artifact_cells(stored, schema, number, batch, media, large))
                file.add(_file_cells(stored, schema, batch.slice(0, max(0, file_rows - number))))
            parts.append(part.finish(_end(schema, size)))
        made = file.finish("]}")
    return RenderedTable(stored.rows, len(schema.columns), made, tuple(parts), media, links)


class _Rows:
    """Batches of a table, taken in pieces of any number of rows."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None
        self._number = 0

    def take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the next ``rows`` rows."""
        while rows:
            batch = next(self._batches) if self._rest is None else self._rest
            self._rest = batch.slice(rows) if len(batch) > rows else None
            batch = batch.slice(0, rows)
            rows -= len(batch)
            yield batch

    def numbered(self, rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the next ``rows`` rows, each batch with the number of its first in the table."""
        for batch in self.take(rows):
            yield self._number, batch
            self._number += len(batch)


def _around(
    schema: TableSchema, is_held: Callable[[str], bool]
) -> tuple[dict[str, ArtifactFile], dict[str, str], dict[str, Any]]:
    """Return files beside a table, links, and what the types of its columns say of both."""
    media: dict[str, ArtifactFile] = {}
    links: dict[str, str] = {}
    beside: dict[str, Any] = {}
    for column in schema.columns:
        if column.kind == "class":
            file = made_classes(column.labels)
            name = class_column_name(file, first=not media)
            media[name] = file
            beside[column.name] = {"classes_obj": reference_to(name, file)}
        elif column.table is not None and not column.optional and is_held(column.table):
            name = f"media/tables/t_{made_file(column.table.encode()).sha256[:8]}{TABLE_SUFFIX}"
            links[name] = column.table
            beside[column.name] = {"table": name}
    return media, links, beside


def _array_files(
    batches: Iterator[pa.RecordBatch],
    rows: int,
    names: Sequence[str],
    schema: TableSchema,
    scratch: Scratch,
) -> dict[str, ScratchFile]:
    """Write the large arrays of some rows, a file a column."""
    if not names or not rows:
        return {}
    shapes = {name: array_shape(schema.arrow.field(name).type) or () for name in names}
    files: dict[str, ArrayFile] = {}
    for batch in batches:
        for name, shape in shapes.items():
            array = _numpy(batch.column(name), shape)
            if name not in files:
                path = scratch.new_path()
                files[name] = ArrayFile(path, name, array.dtype, (rows, *shape))
            files[name].write(array)
    return {name: file.finish() for name, file in files.items()}


def _numpy(array: pa.Array, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    length = len(array)
    while pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    values: np.ndarray[Any, Any] = array.to_numpy(zero_copy_only=False)
    return values.reshape(length, *shape)


def _array_name(file: ArtifactFile) -> str:
    return f"media/serialized_data/{file.md5[:20]}.npz"


def _array_place(name: str, file: ArtifactFile) -> dict[str, Any]:
    return {"serialization_path": {"key": name, "path": _array_name(file)}}


def _artifact_cells(
    stored: StoredTable,
    schema: TableSchema,
    start: int,
    batch: pa.RecordBatch,
    media: dict[str, ArtifactFile],
    large: Collection[str],
) -> list[list[Any]]:
    """Return the cells, column by column, of a table in an artifact; ``media`` gets its images."""

    def cells(column: TableColumn) -> list[Any]:
        if column.name in large:
            return [None] * len(batch)
        if column.kind != "image":
            return [without_nan(value) for value in _values(stored, column, batch)]
        found = found_images(stored, column, batch, start)
        return [None if image is None else artifact_image(image, column, media) for image in found]

    return [cells(column) for column in schema.columns]


def _file_cells(stored: StoredTable, schema: TableSchema, batch: pa.RecordBatch) -> list[list[Any]]:
    """Return the cells of a table in a file of the run, where an image is but a word."""

    def cells(column: TableColumn) -> list[Any]:
        if column.kind != "image":
            return _values(stored, column, batch)
        there = batch.column(column.name).is_valid().to_pylist()
        return ["Image" if given else None for given in there]

    return [cells(column) for column in schema.columns]


def _values(stored: StoredTable, column: TableColumn, batch: pa.RecordBatch) -> list[Any]:
    values: list[Any] = batch.column(column.name).to_pylist()
    if column.kind != "json":
        return values
    try:
        return [None if text is None else parse_json(text) for text in values]
    except ValueError as error:
        where = f"{stored.path}: column {column.name!r:.80}"
        raise DamagedError(f"{where}: no JSON text of the format ({error})") from error


def _beginning(schema: TableSchema, beside: Mapping[str, Any]) -> str:
    """Return the table of an artifact up to its cells: the client sorts its members."""
    types = {
        c.name: column_type(c, schema.arrow.field(c.name), beside.get(c.name, {}))
        for c in schema.columns
    }
    members = {
        "_type": "table",
        "column_types": column_types(types),
        "columns": [c.name for c in schema.columns],
    }
    return _spaced(members).removesuffix("}") + ', "data": ['


def _end(schema: TableSchema, rows: int) -> str:
    members = {"log_mode": "IMMUTABLE", "ncols": len(schema.columns), "nrows": rows}
    return "], " + _spaced(members).removeprefix("{")


def _spaced(value: Any) -> str:
    """Return JSON as the client writes it into artifacts."""
    return json.dumps(value, sort_keys=True)


def _compact(value: Any) -> str:
    """Return JSON as the client writes it into files of the run."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
