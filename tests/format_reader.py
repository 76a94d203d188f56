"""A reader of run directories, written from docs/format.md alone: what a run has logged, by step.

It shares no line with the package, so where the two agree, it is the document that makes them.
``tests/format_state.py`` and ``tests/format_run.py`` add what rows don't show. The words in
parentheses are sections of the document.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.parquet as pq

MAGIC = b"\x89wbk\r\n\x1a\n"
STATS = ("count", "nan", "posinf", "neginf", "zero", "min", "max", "mean", "std")
NUMBER = (int, float)
PIECE = (str, int, NUMBER, NUMBER, dict)
SHAPES = {"history": PIECE, "partial": PIECE, "event": (str, str, NUMBER, dict)}
Record = dict[str, Any]


class Row(NamedTuple):
    step: int
    timestamp: float
    runtime: float
    attempt: int
    values: Record


class Writer(NamedTuple):
    attempt: int
    rows: list[Row]
    from_step: int | None


class UnreadableError(Exception):
    """The document forbids to read on."""


def read_rows(root: Path) -> list[Row]:
    """Return the rows that count, one a step, sorted by step (Attempts)."""
    parse_document((root / "run.json").read_bytes(), "run")
    writers = [read_writer(root, *owner) for owner in owners(root)]
    rows: dict[int, Row] = {}
    histograms: dict[tuple[int, int], Record] = {}
    for writer in writers:
        starts = [w.from_step for w in writers if w.attempt > writer.attempt and w.rows]
        limit = min((start for start in starts if start is not None), default=2**63)
        for row in (row for row in writer.rows if row.step < limit):
            found = {k: v for k, v in row.values.items() if is_histogram(v)}
            histograms.setdefault((row.attempt, row.step), {}).update(found)
            first = rows.setdefault(row.step, row._replace(values={})).values
            first.update({k: v for k, v in row.values.items() if k not in {*first, *found}})
    for row in rows.values():
        row.values.update(histograms[row.attempt, row.step])
    return [rows[step] for step in sorted(rows)]


def is_histogram(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_type") == "histogram"


def owners(root: Path) -> list[tuple[int, int]]:
    """Return attempt and number of each writer, in their order."""
    names = [path.relative_to(root).as_posix() for path in root.glob("attempts/*/*")]
    found = [re.fullmatch(r"attempts/(\d+)/(?:manifest|journal)-(\d+)[-.].*", n) for n in names]
    return sorted({(int(match[1]), int(match[2])) for match in found if match})


def read_writer(root: Path, attempt: int, number: int) -> Writer:
    """Return what a writer has sealed, then what is in its journal (Manifests)."""
    manifest = read_manifest(root, attempt, number)
    process, rows = manifest["state"].get("process", {}), sealed_rows(root, manifest["parts"])
    for header, records in read_segments(root, attempt, number, manifest["segments"]):
        process = process or header.get("process", {})
        for item in in_order(records, attempt):
            if isinstance(item, Row):
                rows.append(item)
            elif item[1] in ("attempt", "rollback"):
                process = {**process, **item[3]}
    return Writer(attempt, rows, process.get("from_step"))


def read_manifest(root: Path, attempt: int, number: int) -> Record:
    path = root / f"attempts/{attempt:03d}/manifest-{number:03d}.json"
    nothing: Record = {"segments": 0, "parts": [], "damage": [], "state": {}}
    return parse_document(path.read_bytes(), "manifest") if path.exists() else nothing


def read_segments(
    root: Path, attempt: int, number: int, first: int
) -> Iterator[tuple[Record, list[Any]]]:
    """Yield header and records of each segment from ``first`` on (Reading a writer's segments)."""
    for segment, path in segment_paths(root, attempt, number, first):
        header, records = read_segment(path.read_bytes())
        place = {"attempt": attempt, "writer": number, "segment": segment, **(header or {})}
        if (place["attempt"], place["writer"], place["segment"]) == (attempt, number, segment):
            yield header or {}, records


def segment_paths(root: Path, attempt: int, number: int, first: int) -> list[tuple[int, Path]]:
    paths = (root / f"attempts/{attempt:03d}").glob(f"journal-{number:03d}-*.wbk")
    numbered = sorted((int(path.stem.split("-")[2]), path) for path in paths)
    return [(segment, path) for segment, path in numbered if segment >= first]


def read_segment(data: bytes) -> tuple[Record | None, list[Any]]:
    """Return the header and the records of a segment (Reading a segment)."""
    header, records = None, []
    for _, payload in frames(data):
        try:
            value = msgspec.msgpack.decode(payload)
        except msgspec.DecodeError:
            continue
        if isinstance(value, dict) and header is None:
            header = value
            if (value.get("format"), value.get("version")) != ("wandbkeras-journal", 1):
                raise UnreadableError("version")
        elif isinstance(value, list) and value:
            records.append(value)
    return header, records


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield where each sound frame ends, and its payload (Frames)."""
    offset = len(MAGIC)
    while offset + 8 <= len(data):
        length, checksum = struct.unpack_from("<II", data, offset)
        payload = data[offset + 8 : offset + 8 + length]
        whole = 1 <= length <= 2**26 and len(payload) == length
        if whole and zlib.crc32(data[offset : offset + 4] + payload) == checksum:
            offset += 8 + length
            yield offset, payload
        else:
            offset += 1


def in_order(records: Sequence[list[Any]], attempt: int) -> Iterator[Row | list[Any]]:
    """Yield the rows of a segment, each once it is closed, and the events (Rows)."""
    row: Row | None = None
    for record in (record for record in records if record[0] in SHAPES):
        shape = SHAPES[record[0]]
        if len(record) != len(shape) or not all(map(isinstance, record, shape)):
            raise UnreadableError("shape")
        kind, step, *_ = record  # of an event its type
        if row and (step == "finish" if kind == "event" else step != row.step):
            yield row
            row = None
        if kind == "event":
            yield record
            continue
        row = Row(*record[1:4], attempt, {**(row.values if row else {}), **record[4]})
        if kind == "history":
            yield row
            row = None
    if row:
        yield row


def sealed_rows(root: Path, parts: Sequence[Record]) -> list[Row]:
    """Return the rows of a writer's parts, with their histograms (Parts)."""
    rows: dict[tuple[int, int], Row] = {}
    for record in read_parts(root, parts, "history"):
        step, *when = (record.pop(name) for name in ("_step", "_timestamp", "_runtime", "_attempt"))
        values: Record = dict.fromkeys(record.pop("_null", None) or ())
        values |= {name: value for name, value in record.items() if value is not None}
        rows[when[-1], step] = Row(step, *when, values)
    for record in read_parts(root, parts, "histograms"):
        value = {"_type": "histogram", "values": record["values"], "bins": record["bins"]}
        if stats := {name: record[name] for name in STATS if record[name] is not None}:
            value["stats"] = stats
        rows[record["_attempt"], record["_step"]].values[record["key"]] = value
    return list(rows.values())


def read_parts(root: Path, parts: Sequence[Record], stream: str) -> Iterator[Record]:
    for part in parts:
        if not re.fullmatch(r"[a-z_]{1,32}/\d{3,}-\d{3,}-\d{3,}\.parquet", part["name"]):
            raise UnreadableError(part["name"])
        if part["name"].startswith(f"{stream}/"):
            yield from read_parquet(root / part["name"], part["size"], part["sha256"])


def read_parquet(path: Path, size: int, sha256: str) -> list[Record]:
    """Return the rows of a Parquet file, with what its JSON text says."""
    data = path.read_bytes() if path.exists() else b""
    if (len(data), hashlib.sha256(data).hexdigest()) != (size, sha256):
        raise UnreadableError(path.name)
    with pq.ParquetFile(io.BytesIO(data)) as file:
        records: list[Record] = file.read().to_pylist()
        for name in json.loads(file.metadata.metadata[b"wandbkeras.json"]):
            for record in records:
                record[name] = None if record[name] is None else json.loads(record[name])
    return records


def parse_document(data: bytes, kind: str) -> Record:
    """Return the members of a checksummed document (Documents)."""
    ending = re.search(rb',\n  "checksum": "crc32:([0-9a-f]{8})"\n}\n\Z', data)
    if not ending or zlib.crc32(data[: ending.start()] + b"\n}\n") != int(ending[1], 16):
        raise UnreadableError("checksum")
    members: Record = json.loads(data.decode())
    del members["checksum"]
    if (members["format"], members["version"]) != (f"wandbkeras-{kind}", 1):
        raise UnreadableError("version")
    return members
