"""The column chunks of a part: their checksums, and which of them are still what was written.

Parquet's page checksums don't cover the page headers: a changed header can turn values into others
without an error. So a manifest holds a checksum of every chunk as a whole, and the SHA-256 of the
footer, which says where the chunks lie.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_MAGIC = b"PAR1"
_TAIL = 8  # the footer's length in four bytes, then the magic
_HEX = 8


@dataclass(frozen=True)
class Chunk:
    """The bytes of one column of one row group. ``column`` counts the columns of the file."""

    group: int
    column: int
    offset: int
    size: int


@dataclass(frozen=True)
class Inspection:
    """What is damaged in a part: column ``chunks``, and bytes ``outside`` of them.

    ``metadata`` is the footer's; None if the footer is damaged, and with it the whole part.
    """

    metadata: pq.FileMetaData | None
    chunks: tuple[Chunk, ...] = ()
    outside: tuple[tuple[int, int, str], ...] = ()


def chunks_of(metadata: pq.FileMetaData) -> Iterator[Chunk]:
    """Yield the chunks in the order in which they lie in the file."""
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for index in range(columns.num_columns):
            column = columns.column(index)
            starts = (column.dictionary_page_offset, column.data_page_offset)
            offset = min(start for start in starts if start is not None)
            yield Chunk(group, index, offset, column.total_compressed_size)


def checksums(path: Path) -> tuple[str, str]:
    """Return the SHA-256 of the footer, and the CRC-32 of every chunk, eight digits each.

    The file is read back, because only its footer says where one chunk ends and the next begins.
    """
    with path.open("rb") as file:
        texts = []
        for chunk in chunks_of(pq.read_metadata(path)):
            file.seek(chunk.offset)
            texts.append(f"{zlib.crc32(file.read(chunk.size)):08x}")
        file.seek(-_TAIL, os.SEEK_END)
        file.seek(-_TAIL - _footer_length(file.read()), os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest(), "".join(texts)


def _footer_length(tail: bytes) -> int:
    return int.from_bytes(tail[:4], "little")


def inspect(data: bytes, *, size: int, footer: str, checksums: str) -> Inspection:
    """Return what is damaged in a part of ``size`` bytes, by the checksums in its manifest."""
    outside = []
    if len(data) > size:
        outside.append((size, len(data) - size, "bytes behind the end of what was written"))
        data = data[:size]
    start = max(len(data) - _TAIL - _footer_length(data[-_TAIL:]), 0)
    if hashlib.sha256(data[start:]).hexdigest() != footer:
        outside.append((start, len(data) - start, "the footer"))
        return Inspection(None, outside=tuple(outside))
    metadata = pq.read_metadata(pa.BufferReader(data))
    if not data.startswith(_MAGIC):
        outside.append((0, len(_MAGIC), "the magic of the file"))
    damaged = []
    for number, chunk in enumerate(chunks_of(metadata)):
        expected = checksums[number * _HEX : (number + 1) * _HEX]
        content = data[chunk.offset : chunk.offset + chunk.size]
        if f"{zlib.crc32(content):08x}" != expected:
            damaged.append(chunk)
    return Inspection(metadata, tuple(damaged), tuple(outside))
