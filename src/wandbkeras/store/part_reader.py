"""Reading a part: only what is asked for is read, and nothing is taken that was changed.

The footer is compared with its SHA-256 in the manifest and each column chunk with its CRC-32, while
it is read. Every byte of a part is in one of them, or in the magic that it begins with.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

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
    """Return the part's table (its columns ``names``); DamagedError if a byte of it was changed.

    FileNotFoundError if it is gone: a live run may have replaced it, and the caller looks again.
    """
    path = layout.listed_part(part.name)
    try:
        with open_file(path, layout.root) as file:
            return _PartReader(file.fileno(), part).read(names)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: {in_a_line(error)}") from error


class _PartReader:
    """Reads the part in the open file ``fd``; ValueError where it isn't what was sealed."""

    def __init__(self, fd: int, part: Part) -> None:
        size = os.fstat(fd).st_size
        if size != part.size or size > MAX_PART_BYTES:
            raise ValueError(f"{size} bytes, {part.size} were sealed")
        self._fd = fd
        self._part = part
        # As large as the file, but only what is read of it takes memory.
        self._buffer = pa.allocate_buffer(size)
        self._data = memoryview(self._buffer).cast("B")

    def read(self, names: Collection[str] | None) -> pa.Table:
        self._load_ends()
        with pq.ParquetFile(pa.BufferReader(self._buffer)) as file:
            part_schema.check_schema(file.schema_arrow, self._part.stream)
            known = file.schema_arrow.names
            wanted = [i for i, name in enumerate(known) if names is None or name in names]
            chunks = chunks_of(file.metadata, self._footer)
            if file.metadata.num_columns != len(known):
                raise ValueError("columns within columns")
            self._load([chunk for chunk in chunks if chunk.column in wanted])
            unread = {(c.group, c.column) for c in chunks if c.column not in wanted}
            check_memory(file, self._data, unread)
            table: pa.Table = file.reader.read_all(column_indices=wanted, use_threads=True)
        return part_schema.checked_table(table, self._part.stream)

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
