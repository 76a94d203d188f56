"""A reader of run directories, written from docs/format.md alone, whose sections it names.

It shares no line with the package, so where the two agree, it is the document that makes them.
It reads who the run is and its rows; ``tests/format_contents.py`` reads what is beside them,
``tests/format_state.py`` what records add up to, and ``tests/format_damage.py`` what is damaged.
A row is a mapping, as in a part: ``_step``, ``_timestamp``, ….
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

MAGIC = b"\x89wbk\r\n\x1a\n"
INDEX = ("_step", "_timestamp", "_runtime", "_attempt")
STATS = ("count", "nan", "posinf", "neginf", "zero", "min", "max", "mean", "std")
TABLES = ("table/parquet", "images/parquet", "image/parquet")
Record = dict[str, Any]


class UnreadableError(Exception):
    """The document forbids to read on."""


def read_run(root: Path) -> tuple[Record, list[Record]]:
    """Return who the run is, and its rows."""
    info = parse_document((root / "run.json").read_bytes(), "run")
    rows = merged_rows([read_writer(root, *owner) for owner in owners(root)])
    damage = [d for owner in owners(root) for d in read_manifest(root, *owner)["damage"]]
    lost = [place["path"] for place in damage]
    for row in rows:
        for name in [k for k, v in row.items() if is_a(v, *TABLES) and v["path"] in lost]:
            del row[name]
    return info, rows


def parse_document(data: bytes, kind: str) -> Record:
    """Return the members of a checksummed document (Documents)."""
    ending = re.search(rb',\n  "checksum": "crc32:([0-9a-f]{8})"\n}\n\Z', data)
    if not ending or zlib.crc32(data[: ending.start()] + b"\n}\n") != int(ending[1], 16):
        raise UnreadableError("checksum")
    members: Record = json.loads(data)
    del members["checksum"]
    if (members["format"], members["version"]) != (f"wandbkeras-{kind}", 1):
        raise UnreadableError("version")
    return members


def owners(root: Path) -> list[tuple[int, int]]:
    """Return attempt and number of each writer, in their order (Attempts)."""
    found = [(path.parent.name, path.stem) for path in root.glob("attempts/*/[jm]*-*")]
    return sorted({(int(attempt), int(name.split("-")[1])) for attempt, name in found})


def read_manifest(root: Path, attempt: int, number: int) -> Record:
    path = root / f"attempts/{attempt:03d}/manifest-{number:03d}.json"
    nothing: Record = {"segments": 0, "parts": [], "damage": [], "state": {}}
    return parse_document(path.read_bytes(), "manifest") if path.exists() else nothing


def read_writer(root: Path, attempt: int, number: int) -> Record:
    """Return the rows that a writer has sealed and those in its journal (Manifests, Rows)."""
    folder, manifest = root / f"attempts/{attempt:03d}", read_manifest(root, attempt, number)
    process: Record = dict(manifest["state"].get("process") or {})
    rows = sealed_rows(root, manifest["parts"])
    for header, records in read_segments(folder, f"journal-{number:03d}", manifest["segments"]):
        process = process or dict(header.get("process", {}))
        for kind, *elements in records:
            if kind == "event" and elements[0] in ("attempt", "rollback"):
                process.update(elements[2])
            elif kind in ("history", "partial"):
                step, timestamp, runtime, values = elements
                index = dict(zip(INDEX, (step, timestamp, runtime, attempt), strict=True))
                rows[step] = {**rows.get(step, {}), **index, **values}
    return {"attempt": attempt, "from_step": process.get("from_step"), "rows": rows}


def read_segments(folder: Path, name: str, first: int = 0) -> Iterator[tuple[Record, list[Any]]]:
    """Yield header and records of each segment (Reading a writer's segments)."""
    for path in sorted(folder.glob(f"{name}-*.wbk"), key=lambda path: (len(path.name), path.name)):
        writer, segment = map(int, path.stem.split("-")[1:])
        if segment >= first:
            header, records = read_segment(path.read_bytes())
            place = {"attempt": int(folder.name), "writer": writer, "segment": segment}
            if all(header.get(name, number) == number for name, number in place.items()):
                yield header, records


def read_segment(data: bytes) -> tuple[Record, list[Any]]:
    """Return header and records (Reading a segment)."""
    header: Record = {}
    records = []
    for _, payload in frames(data):
        try:
            value = msgspec.msgpack.decode(payload)
        except msgspec.DecodeError:
            continue
        if isinstance(value, list) and value:
            records.append(value)
        elif isinstance(value, dict) and not header:
            header = value
            if (value.get("format"), value.get("version")) != ("wandbkeras-journal", 1):
                raise UnreadableError("version")
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


def merged_rows(writers: list[Record]) -> list[Record]:
    """Return the rows that count, one a step, sorted by step (Attempts)."""
    starts = [(writer["attempt"], writer["from_step"]) for writer in writers if writer["rows"]]
    merged: dict[int, Record] = {}
    for writer in writers:
        later = [step for number, step in starts if number > writer["attempt"] and step is not None]
        for step in [step for step in writer["rows"] if step < min(later, default=2**63)]:
            row = merged.setdefault(step, {})
            for name, value in writer["rows"][step].items():
                if name not in row or (is_a(row[name], "histogram") > is_a(value, "histogram")):
                    row[name] = value
    return [merged[step] for step in sorted(merged)]


def is_a(value: Any, *types: str) -> bool:
    return isinstance(value, dict) and value.get("_type") in types


def sealed_rows(root: Path, parts: list[Record]) -> dict[int, Record]:
    """Return the rows of a writer's parts, with their histograms (Parts)."""
    rows = {}
    for row in read_parts(root, parts, "history"):
        nulls = dict.fromkeys(row.pop("_null", None) or ())
        rows[row["_step"]] = {name: v for name, v in row.items() if v is not None} | nulls
    for record in read_parts(root, parts, "histograms"):
        value = {"_type": "histogram", "values": record["values"], "bins": record["bins"]}
        if stats := {name: record[name] for name in STATS if record[name] is not None}:
            value["stats"] = stats
        rows[record["_step"]][record["key"]] = value
    return rows


def read_parts(root: Path, parts: list[Record], stream: str) -> list[Record]:
    found = [part for part in parts if part["name"].startswith(f"{stream}/")]
    return [row for part in found for row in read_parquet(root, part["name"], part)]


def read_parquet(root: Path, name: str, named: Record) -> list[Record]:
    """Return the rows of a part or a table, with what its JSON text says (Parts, Tables)."""
    if not re.fullmatch(r"(tables/\w[\w.-]*|[a-z_]+)/[\d-]+\.parquet", name, re.ASCII):
        raise UnreadableError(name)
    data = (root / name).read_bytes() if (root / name).exists() else b""
    if (len(data), hashlib.sha256(data).hexdigest()) != (named["size"], named["sha256"]):
        raise UnreadableError(name)
    with pq.ParquetFile(io.BytesIO(data)) as file:
        records: list[Record] = file.read().to_pylist()
        for column in json.loads(file.metadata.metadata[b"wandbkeras.json"]):
            for record in records:
                record[column] = None if record[column] is None else json.loads(record[column])
    return records
