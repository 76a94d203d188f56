"""What a Parquet file takes in memory, known before any of it is inflated.

A page of some bytes may say that it inflates to gigabytes, and a few bytes may stand for billions
of equal values. So the page headers, which say both, are read first: Thrift's compact protocol, as
the Parquet format specifies it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# What a part may take once it is read, beside a multiple of its own size; documented in
# docs/format.md, "Limits". Constant columns shrink by thousands, clocks by no more than ten.
FREE_BYTES = 1 << 30
INFLATION = 256
# Nothing nests in a page header but structs for its kind and for its statistics.
_MAX_NESTING = 4
_VALUE_BYTES = 8
_WINDOW_BYTES = 1 << 10  # a page header, and mostly no more
_DICTIONARY = (2, 8)  # the values are indices of the chunk's dictionary
_DELTA_BYTE_ARRAY = 7  # a value repeats what the one before began with


@dataclass(frozen=True)
class _Page:
    inflated: int
    values: int
    encoding: int
    is_dictionary: bool


class FileBytes:
    """The bytes of a file that need not be in memory: read, a window at a time, as asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._start, self._window = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, at: int) -> int:
        if not self._start <= at < self._start + len(self._window):
            self._start, self._window = at, os.pread(self._file.fileno(), _WINDOW_BYTES, at)
        return self._window[at - self._start]

    def source(self) -> pa.NativeFile:
        """Return the file for Arrow to read from, at any place."""
        return pa.PythonFile(_Reader(self._file.fileno(), self._size), mode="r")


class _Reader(io.RawIOBase):
    """Reads a descriptor at a place of its own."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size, self._at = fd, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        data = os.pread(self._fd, self._size - self._at if size < 0 else size, self._at)
        self._at += len(data)
        return data


Data: TypeAlias = "bytes | memoryview | FileBytes"


def check_memory(
    file: pq.ParquetFile,
    data: Data,
    unread: Collection[tuple[int, int]] = (),
) -> None:
    """Raise ValueError if reading ``file``, whose bytes are ``data``, takes more than it may.

    ``unread`` are the row groups and columns of chunks that won't be read.
    """
    left = limit = memory_limit(len(data))
    for group in range(file.metadata.num_row_groups):
        left -= _group_cost(file, data, group, unread, left)
        if left < 0:
            raise ValueError(f"{len(data)} bytes that inflate to more than {limit}")


def check_row_groups(file: pq.ParquetFile, data: Data) -> None:
    """Raise ValueError if one row group takes more than reading all of a file may.

    Enough for whoever reads one after the other: all of them may take more than there is memory.
    """
    limit = memory_limit(len(data))
    for group in range(file.metadata.num_row_groups):
        if _group_cost(file, data, group, (), limit) > limit:
            raise ValueError(f"{len(data)} bytes that inflate to more than {limit}")


def memory_limit(size: int) -> int:
    """Return the bytes that a file of ``size`` bytes may take in memory."""
    return FREE_BYTES + INFLATION * size


def _group_cost(
    file: pq.ParquetFile, data: Data, group: int, unread: Collection[tuple[int, int]], left: int
) -> int:
    """Return the bytes of a row group in memory, or anything above ``left``."""
    columns = file.metadata.row_group(group)
    cost = 0
    for index in range(columns.num_columns):
        if cost <= left and (group, index) not in unread:
            cost += _cost(data, group, columns.column(index), left - cost)
    # Where an array is missing, there is room for one.
    arrays = sum(_array_bytes(field.type) for field in file.schema_arrow)
    return max(cost, max(int(columns.num_rows), 1) * arrays)


def _array_bytes(kind: pa.DataType) -> int:
    """Return the bytes of one value in a column of arrays, 0 of any other column."""
    if not pa.types.is_fixed_size_list(kind):
        return 0
    inner = _array_bytes(kind.value_type) or kind.value_type.bit_width // 8 or 1
    return int(kind.list_size) * inner


def _cost(data: Data, group: int, column: pq.ColumnChunkMetaData, left: int) -> int:
    """Return the bytes of a column chunk in memory, or anything above ``left``."""
    try:
        pages = list(_pages(data, column))
    except IndexError as error:
        raise ValueError("a page header that ends with the file") from error
    values = sum(page.values for page in pages if not page.is_dictionary)
    if values != column.num_values:
        raise ValueError(f"a column of {column.num_values} values whose pages hold {values}")
    cost = sum(page.inflated for page in pages) + values * _VALUE_BYTES
    if column.physical_type != "BYTE_ARRAY" or cost > left:
        return cost
    if any(page.encoding == _DELTA_BYTE_ARRAY for page in pages):
        raise ValueError("a column in an encoding that repeats text without a limit")
    indices = sum(page.values for page in pages if page.encoding in _DICTIONARY)
    longest = sum(page.inflated for page in pages if page.is_dictionary)
    if cost + indices * longest > left:
        return cost + _text_bytes(data, group, column.path_in_schema)
    return cost


def _text_bytes(data: Data, group: int, name: str) -> int:
    """Return the bytes of all strings of a column chunk, which is read as the dictionary it is."""
    total = 0
    source = data.source() if isinstance(data, FileBytes) else pa.BufferReader(data)
    with pq.ParquetFile(source, read_dictionary=[name]) as file:
        chunks = file.read_row_group(group, columns=[name]).column(0).chunks
    for chunk in chunks:
        if not pa.types.is_dictionary(chunk.type):
            raise ValueError(f"a column {name!r:.80} that inflates to no one knows what")
        lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
        total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    return total


def _pages(data: Data, column: pq.ColumnChunkMetaData) -> Iterator[_Page]:
    """Yield the pages of a column chunk by their headers."""
    starts = (column.dictionary_page_offset, column.data_page_offset)
    at = min(start for start in starts if start is not None)
    end = at + column.total_compressed_size
    if not 0 <= at <= end <= len(data):
        raise ValueError("a column that lies outside of the file")
    while at < end:
        header, at = _struct(data, at)
        plain, second = header.get(5) or header.get(7), header.get(8)
        kind = plain or second or {}
        if type(kind) is not dict:
            raise ValueError("a page header that makes no sense")
        values, encoding = _number(kind, 1, 0), _number(kind, 4 if second else 2, 0)
        inflated, size = _number(header, 2, -1), _number(header, 3, -1)
        if min(values, inflated, size) < 0 or at + size > end:
            raise ValueError("a page header that makes no sense")
        yield _Page(inflated, values, encoding, is_dictionary=7 in header)
        at += size


def _number(fields: Mapping[int, Any], field: int, missing: int) -> int:
    value = fields.get(field, missing)
    if type(value) is not int:
        raise ValueError("a page header that makes no sense")
    return value


def _struct(data: Data, at: int, nesting: int = 0) -> tuple[dict[int, Any], int]:
    """Return the fields of the struct at an offset, and the offset behind it."""
    if nesting > _MAX_NESTING:
        raise ValueError("a page header that makes no sense")
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        fields[number], at = _value(data, at, head & 15, nesting)
    return fields, at + 1


def _value(data: Data, at: int, kind: int, nesting: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind in (4, 5, 6):
        return _integer(data, at)
    if kind == 8:
        length, at = _varint(data, at)
        return None, at + length
    if kind == 12:
        return _struct(data, at, nesting + 1)
    raise ValueError("a page header that makes no sense")


def _integer(data: Data, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: Data, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 128:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise ValueError("a page header that makes no sense")
    return number | data[at] << shift, at + 1
