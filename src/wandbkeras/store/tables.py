"""Tables of a run: written batch by batch, durable before anything names them, checked when read.

A table is a Parquet file of its own. A row of the history, or an artifact manifest, names it by its
path, its SHA-256 and its size, so whatever names it proves it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.errors import DamagedError, StoreError
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.layout import Layout, open_file
from wandbkeras.store.pages import FileBytes, check_row_groups, memory_limit
from wandbkeras.store.parquet import DiskSink, in_a_line
from wandbkeras.store.schema import TableFile
from wandbkeras.store.table_schema import (
    IMAGE_TYPE,
    TableColumn,
    TableSchema,
    array_shape,
    describe,
    read_schema,
)

# A row group is in memory while it is written, and again while it is read.
_GROUP_BYTES = 8 << 20
_GROUP_ROWS = 1_000
_CHUNK = 1 << 20


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
        step = _GROUP_ROWS
        if table.nbytes > _GROUP_BYTES:
            step = min(step, max(1, len(table) * _GROUP_BYTES // table.nbytes))
        for start in range(0, len(table), step):
            piece = table.slice(start, step)
            self._pending.append(piece)
            self._pending_rows += len(piece)
            self._pending_bytes += piece.nbytes
            if self._pending_rows >= _GROUP_ROWS or self._pending_bytes >= _GROUP_BYTES:
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


class StoredTable:
    """A table of a stored run.

    ``key`` and ``step`` say where it was logged, None if in an artifact; ``kind`` is ``table``,
    ``images`` or, of an image that was logged alone, ``image``. Nothing is read until asked for.
    """

    def __init__(
        self,
        layout: Layout,
        file: TableFile,
        *,
        key: str | None = None,
        step: int | None = None,
        kind: str = "table",
    ) -> None:
        self.file = file
        self.key = key
        self.step = step
        self.kind = kind
        self._layout = layout

    @property
    def rows(self) -> int:
        return self.file.rows

    @property
    def path(self) -> Path:
        """The Parquet file, for readers of your own."""
        return self._layout.listed_table(self.file.path)

    def schema(self) -> TableSchema:
        """Return what its columns hold; DamagedError if a byte was changed."""
        with self.opened() as (_, schema):
            return schema

    def read(self) -> pa.Table:
        """Return the whole table; DamagedError if a byte was changed.

        StoreError if it takes more memory than a file of its size may: read :meth:`batches` then.
        """
        limit = memory_limit(self.file.size)
        with self.opened() as (parquet, _):
            batches, size = [], 0
            for batch in self.batches_of(parquet):
                batches.append(batch)
                size += batch.nbytes
                if size > limit:
                    what = f"{self.file.size} bytes that take more than {limit} in memory"
                    raise StoreError(f"{self.path}: {what}; read it in batches")
            return pa.Table.from_batches(batches, parquet.schema_arrow)

    def batches(self, rows: int = _GROUP_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the table, at most ``rows`` rows at a time; DamagedError if a byte was changed."""
        with self.opened() as (parquet, _):
            yield from self.batches_of(parquet, rows)

    def batches_of(
        self,
        parquet: pq.ParquetFile,
        rows: int = _GROUP_ROWS,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the batches of the file that :meth:`opened` gave, of all columns or of some.

        Each lies in one row group, which as a whole has room in memory.
        """
        batches, left = _batches(parquet, rows, columns), self.rows
        while True:
            with _mapped(self.path):
                batch = next(batches, None)
                left -= 0 if batch is None else batch.num_rows
                if left < 0 or (batch is None and left):
                    raise ValueError(f"{self.rows - left} rows or more, not {self.rows}")
            if batch is None:
                return
            yield batch

    @contextmanager
    def opened(self) -> Iterator[tuple[pq.ParquetFile, TableSchema]]:
        """Open the file, all of its bytes compared."""
        with ExitStack() as stack:
            with _mapped(self.path):
                file = stack.enter_context(open_file(self.path, self._layout.root))
                data = FileBytes(file)
                _check_bytes(file, len(data), self.file)
                parquet = stack.enter_context(pq.ParquetFile(data.source()))
                if parquet.metadata.num_rows != self.rows:
                    raise ValueError(f"{parquet.metadata.num_rows} rows, not {self.rows}")
                # Before anything is read: of some types one missing value fills the memory.
                schema = read_schema(parquet.schema_arrow, parquet.metadata.metadata)
                check_row_groups(parquet, data)
            yield parquet, schema

    def __repr__(self) -> str:
        return f"<StoredTable {self.file.path}, {self.rows} rows>"


def _batches(
    parquet: pq.ParquetFile, rows: int, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    for group in range(parquet.num_row_groups):
        # There is room for so many rows: of more, a stranger has said nothing.
        size = max(1, min(rows, parquet.metadata.row_group(group).num_rows))
        yield from parquet.iter_batches(size, row_groups=[group], columns=columns)


def _check_bytes(file: BinaryIO, size: int, expected: TableFile) -> None:
    """Raise ValueError unless the file is what its record says."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    if (size, digest.hexdigest()) != (expected.size, expected.sha256):
        raise ValueError("the SHA-256 does not match: bytes were changed")


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """Map what can be wrong with the file at ``path``."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedError(f"{path}: missing") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: {in_a_line(error)}") from error


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
