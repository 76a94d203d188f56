"""Sealing: journal segments become Parquet parts, named by a manifest, and then go.

The order of steps makes every moment safe to be killed at: a part is written, synced and renamed
into place; the manifest that names it replaces the old one; only then are the journal segments
and the parts that it replaces removed. What no manifest names does not exist for a reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wandbkeras.errors import DamagedError
from wandbkeras.store import columns, document
from wandbkeras.store.disk import Disk
from wandbkeras.store.journal import Damage, read_journal
from wandbkeras.store.layout import STREAMS, Layout
from wandbkeras.store.parquet import Part, read_part, write_part
from wandbkeras.store.schema import FORMAT_VERSION, Row, check_version
from wandbkeras.store.state import Event, RunState, read_records

MANIFEST_FORMAT = "wandbkeras-manifest"


@dataclass(frozen=True)
class Manifest:
    """What one writer has sealed: all segments before ``segments``, as ``parts``."""

    attempt: int
    writer: int
    segments: int = 0
    parts: tuple[Part, ...] = ()
    damage: tuple[str, ...] = ()
    state: RunState = field(default_factory=RunState)

    def to_document(self) -> dict[str, Any]:
        return {
            "format": MANIFEST_FORMAT,
            "version": FORMAT_VERSION,
            "attempt": self.attempt,
            "writer": self.writer,
            "segments": self.segments,
            "parts": [vars(part) for part in self.parts],
            "damage": list(self.damage),
            "state": self.state.to_document(),
        }


def read_manifest(layout: Layout, attempt: int, writer: int) -> Manifest:
    """Return the writer's manifest, an empty one before its first sealing."""
    path = layout.manifest(attempt, writer)
    try:
        members = document.read(path)
    except FileNotFoundError:
        return Manifest(attempt, writer)
    check_version(path, members)
    try:
        parts = tuple(Part(**part) for part in members["parts"])
        for part in parts:
            layout.listed_part(part.name)
        return Manifest(
            attempt=attempt,
            writer=writer,
            segments=members["segments"],
            parts=parts,
            damage=tuple(members["damage"]),
            state=RunState.from_document(members["state"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: not a manifest ({error!r})") from error


@dataclass
class Segment:
    """The content of one or more journal segments, in order."""

    rows: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    torn: int = 0


def read_segments(
    layout: Layout, attempt: int, writer: int, first: int, state: RunState, last: int | None = None
) -> Segment:
    """Read the segments from ``first`` (to before ``last``), folding them into ``state``."""
    content = Segment()
    for number in layout.segment_numbers(attempt, writer):
        if number < first or (last is not None and number >= last):
            continue
        try:
            journal = read_journal(layout.journal(attempt, writer, number))
        except FileNotFoundError:
            continue  # sealed and removed since the directory was listed
        content.damage += journal.damage
        content.torn += journal.torn
        for item in read_records(journal.records, attempt):
            state.apply(item)
            if isinstance(item, Row):
                content.rows.append(item)
            else:
                content.events.append(item)
    return content


def seal(
    disk: Disk, layout: Layout, attempt: int, writer: int, *, before: int, compact: bool
) -> Manifest:
    """Seal the segments before number ``before``; with ``compact``, leave one part a stream."""
    manifest = read_manifest(layout, attempt, writer)
    content = read_segments(layout, attempt, writer, manifest.segments, manifest.state, last=before)
    tables = {
        "history": columns.history_table(content.rows),
        "histograms": columns.histogram_table(content.rows),
        "events": columns.event_table(content.events, attempt),
    }
    segment = None if compact else before - 1
    parts: list[Part] = []
    for stream, table in tables.items():
        earlier = [part for part in manifest.parts if part.stream == stream]
        if not compact:
            parts += earlier
            earlier = []
        chunks = [read_part(layout, part) for part in earlier] + ([table] if len(table) else [])
        if chunks:
            target = layout.part(stream, attempt, writer, segment)
            parts.append(write_part(disk, target, chunks))
    sealed = Manifest(
        attempt=attempt,
        writer=writer,
        segments=before,
        parts=tuple(parts),
        damage=(*manifest.damage, *map(str, content.damage)),
        state=manifest.state,
    )
    document.write(disk, layout.manifest(attempt, writer), sealed.to_document())
    remove_leftovers(disk, layout, sealed)
    return sealed


def remove_leftovers(disk: Disk, layout: Layout, manifest: Manifest) -> None:
    """Remove what the manifest made superfluous: sealed segments, replaced and unnamed parts."""
    for number in layout.segment_numbers(manifest.attempt, manifest.writer):
        if number < manifest.segments:
            disk.remove(layout.journal(manifest.attempt, manifest.writer, number))
    named = {part.name for part in manifest.parts}
    for stream in STREAMS:
        for path in layout.part_files(stream, manifest.attempt, manifest.writer):
            if f"{stream}/{path.name}" not in named:
                disk.remove(path)
