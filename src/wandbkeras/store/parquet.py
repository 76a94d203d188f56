"""Parquet parts: written through the disk seam, durable before they have their name.

Any Parquet reader opens them. Floats are split by byte and integers by difference, which is both
smaller and much faster to read than a dictionary; pages carry checksums.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.errors import DamagedError
from wandbkeras.store import columns
from wandbkeras.store.chunks import checksums
from wandbkeras.store.disk import Disk, make_directories, write_all
from wandbkeras.store.layout import Layout, check_size, open_file, read_file
from wandbkeras.store.pages import check_memory
from wandbkeras.store.schema import FORMAT_VERSION

FORMAT_KEY = b"wandbkeras.version"
# Which string columns hold JSON text, for readers that don't see Arrow's field metadata.
JSON_KEY = b"wandbkeras.json"
# A larger one is not read; documented in docs/format.md, "Limits".
MAX_PART_BYTES = 1 << 32
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """A sealed Parquet file: its name within the run, its rows, its bytes and their SHA-256.

    ``footer`` and ``chunks`` (see :mod:`wandbkeras.store.chunks`) say what of it is sound once the
    whole is not.
    """

    name: str
    rows: int
    size: int
    sha256: str
    footer: str = ""
    chunks: str = ""

    @property
    def stream(self) -> str:
        return self.name.partition("/")[0]


def write_part(disk: Disk, target: Path, tables: Iterable[pa.Table]) -> Part:
    """Write the tables of one stream as one file at ``target``, a row group each.

    ``tables`` is gone through twice, so that they need not be in memory together.
    """
    stream = target.parent.name
    schema = columns.unified_schema(tables) if stream == "history" else next(iter(tables)).schema
    json_columns = [field.name for field in schema if columns.is_json(field)]
    schema = schema.with_metadata(
        {FORMAT_KEY: str(FORMAT_VERSION).encode(), JSON_KEY: json.dumps(json_columns).encode()}
    )
    make_directories(disk, target.parent, within=target.parent.parent)
    temporary = target.with_suffix(".tmp")
    if temporary.exists():  # of a sealing that was interrupted
        disk.remove(temporary)
    fd = disk.create(temporary)
    sink, rows = DiskSink(disk, fd), 0
    try:
        try:
            with pq.ParquetWriter(sink, schema, **_options(schema)) as parquet:
                for table in tables:
                    parquet.write_table(columns.conform(table, schema))
                    rows += len(table)
            footer, chunks = checksums(temporary)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.replace(temporary, target)
    except BaseException:
        with suppress(OSError):  # it may be what fills the disk
            disk.remove(temporary)
        raise
    disk.sync_directory(target.parent)
    return Part(f"{stream}/{target.name}", rows, sink.size, sink.sha256.hexdigest(), footer, chunks)


def read_part(layout: Layout, part: Part, names: Sequence[str] | None = None) -> pa.Table:
    """Return the part's table (its columns ``names``); DamagedError if a byte was changed."""
    path = layout.listed_part(part.name)
    try:
        data = read_file(path, MAX_PART_BYTES, layout.root)
    except FileNotFoundError:
        raise  # a live run may have replaced it: the caller looks again
    except OSError as error:
        raise DamagedError(f"{path}: {error}") from error
    # Parquet's own checksums cover neither the page headers nor the footer with the names.
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise DamagedError(f"{path}: the SHA-256 does not match: bytes were changed")
    return decode_part(path, data, names)


def decode_part(
    path: Path, data: bytes, names: Sequence[str] | None, *, check_pages: bool = False
) -> pa.Table:
    """Return the table in a part's bytes (its columns ``names``); DamagedError if it is none."""
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=check_pages) as file:
            check_memory(file, data)
            known = None if names is None else [n for n in names if n in file.schema_arrow.names]
            table = file.read(columns=known)
        return columns.checked_table(table, path.parent.name)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: {in_a_line(error)}") from error


def in_a_line(error: Exception) -> str:
    """Return what Arrow says, which may have many lines, in one."""
    return " ".join(str(error).split())


def file_sha256(path: Path, root: Path | None = None, *, limit: int | None = None) -> str:
    """Return the SHA-256 of the bytes of a file of the run at ``root``, in hexadecimal.

    DamagedError if it has more than ``limit`` bytes.
    """
    digest = hashlib.sha256()
    with open_file(path, root) as file:
        check_size(file, path, limit)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _options(schema: pa.Schema) -> dict[str, Any]:
    encodings = {}
    for field in schema:
        if pa.types.is_float64(field.type):
            encodings[field.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_integer(field.type):
            encodings[field.name] = "DELTA_BINARY_PACKED"
    return {
        "compression": "zstd",
        "write_page_checksum": True,
        "column_encoding": encodings,
        "use_dictionary": [f.name for f in schema if pa.types.is_string(f.type)],
        "sorting_columns": [pq.SortingColumn(schema.get_field_index("_step"))]
        if "_step" in schema.names
        else None,
    }


class DiskSink(io.RawIOBase):
    """A file for pyarrow to write to, whose bytes pass through the disk seam and are hashed."""

    def __init__(self, disk: Disk, fd: int) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._disk = disk
        self._fd = fd

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        content = bytes(data)
        write_all(self._disk, self._fd, content)
        self.sha256.update(content)
        self.size += len(content)
        return len(content)
