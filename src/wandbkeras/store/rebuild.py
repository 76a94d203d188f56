"""What a damaged ``run.json`` or manifest said, from what else the run holds of it.

The parts hold the records, so a manifest is a list of what is there and a fold of it; who the run
is, every writer says too. What can't be told apart is the order of a row and an event of the same
moment.
"""

from __future__ import annotations

import copy
import hashlib
import heapq
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wandbkeras.errors import DamagedError, UsageError
from wandbkeras.store import column_kinds, columns
from wandbkeras.store.checks import convert
from wandbkeras.store.chunks import checksums
from wandbkeras.store.layout import STREAMS, Layout
from wandbkeras.store.manifest import Manifest
from wandbkeras.store.parquet import MAX_PART_BYTES, Part, decode_part
from wandbkeras.store.plain_files import read_file
from wandbkeras.store.schema import Row, RunInfo, checked_info
from wandbkeras.store.seal import Segment, read_segments
from wandbkeras.store.state import Event, RunState

_PART = re.compile(rb'"([a-z_]{1,32}/[0-9-]{11,20}\.parquet)"')
_DIRECTORY = re.compile(r"run-(\d{8}_\d{6})-(.+)")
_FIRST, _LAST = float("-inf"), float("inf")


@dataclass
class Rebuilt:
    """A manifest made anew, how that was done, and the parts that could not be used.

    Parts that were replaced, or are not finished, may lie among those that count: of a record that
    two files hold, the later one counts. ``is_whole`` says that no part is missing.
    """

    manifest: Manifest
    how: str
    is_whole: bool = False
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    steps_before: dict[str, int | None] = field(default_factory=dict)
    events_without: dict[str, set[tuple[Any, ...]]] = field(default_factory=dict)

    def fresh_manifest(self) -> Manifest:
        """Return a copy, whose state the caller goes on to fold."""
        return copy.deepcopy(self.manifest)

    def without_doubles(self, part: Part, table: pa.Table) -> pa.Table:
        """Return the records of a part that no later file holds."""
        if part.stream == "events":
            later = self.events_without[part.name]
            return table.filter(pa.array([key not in later for key in _event_keys(table)]))
        if part.stream == "console":
            return table  # sealed once
        before = self.steps_before[part.name]
        return table if before is None else table.filter(pc.less(table["_step"], before))


def manifest(layout: Layout, attempt: int, writer: int) -> Rebuilt:
    """Return the manifest of a writer from its parts and what segments are left."""
    numbers = layout.segment_numbers(attempt, writer)
    first = min(numbers, default=0)
    tail = read_segments(layout, attempt, writer, first, RunState())
    paths = layout.sealed_parts(attempt, writer)
    seals = max((int(path.stem.rpartition("-")[2]) + 1 for path in paths), default=0)
    made = Rebuilt(Manifest(attempt, writer, seals=seals, segments=first), "")
    named = _bytes(layout, layout.manifest(attempt, writer))
    tables: dict[Part, pa.Table] = {}
    proven = 0
    for path in paths:
        try:
            part, table = _read(layout, path)
        except DamagedError as error:
            reason = str(error).removeprefix(f"{path}: ")
            made.unreadable.append((path, f"{reason}; no manifest says what of it is sound"))
            continue
        tables[part] = table
        proven += part.sha256.encode() in named
    made.how = f"rebuilt from {len(tables)} parts, {proven} of them as sealed by their SHA-256"
    listed = [layout.root / match.decode() for match in _PART.findall(named)]
    made.is_whole = bool(listed) and all(path in paths for path in listed)
    _find_doubles(made, tables, tail)
    tables = {part: made.without_doubles(part, table) for part, table in tables.items()}
    parts = tuple(part for part, table in tables.items() if len(table))
    state = _fold(tables)
    made.manifest = Manifest(attempt, writer, seals, first, parts, state=state)
    return made


def info(layout: Layout, processes: Iterable[Mapping[str, Any]]) -> RunInfo | None:
    """Return who the run is from what its writers say, else from the directory's name."""
    for process in processes:
        try:
            return checked_info(convert(process.get("run"), RunInfo))
        except (ValueError, UsageError):
            continue
    if match := _DIRECTORY.fullmatch(layout.root.resolve().name):
        try:
            moment = datetime.strptime(match[1], "%Y%m%d_%H%M%S").replace(tzinfo=timezone.utc)
            return checked_info(RunInfo(match[2], moment.timestamp()))
        except (ValueError, UsageError):
            return None
    return None


def process(layout: Layout, manifest: Manifest) -> dict[str, Any]:
    """Return what a writer says of itself, sealed or not."""
    state = manifest.state
    read_segments(layout, manifest.attempt, manifest.writer, manifest.segments, state)
    return state.process


def _read(layout: Layout, path: Path) -> tuple[Part, pa.Table]:
    """Read a part whose digest no sound manifest says: Parquet's own checksums must do."""
    data = _bytes(layout, path)
    table = decode_part(path, data, None, check_pages=True)
    name, digest = f"{path.parent.name}/{path.name}", hashlib.sha256(data).hexdigest()
    return Part(name, len(table), len(data), digest, *checksums(io.BytesIO(data))), table


def _bytes(layout: Layout, path: Path) -> bytes:
    try:
        return read_file(path, MAX_PART_BYTES, layout.root)
    except FileNotFoundError:
        return b""


def _find_doubles(made: Rebuilt, tables: dict[Part, pa.Table], tail: Segment) -> None:
    """Note of each part what later parts of its stream, or the journal, hold too."""
    first = tail.rows[0].step if tail.rows else None
    seen = {_key(event) for event in tail.events}
    before = {"history": first, "histograms": first}
    for part in reversed(tables):
        table = tables[part]
        if part.stream == "events":
            made.events_without[part.name] = set(seen)
            seen.update(_event_keys(table))
            continue
        if part.stream == "console":
            continue
        made.steps_before[part.name] = limit = before[part.stream]
        if len(table):
            lowest = pc.min(table["_step"]).as_py()
            before[part.stream] = lowest if limit is None else min(limit, lowest)


def _event_keys(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return map(_key, columns.read_events(table))


def _key(event: Event) -> tuple[Any, ...]:
    return event.type, event.timestamp, repr(sorted(event.body.items()))


def _fold(tables: Mapping[Part, pa.Table]) -> RunState:
    """Return what the records of the parts add up to, in the order of time."""
    of = {stream: [t for p, t in tables.items() if p.stream == stream] for stream in STREAMS}
    events = [event for table in of["events"] for event in columns.read_events(table)]
    rows: Iterator[Row] = iter(())
    if of["history"]:
        histograms = pa.concat_tables(of["histograms"]) if of["histograms"] else None
        rows = columns.read_rows(column_kinds.concatenate(of["history"]), histograms)
    state = RunState()
    streams: list[Iterable[Row | Event]] = [rows, events]
    state.apply_all(heapq.merge(*streams, key=_moment))
    return state


def _moment(item: Row | Event) -> float:
    """Return when a record was made; a row may have a time of the user's own."""
    if isinstance(item, Event) and item.type in ("attempt", "finish"):
        return _FIRST if item.type == "attempt" else _LAST
    return item.timestamp
