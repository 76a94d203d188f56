"""The tables of a stored run: every byte is checked when one is read.

A table is a Parquet file of its own. A row of the history, or an artifact manifest, names it by its
path, its SHA-256 and its size, so whatever names it proves it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.errors import DamagedError, StoreError
from wandbkeras.store.layout import Layout
from wandbkeras.store.pages import FileBytes, check_row_groups, memory_limit
from wandbkeras.store.parquet import in_a_line
from wandbkeras.store.plain_files import open_file
from wandbkeras.store.schema import TableFile
from wandbkeras.store.table_schema import TableSchema, read_schema
from wandbkeras.store.table_writer import GROUP_ROWS

_CHUNK = 1 << 20


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

    def batches(self, rows: int = GROUP_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the table, at most ``rows`` rows at a time; DamagedError if a byte was changed."""
        with self.opened() as (parquet, _):
            yield from self.batches_of(parquet, rows)

    def batches_of(
        self,
        parquet: pq.ParquetFile,
        rows: int = GROUP_ROWS,
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
