"""The column chunks of a part: their checksums, and which of them are still what was written.

Parquet's page checksums don't cover the page headers: a changed header can turn values into others
without an error. So a manifest holds a checksum of every chunk as a whole, and the SHA-256 of the
footer, which says where the chunks lie.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

MAGIC = b"PAR1"
TAIL = 8  # the footer's length in four bytes, then the magic
_HEX = 8


@dataclass(frozen=True)
class Chunk:
    """The bytes of one column of one row group. ``column`` counts the columns of the file.

    ``number`` counts the chunks of the file, as a manifest does.
    """

    group: int
    column: int
    offset: int
    size: int
    number: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.size

    def is_sound(self, checksum: int, checksums: str) -> bool:
        """Whether the CRC-32 of its bytes is the one among the part's ``checksums``."""
        return f"{checksum:08x}" == checksums[self.number * _HEX : (self.number + 1) * _HEX]


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
    number = 0
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for index in range(columns.num_columns):
            column = columns.column(index)
            starts = (column.dictionary_page_offset, column.data_page_offset)
            offset = min(start for start in starts if start is not None)
            yield Chunk(group, index, offset, column.total_compressed_size, number)
            number += 1


def check_tiling(chunks: Iterable[Chunk], end: int) -> None:
    """Raise ValueError unless the chunks follow one another from the magic to the footer."""
    at = len(MAGIC)
    for chunk in chunks:
        if chunk.offset != at or chunk.size < 0:
            raise ValueError(f"bytes from offset {at} on that belong to no column, or to two")
        at = chunk.end
    if at != end:
        raise ValueError(f"bytes from offset {at} on that belong to no column, or to two")


def footer_start(tail: bytes | memoryview, size: int) -> int:
    """Return where the footer of a part of ``size`` bytes begins, by its last ``TAIL`` bytes."""
    return max(size - TAIL - int.from_bytes(tail[:4], "little"), 0)


def checksums(file: BinaryIO) -> tuple[str, str]:
    """Return the SHA-256 of a part's footer, and the CRC-32 of every chunk, eight digits each.

    The file is read back, because only its footer says where one chunk ends and the next begins.
    """
    texts = []
    for chunk in chunks_of(pq.read_metadata(file)):
        file.seek(chunk.offset)
        texts.append(f"{zlib.crc32(file.read(chunk.size)):08x}")
    size = file.seek(-TAIL, os.SEEK_END) + TAIL
    file.seek(footer_start(file.read(), size))
    return hashlib.sha256(file.read()).hexdigest(), "".join(texts)


def inspect(data: bytes, *, size: int, footer: str, checksums: str) -> Inspection:
    """Return what is damaged in a part of ``size`` bytes, by the checksums in its manifest."""
    outside = []
    if len(data) > size:
        outside.append((size, len(data) - size, "bytes behind the end of what was written"))
        data = data[:size]
    start = footer_start(data[-TAIL:], len(data))
    if hashlib.sha256(data[start:]).hexdigest() != footer:
        outside.append((start, len(data) - start, "the footer"))
        return Inspection(None, outside=tuple(outside))
    metadata = pq.read_metadata(pa.BufferReader(data))
    if not data.startswith(MAGIC):
        outside.append((0, len(MAGIC), "the magic of the file"))
    chunks = list(chunks_of(metadata))
    check_tiling(chunks, start)
    damaged = [
        chunk
        for chunk in chunks
        if not chunk.is_sound(zlib.crc32(data[chunk.offset : chunk.end]), checksums)
    ]
    return Inspection(metadata, tuple(damaged), tuple(outside))
