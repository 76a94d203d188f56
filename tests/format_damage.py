"""A run and what is wrong with it, from docs/format.md alone: what is damaged, torn and lost.

It stands on ``tests/format_contents.py``, and shares no line with the package either.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from tests import format_contents
from tests.format_reader import (
    INDEX,
    MAGIC,
    TABLES,
    Record,
    UnreadableError,
    frames,
    is_a,
    owners,
    read_manifest,
    read_parquet,
    read_segment,
)
from tests.format_state import Row, merged_state, read_states, status

Place = tuple[str, int, int]  # path within the run, offset, size


class Run(msgspec.Struct):
    """What a run directory says."""

    info: Record
    state: Record
    rows: list[Row]
    status: str
    artifacts: list[Record] = []
    tables: list[tuple[str, int, Any]] = []  # metric, step, the cells of each column
    console: list[Any] = []  # attempt, writer, line, stream, timestamp, text
    damage: list[Place] = []
    torn: int = 0


class Segment(msgspec.Struct):
    """What one file of a journal says; ``damage`` is offsets and sizes."""

    header: Record | None = None
    records: list[list[Any]] = []
    damage: list[tuple[int, int]] = []
    torn: int = 0


def read_run(root: Path, *, host: str, now: float) -> Run:
    """Read the run at ``root``, on the machine ``host`` at the time ``now``."""
    states, found = read_states(root), format_contents.read_run(root)
    indexes = [[row.pop(name) for name in INDEX] for row in found["rows"]]
    rows = [Row(*index, row) for index, row in zip(indexes, found["rows"], strict=True)]
    run = Run(found["info"], merged_state(states), rows, status(states, host, now))
    for owner in owners(root):
        manifest = read_manifest(root, *owner)
        run.damage += [(d["path"], d["offset"], d["size"]) for d in manifest["damage"]]
        _check_parts(root, manifest["parts"])
        _check_journal(root, owner, manifest["segments"], run)
    default: Record = {"references": {}, "tables": {}, "used": False, "step": None}
    run.artifacts = [{**default, **artifact} for artifact in found["artifacts"]]
    run.console = found["console"]
    _leave_out_lost_tables(run)
    for row in run.rows:
        named = {key: value for key, value in row.values.items() if is_a(value, *TABLES)}
        run.tables += [(key, row.step, read_table(root, value)) for key, value in named.items()]
    for artifact in run.artifacts:
        run.tables += [(k, -1, read_table(root, v)) for k, v in artifact["tables"].items()]
    return run


def parse_segment(data: bytes) -> Segment:
    """Return what is sound in a segment, and where it isn't (Reading a segment)."""
    if data == MAGIC[: len(data)]:
        return Segment(torn=len(data))
    header, records = read_segment(data)
    segment = Segment(header or None, records, [] if data[:8] == MAGIC else [(0, 8)])
    end, has_header = len(MAGIC), False
    for after, payload in frames(data):
        if after - len(payload) - 8 > end:
            segment.damage.append((end, after - len(payload) - 8 - end))
        end = after
        try:
            value = msgspec.msgpack.decode(payload)
        except msgspec.DecodeError:
            segment.damage.append((end - len(payload), len(payload)))
            continue
        if isinstance(value, dict) and not has_header:
            has_header = True
        elif not isinstance(value, list) or not value:
            segment.damage.append((end, 0))
    rest = data[end:]
    if rest and not is_torn(rest, end):
        segment.damage.append((end, len(rest)))
        rest = b""
    if not header and not records:
        return Segment(damage=[(0, len(data))]) if segment.damage else Segment(torn=len(data))
    segment.torn = len(rest)
    return segment


def is_torn(rest: bytes, offset: int) -> bool:
    """Whether the end of a segment, from ``offset`` on, is no more than torn (Torn tails)."""
    zeros = len(rest) - len(rest.rstrip(b"\0"))
    block = -offset % 4096
    if zeros == len(rest) or (block < len(rest) and len(rest) - block <= zeros):
        return True
    if len(rest) <= 8:
        return True
    length, checksum = struct.unpack_from("<II", rest)
    payload = rest[8:]
    is_whole = zlib.crc32(struct.pack("<I", len(payload)) + payload) == checksum
    return bool(length > len(payload) and not is_whole)


def _check_journal(root: Path, owner: tuple[int, int], first: int, run: Run) -> None:
    """Note the damage of a writer's segments (Reading a writer's segments)."""
    found = (root / f"attempts/{owner[0]:03d}").glob(f"journal-{owner[1]:03d}-*.wbk")
    numbered = {int(path.stem.split("-")[2]): path for path in found}
    paths = {number: path for number, path in numbered.items() if number >= first}
    last = max(paths, default=-1)
    for number in range(first, last + 1):
        name = f"attempts/{owner[0]:03d}/journal-{owner[1]:03d}-{number:03d}.wbk"
        if number not in paths:
            run.damage.append((name, 0, 0))
            continue
        data = paths[number].read_bytes()
        segment = parse_segment(data)
        run.damage += [(name, offset, size) for offset, size in segment.damage]
        if number == last:
            run.torn += segment.torn
        elif segment.torn:
            run.damage.append((name, len(data) - segment.torn, segment.torn))
        place = dict(zip(("attempt", "writer", "segment"), (*owner, number), strict=True))
        header = {**place, **(segment.header or {})}
        if any(header[key] != place[key] for key in place):
            run.damage.append((name, 0, 0))


def _check_parts(root: Path, parts: list[Record]) -> None:
    """Compare footers and column chunks of parts, as whoever reads only some of one (Parts)."""
    for part in parts:
        if part["name"].split("/")[0] not in ("history", "histograms", "events", "console"):
            continue
        data = (root / part["name"]).read_bytes()
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        is_sound = hashlib.sha256(data[footer:]).hexdigest() == part["footer"]
        if data[:4] != b"PAR1" or not is_sound:
            raise UnreadableError(part["name"])
        metadata = pq.read_metadata(root / part["name"])
        if metadata.num_rows != part["rows"] or metadata.metadata[b"wandbkeras.version"] != b"1":
            raise UnreadableError(part["name"])
        if _checksums(metadata, data, footer) != part["chunks"]:
            raise UnreadableError(part["name"])


def _checksums(metadata: pq.FileMetaData, data: bytes, footer: int) -> str:
    """Return the CRC-32 of each column chunk, from its first page to the next one."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    starts = [min(c.dictionary_page_offset or footer, c.data_page_offset) for c in chunks]
    if starts[0] != 4 or starts != sorted(starts):
        raise UnreadableError("order of the columns")
    ends = [*starts[1:], footer]
    return "".join(f"{zlib.crc32(data[a:b]):08x}" for a, b in zip(starts, ends, strict=True))


def _leave_out_lost_tables(run: Run) -> None:
    """Take what the summary has of lost tables for what was never logged (Tables)."""
    lost = {path for path, _, _ in run.damage}
    summary = run.state["summary"]
    for key in [k for k, v in summary.items() if is_a(v, *TABLES) and v["path"] in lost]:
        del summary[key]


def read_table(root: Path, named: Record) -> Record:
    """Return the cells of each column; of images with caption and masks, and what describes it."""
    form = r"tables/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}/\d{8,19}-\d{3,5}-\d{3,5}-\d{4,9}\.parquet"
    if not re.fullmatch(form, named["path"]):
        raise UnreadableError(named["path"])
    records = read_parquet(root, named["path"], named)
    metadata = pq.read_metadata(root / named["path"]).metadata
    if metadata[b"wandbkeras.version"] != b"1" or len(records) != named["rows"]:
        raise UnreadableError(named["path"])
    names = pq.read_schema(root / named["path"]).names
    cells = {name: [record[name] for record in records] for name in names}
    found: Record = {}
    for column in json.loads(metadata[b"wandbkeras.table"])["columns"]:
        described = {k: v for k, v in column.items() if k not in ("name", "caption", "masks")}
        masks = {m["name"]: (m["labels"], cells[m["column"]]) for m in column.get("masks", ())}
        captions = cells[column["caption"]] if "caption" in column else None
        found[column["name"]] = (described, cells[column["name"]], captions, masks)
    return found
