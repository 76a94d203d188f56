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

from wandbkeras.store.checks import parse_json
from wandbkeras.store.schema import TABLE_SUFFIX, ArtifactFile
from wandbkeras.store.table_schema import TableColumn, TableSchema, array_shape
from wandbkeras.store.tables import StoredTable
from wandbkeras.sync.images import artifact_image, found_images
from wandbkeras.sync.media import made_file
from wandbkeras.sync.scratch import ArrayFile, Scratch, ScratchFile, TextFile
from wandbkeras.sync.table_json import (
    class_column_name,
    column_type,
    column_types,
    is_beside,
    made_classes,
    reference_to,
    without_nan,
)

# W&B's own: of a table in a file of the run, and in an artifact.
MAX_FILE_ROWS = 10_000
MAX_ARTIFACT_ROWS = 200_000


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
    part_rows: int = MAX_ARTIFACT_ROWS,
) -> RenderedTable:
    """Write a table to ``scratch``; ``is_held`` says whether the run still has another table."""
    with stored.opened() as (parquet, schema):
        media, links, beside = _around(schema, is_held)
        large = [c for c in schema.columns if is_beside(c, schema.arrow.field(c.name))]
        arrays = _Rows(stored.batches_of(parquet, columns=[c.name for c in large]))
        rows = _Rows(stored.batches_of(parquet))
        file = TextFile(scratch.new_path())
        file.write(f'{{"columns":{_compact(_names(schema))},"data":[')
        parts: list[ScratchFile] = []
        for first in range(0, max(stored.rows, 1), part_rows):
            size = min(part_rows, stored.rows - first)
            files = _array_files(arrays, size, large, schema, scratch) if large else {}
            media |= {_array_name(made): made for made in files.values()}
            types = {**beside, **{name: _array_place(name, made) for name, made in files.items()}}
            part = TextFile(scratch.new_path())
            part.write(_beginning(schema, types))
            at = first
            for batch in rows.take(size):
                cells = [
                    _artifact_cells(stored, c, batch, at, media, files) for c in schema.columns
                ]
                _write_rows(part, cells, _spaced, follows=at > first)
                shown = batch.slice(0, max(0, file_rows - at))
                _write_rows(
                    file, [_file_cells(c, shown) for c in schema.columns], _compact, follows=at > 0
                )
                at += len(batch)
            part.write(_end(schema, size))
            parts.append(part.finish())
        file.write("]}")
    return RenderedTable(
        stored.rows, len(schema.columns), file.finish(), tuple(parts), media, links
    )


class _Rows:
    """Batches of a table, taken in pieces of any number of rows."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the next ``rows`` rows."""
        while rows:
            batch = next(self._batches) if self._rest is None else self._rest
            self._rest = batch.slice(rows) if len(batch) > rows else None
            batch = batch.slice(0, rows)
            rows -= len(batch)
            yield batch


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
    arrays: _Rows,
    rows: int,
    columns: Sequence[TableColumn],
    schema: TableSchema,
    scratch: Scratch,
) -> dict[str, ScratchFile]:
    """Write the large arrays of the next rows, a file a column."""
    shapes = {c.name: array_shape(schema.arrow.field(c.name).type) or () for c in columns}
    files: dict[str, ArrayFile] = {}
    for batch in arrays.take(rows):
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
    column: TableColumn,
    batch: pa.RecordBatch,
    start: int,
    media: dict[str, ArtifactFile],
    large: Collection[str],
) -> list[Any]:
    """Return the cells of a column in the table of an artifact, its images added to ``media``."""
    if column.name in large:
        return [None] * len(batch)
    if column.kind != "image":
        return [without_nan(value) for value in _values(column, batch)]
    found = found_images(stored, column, batch, start)
    return [None if image is None else artifact_image(image, column, media) for image in found]


def _file_cells(column: TableColumn, batch: pa.RecordBatch) -> list[Any]:
    """Return the cells of a column in the table of the run's file, where an image is but a word."""
    if column.kind == "image":
        return [
            "Image" if given else None for given in batch.column(column.name).is_valid().to_pylist()
        ]
    return _values(column, batch)


def _values(column: TableColumn, batch: pa.RecordBatch) -> list[Any]:
    values = batch.column(column.name).to_pylist()
    if column.kind == "json":
        return [None if text is None else parse_json(text) for text in values]
    return list(values)


def _names(schema: TableSchema) -> list[str]:
    return [column.name for column in schema.columns]


def _beginning(schema: TableSchema, beside: Mapping[str, Any]) -> str:
    """Return the table of an artifact up to its cells: the client sorts its members."""
    types = {
        c.name: column_type(c, schema.arrow.field(c.name), beside.get(c.name, {}))
        for c in schema.columns
    }
    members = {"_type": "table", "column_types": column_types(types), "columns": _names(schema)}
    return _spaced(members).removesuffix("}") + ', "data": ['


def _end(schema: TableSchema, rows: int) -> str:
    members = {"log_mode": "IMMUTABLE", "ncols": len(schema.columns), "nrows": rows}
    return "], " + _spaced(members).removeprefix("{")


def _write_rows(
    file: TextFile,
    cells: Sequence[Sequence[Any]],
    encode: Callable[[Any], str],
    *,
    follows: bool,
) -> None:
    """Write rows whose cells are given column by column; ``follows``: others came before."""
    separator = encode([0, 0])[2:-2]
    rows = [encode(list(row)) for row in zip(*cells, strict=True)]
    if rows:
        file.write((separator if follows else "") + separator.join(rows))


def _spaced(value: Any) -> str:
    """Return JSON as the client writes it into artifacts."""
    return json.dumps(value, sort_keys=True)


def _compact(value: Any) -> str:
    """Return JSON as the client writes it into files of the run."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
