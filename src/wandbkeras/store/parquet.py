"""Parquet parts: written through the disk seam, durable before they have their name.

Any Parquet reader opens them. Floats are split by byte and integers by difference, which is both
smaller and much faster to read than a dictionary; pages carry checksums.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.errors import DamagedError
from wandbkeras.store import column_kinds, part_schema
from wandbkeras.store.chunks import checksums
from wandbkeras.store.disk import Disk, make_directories, write_all
from wandbkeras.store.pages import check_memory
from wandbkeras.store.plain_files import check_size, open_file
from wandbkeras.store.schema import FORMAT_VERSION

FORMAT_KEY = b"wandbkeras.version"
# Which string columns hold JSON text, for readers that don't see Arrow's field metadata.
JSON_KEY = b"wandbkeras.json"
# Of a row group: as many doubles are a page of 1 MiB, whose byte streams then are blocks of zstd.
GROUP_ROWS = 131_072
# Newer versions of pyarrow begin a page after 20,000 rows.
_ONE_PAGE = (
    {"max_rows_per_page": GROUP_ROWS}
    if "max_rows_per_page" in inspect.signature(pq.ParquetWriter).parameters
    else {}
)
# A row group of wide rows has fewer: it is in memory as a whole.
_GROUP_BYTES = 32 << 20
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
    """Write the tables of one stream as one file at ``target``.

    ``tables`` is gone through twice, so that they need not be in memory together.
    """
    stream = target.parent.name
    schema = (
        column_kinds.unified_schema(tables) if stream == "history" else next(iter(tables)).schema
    )
    json_columns = [field.name for field in schema if part_schema.is_json(field)]
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
                for group in _row_groups(column_kinds.conform(table, schema) for table in tables):
                    parquet.write_table(group, row_group_size=GROUP_ROWS)
                    rows += len(group)
            with temporary.open("rb") as file:
                footer, chunks = checksums(file)
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


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of the tables in row groups as large as they may be."""
    waiting: list[pa.Table] = []
    for table in tables:
        rest = table
        while len(rest):
            room = GROUP_ROWS - sum(map(len, waiting))
            waiting.append(rest.slice(0, room))
            rest = rest.slice(room)
            if len(waiting[-1]) == room or sum(t.nbytes for t in waiting) > _GROUP_BYTES:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def decode_part(
    path: Path, data: bytes, names: Sequence[str] | None, *, check_pages: bool = False
) -> pa.Table:
    """Return the table in a part's bytes (its columns ``names``); DamagedError if it is none."""
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=check_pages) as file:
            part_schema.check_schema(file.schema_arrow, path.parent.name)
            check_memory(file, data)
            known = None if names is None else [n for n in names if n in file.schema_arrow.names]
            table = file.read(columns=known)
        return part_schema.checked_table(table, path.parent.name)
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
        check_size(file.fileno(), path, limit)
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
        **_ONE_PAGE,
        "column_encoding": encodings,
        "use_dictionary": [f.name for f in schema if pa.types.is_string(f.type)],
        "sorting_columns": [pq.SortingColumn(schema.get_field_index("_step"))]
        if "_step" in schema.names
        else None,
    }


class DiskSink(io.RawIOBase):
    """A file for pyarrow to write to, whose bytes pass through the disk seam and are hashed.

    Once it is ``shut`` it takes everything and writes nothing: a writer of pyarrow's that is given
    up writes its footer when it is collected, when the descriptor may be another file's.
    """

    def __init__(self, disk: Disk, fd: int) -> None:
        self.size = 0
        self.shut = False
        self.sha256 = hashlib.sha256()
        self._disk = disk
        self._fd = fd

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        content = bytes(data)
        if self.shut:
            return len(content)
        write_all(self._disk, self._fd, content)
        self.sha256.update(content)
        self.size += len(content)
        return len(content)
