"""Reading a part: only what is asked for is read, and nothing is taken that was changed.

The footer is compared with its SHA-256 in the manifest and each column chunk with its CRC-32, while
it is read. Every byte of a part is in one of them, or in the magic that it begins with.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.errors import DamagedError
from wandbkeras.store import part_schema
from wandbkeras.store.chunks import MAGIC, TAIL, Chunk, chunks_of, footer_start
from wandbkeras.store.layout import Layout
from wandbkeras.store.pages import check_memory
from wandbkeras.store.parquet import MAX_PART_BYTES, Part, in_a_line
from wandbkeras.store.plain_files import open_file

# Less is read before threads have started.
_PARALLEL_BYTES = 4 << 20
# What a processor's cache holds: bytes are checked while they are in it.
_PIECE_BYTES = 128 << 10


def read_part(layout: Layout, part: Part, names: Collection[str] | None = None) -> pa.Table:
    """Return the part's table (its columns ``names``), as :func:`load_part` does."""
    return load_part(layout, part, names).table()


def load_part(layout: Layout, part: Part, names: Collection[str] | None = None) -> LoadedPart:
    """Read a part (its columns ``names``); DamagedError if a byte of it was changed.

    FileNotFoundError if it is gone: a live run may have replaced it, and the caller looks again.
    """
    path = layout.listed_part(part.name)
    with _damage(path), open_file(path, layout.root) as file:
        return _PartReader(file.fileno(), path, part).load(names)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Call what comes of reading a damaged file by its name."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: {in_a_line(error)}") from error


class LoadedPart:
    """A part that was read and found to be as it was sealed, in memory as it is on disk.

    Decoded it is larger by far: all at once, or a row group at a time.
    """

    def __init__(self, path: Path, file: pq.ParquetFile, stream: str, columns: list[int]) -> None:
        self._path = path
        self._file = file
        self._stream = stream
        self._columns = columns

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([self._file.schema_arrow.field(number) for number in self._columns])

    def table(self) -> pa.Table:
        with _damage(self._path):
            read = self._file.reader.read_all(column_indices=self._columns, use_threads=True)
            return part_schema.checked_table(read, self._stream)

    def row_groups(self) -> Iterator[pa.Table]:
        for number in range(self._file.num_row_groups):
            with _damage(self._path):
                read = self._file.reader.read_row_group(number, column_indices=self._columns)
                table = part_schema.checked_table(read, self._stream)
            yield table


class _PartReader:
    """Reads the part in the open file ``fd``; ValueError where it isn't what was sealed."""

    def __init__(self, fd: int, path: Path, part: Part) -> None:
        size = os.fstat(fd).st_size
        if size != part.size or size > MAX_PART_BYTES:
            raise ValueError(f"{size} bytes, {part.size} were sealed")
        self._fd = fd
        self._path = path
        self._part = part
        # As large as the file, but only what is read of it takes memory.
        self._buffer = pa.allocate_buffer(size)
        self._data = memoryview(self._buffer).cast("B")

    def load(self, names: Collection[str] | None) -> LoadedPart:
        self._load_ends()
        file = pq.ParquetFile(pa.BufferReader(self._buffer))
        part_schema.check_schema(file.schema_arrow, self._part.stream)
        known = file.schema_arrow.names
        wanted = [i for i, name in enumerate(known) if names is None or name in names]
        chunks = chunks_of(file.metadata, self._footer)
        if file.metadata.num_columns != len(known):
            raise ValueError("columns within columns")
        self._load([chunk for chunk in chunks if chunk.column in wanted])
        unread = {(c.group, c.column) for c in chunks if c.column not in wanted}
        check_memory(file, self._data, unread)
        return LoadedPart(self._path, file, self._part.stream, wanted)

    def _load_ends(self) -> None:
        """Read the magic that the file begins with, and its footer."""
        size = len(self._data)
        self._fill(max(0, size - TAIL), size)
        self._footer = footer_start(self._data[-TAIL:], size)
        self._fill(self._footer, size)
        if hashlib.sha256(self._data[self._footer :]).hexdigest() != self._part.footer:
            raise ValueError("the SHA-256 of the footer does not match: bytes were changed")
        self._fill(0, len(MAGIC))
        if self._data[: len(MAGIC)] != MAGIC:
            raise ValueError("it does not begin as Parquet does: bytes were changed")

    def _load(self, chunks: Sequence[Chunk]) -> None:
        """Read column chunks into their places, several at a time if that is worth it."""
        if sum(chunk.size for chunk in chunks) > _PARALLEL_BYTES:
            shares = [chunks[n :: pa.cpu_count()] for n in range(pa.cpu_count())]
            with ThreadPoolExecutor(pa.cpu_count()) as pool:
                list(pool.map(self._load_share, shares))
        else:
            self._load_share(chunks)

    def _load_share(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            checksum = self._fill(chunk.offset, chunk.end)
            if not chunk.is_sound(checksum, self._part.chunks):
                where = f"column {chunk.column} of row group {chunk.group}"
                raise ValueError(f"{where}: the CRC-32 does not match: bytes were changed")

    def _fill(self, start: int, end: int) -> int:
        """Read the bytes from ``start`` to ``end`` into their place; return their CRC-32."""
        checksum = 0
        while start < end:
            piece = os.pread(self._fd, min(end - start, _PIECE_BYTES), start)
            if not piece:
                raise ValueError("the file became shorter while it was read")
            checksum = zlib.crc32(piece, checksum)
            self._data[start : start + len(piece)] = piece
            start += len(piece)
        return checksum
