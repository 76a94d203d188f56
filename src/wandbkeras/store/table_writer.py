"""Writing tables: batch by batch, durable before anything names them.

A table is a Parquet file of its own, first under a temporary name. Its place says where it was
logged.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.layout import Layout
from wandbkeras.store.parquet import DiskSink
from wandbkeras.store.schema import TableFile
from wandbkeras.store.table_schema import IMAGE_TYPE, TableColumn, array_shape, describe

# A row group is in memory while it is written, and again while it is read.
GROUP_ROWS = 1_000
_GROUP_BYTES = 8 << 20


@dataclass(frozen=True)
class WrittenTable:
    """A table under its temporary name, durable but for the name."""

    path: Path
    rows: int
    size: int
    sha256: str


class TableWriter:
    """Writes one table of the run at ``layout``, under a temporary name.

    What is not yet a row group is in memory, and nothing else. After an OSError only
    :meth:`discard` makes sense.
    """

    def __init__(self, disk: Disk, layout: Layout, schema: pa.Schema) -> None:
        self.rows = 0
        self._disk = disk
        make_directories(disk, layout.tables, within=layout.root)
        self._path = layout.tables / f".{secrets.token_hex(8)}.tmp"
        self._fd: int | None = disk.create(self._path)
        self._sink = DiskSink(disk, self._fd)
        self._pending: list[pa.Table] = []
        self._pending_bytes = self._pending_rows = 0
        try:
            self._parquet = pq.ParquetWriter(self._sink, schema, **_options(schema))
        except BaseException:
            self.discard()
            raise

    def write(self, table: pa.Table) -> None:
        """Add rows; they are on disk as soon as they fill a row group."""
        self.rows += len(table)
        step = GROUP_ROWS
        if table.nbytes > _GROUP_BYTES:
            step = min(step, max(1, len(table) * _GROUP_BYTES // table.nbytes))
        for start in range(0, len(table), step):
            piece = table.slice(start, step)
            self._pending.append(piece)
            self._pending_rows += len(piece)
            self._pending_bytes += piece.nbytes
            if self._pending_rows >= GROUP_ROWS or self._pending_bytes >= _GROUP_BYTES:
                self._flush()

    def finish(self, columns: Iterable[TableColumn]) -> WrittenTable:
        """Write the rest and the description; the bytes are durable when this returns."""
        assert self._fd is not None
        self._flush()
        self._parquet.add_key_value_metadata(describe(columns))
        self._parquet.close()
        self._disk.sync(self._fd)
        self._close()
        return WrittenTable(self._path, self.rows, self._sink.size, self._sink.sha256.hexdigest())

    def discard(self) -> None:
        """Remove what was written."""
        self.detach()
        self._close()
        with suppress(OSError):
            self._disk.remove(self._path)

    def detach(self) -> None:
        """Write nothing more in this process, a forked one: the file is its parent's."""
        self._sink.shut = True
        self._pending.clear()

    def _flush(self) -> None:
        if self._pending:
            table = pa.concat_tables(self._pending)
            self._pending.clear()
            self._pending_rows = self._pending_bytes = 0
            self._parquet.write_table(table, row_group_size=max(len(table), 1))

    def _close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self._disk.close(fd)


class TableShelf:
    """Puts written tables of one writer in their places."""

    def __init__(self, disk: Disk, layout: Layout, attempt: int, writer: int) -> None:
        self._disk = disk
        self._layout = layout
        self._writer = (attempt, writer)
        self._number = 0
        self._folders: set[Path] = set()

    def place(self, table: WrittenTable, key: str, step: int) -> TableFile:
        """Give a table its name; it is durable when this returns, and gone if this fails."""
        target = self._layout.table(key, step, *self._writer, self._number)
        try:
            if target.parent not in self._folders:
                make_directories(self._disk, target.parent, within=self._layout.root)
                self._folders.add(target.parent)
            self._disk.replace(table.path, target)
            self._disk.sync_directory(target.parent)
        except OSError:
            for path in (table.path, target):
                with suppress(OSError):
                    self._disk.remove(path)
            raise
        self._number += 1
        name = target.relative_to(self._layout.root).as_posix()
        return TableFile(name, table.sha256, table.size, table.rows)

    def drop(self, table: WrittenTable) -> None:
        """Remove a table that gets no name."""
        with suppress(OSError):
            self._disk.remove(table.path)

    def remove(self, tables: Iterable[TableFile]) -> None:
        """Remove tables that nothing names any more."""
        for table in tables:
            with suppress(OSError):
                self._disk.remove(self._layout.listed_table(table.path))


def _options(schema: pa.Schema) -> dict[str, Any]:
    """Return how a table is written: what is compressed already, as images are, not again."""
    compression: dict[str, str] = {}
    statistics: list[str] = []
    for field in schema:
        if field.type == IMAGE_TYPE:
            compression |= {f"{field.name}.bytes": "none", f"{field.name}.path": "zstd"}
        elif pa.types.is_nested(field.type):
            depth = len(array_shape(field.type) or ())
            compression[field.name + ".list.element" * depth] = "zstd"
        else:
            compression[field.name] = "zstd"
            statistics.append(field.name)
    return {
        "compression": compression,
        "write_page_checksum": True,
        "write_statistics": statistics or False,
        "use_dictionary": [field.name for field in schema if pa.types.is_string(field.type)],
        "use_byte_stream_split": [f.name for f in schema if pa.types.is_float64(f.type)],
    }
