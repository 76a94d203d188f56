"""The column chunks of a part: their checksums, and which of them are still what was written.

Parquet's page checksums don't cover the page headers: a changed header can turn values into others
without an error. So a manifest holds a checksum of every chunk as a whole, and the SHA-256 of the
footer, which says where the chunks lie.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

MAGIC = b"PAR1"
TAIL = 8  # the footer's length in four bytes, then the magic
_HEX = 8


@dataclass(frozen=True)
class Chunk:
    """The bytes from one column of one row group to the next. ``column`` counts those of the file.

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


def chunks_of(metadata: pq.FileMetaData, footer: int) -> list[Chunk]:
    """Return the chunks in the order in which they lie in a file whose footer begins at ``footer``.

    Each reaches to the next one, or to the footer: older versions of Arrow write more behind a
    column than readers need, and no byte must be without a checksum. ValueError if they overlap.
    """
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    columns = [
        (number, index, group.column(index))
        for number, group in enumerate(groups)
        for index in range(group.num_columns)
    ]
    starts = [_start(column) for *_, column in columns]
    chunks = [
        Chunk(group, index, start, end - start, number)
        for number, ((group, index, _), start, end) in enumerate(
            zip(columns, starts, [*starts[1:], footer], strict=True)
        )
    ]
    sizes = [column.total_compressed_size for *_, column in columns]
    overlap = any(not 0 <= size <= c.size for size, c in zip(sizes, chunks, strict=True))
    if overlap or (starts or [footer])[0] != len(MAGIC):
        raise ValueError("columns that overlap, or lie outside of the file")
    return chunks


def _start(column: pq.ColumnChunkMetaData) -> int:
    starts = (column.dictionary_page_offset, column.data_page_offset)
    return int(min(start for start in starts if start is not None))


def footer_start(tail: bytes | memoryview, size: int) -> int:
    """Return where the footer of a part of ``size`` bytes begins, by its last ``TAIL`` bytes."""
    return max(size - TAIL - int.from_bytes(tail[:4], "little"), 0)


def checksums(file: BinaryIO) -> tuple[str, str]:
    """Return the SHA-256 of a part's footer, and the CRC-32 of every chunk, eight digits each.

    The file is read back, because only its footer says where one chunk ends and the next begins.
    """
    size = file.seek(-TAIL, os.SEEK_END) + TAIL
    start = footer_start(file.read(), size)
    texts = []
    for chunk in chunks_of(pq.read_metadata(file), start):
        file.seek(chunk.offset)
        texts.append(f"{zlib.crc32(file.read(chunk.size)):08x}")
    file.seek(start)
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
    damaged = [
        chunk
        for chunk in chunks_of(metadata, start)
        if not chunk.is_sound(zlib.crc32(data[chunk.offset : chunk.end]), checksums)
    ]
    return Inspection(metadata, tuple(damaged), tuple(outside))
