"""Sealing: journal segments become Parquet parts, named by a manifest, and then go.

The order of steps makes every moment safe to be killed at: a part is written, synced and renamed
into place; the manifest that names it replaces the old one; only then are the journal segments
and the parts that it replaces removed. What no manifest names does not exist for a reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wandbkeras.errors import DamagedError
from wandbkeras.store import columns, document
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.journal import Damage, Journal, read_journal
from wandbkeras.store.layout import STREAMS, Layout
from wandbkeras.store.parquet import Part, read_part, write_part
from wandbkeras.store.schema import FORMAT_VERSION, Row, check_version
from wandbkeras.store.state import Event, RunState, read_records

MANIFEST_FORMAT = "wandbkeras-manifest"


@dataclass(frozen=True)
class Manifest:
    """What one writer has sealed, in ``seals`` times: the segments before ``segments``."""

    attempt: int
    writer: int
    seals: int = 0
    segments: int = 0
    parts: tuple[Part, ...] = ()
    damage: tuple[Damage, ...] = ()
    state: RunState = field(default_factory=RunState)

    def to_document(self) -> dict[str, Any]:
        return {
            "format": MANIFEST_FORMAT,
            "version": FORMAT_VERSION,
            "attempt": self.attempt,
            "writer": self.writer,
            "seals": self.seals,
            "segments": self.segments,
            "parts": [vars(part) for part in self.parts],
            "damage": [{**vars(d), "path": d.path.as_posix()} for d in self.damage],
            "state": self.state.to_document(),
        }


def read_manifest(layout: Layout, attempt: int, writer: int) -> Manifest:
    """Return the writer's manifest, an empty one before its first sealing."""
    path = layout.manifest(attempt, writer)
    try:
        members = document.read(path)
    except FileNotFoundError:
        return Manifest(attempt, writer)
    check_version(path, members, MANIFEST_FORMAT)
    if (members.get("attempt"), members.get("writer")) != (attempt, writer):
        raise DamagedError(f"{path}: misplaced: it is of attempt {members.get('attempt')!r}")
    try:
        parts = tuple(
            Part(part["name"], part["rows"], part["size"], part["sha256"])
            for part in members["parts"]
        )
        for part in parts:
            layout.listed_part(part.name)
        damage = (
            Damage(Path(d["path"]), d["offset"], d["size"], d["reason"]) for d in members["damage"]
        )
        return Manifest(
            attempt=attempt,
            writer=writer,
            seals=members["seals"],
            segments=members["segments"],
            parts=parts,
            damage=tuple(damage),
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
    numbers = layout.segment_numbers(attempt, writer)
    end = max(numbers, default=-1) + 1
    for number in range(first, end if last is None else min(last, end)):
        path = layout.journal(attempt, writer, number)
        try:
            journal = read_journal(path)
        except FileNotFoundError:
            content.damage.append(Damage(path, 0, 0, "missing: a later segment is there"))
            continue
        content.damage += journal.damage
        content.torn = journal.torn
        if journal.torn and number != numbers[-1]:
            reason = "no sound frame up to the end, and it is not the last segment"
            start = path.stat().st_size - journal.torn
            content.damage.append(Damage(path, start, journal.torn, reason))
        if not _is_own(journal, attempt, writer, number, content):
            continue
        try:
            _fold(journal, attempt, state, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{path}: a record that makes no sense ({error!r})") from error
    content.damage = [replace(d, path=d.path.relative_to(layout.root)) for d in content.damage]
    return content


def _fold(journal: Journal, attempt: int, state: RunState, content: Segment) -> None:
    """Add a segment's records; a row never goes on in the next segment."""
    if not state.process:
        state.process = dict(journal.header.get("process", {}))
    for item in read_records(journal.records, attempt):
        state.apply(item)
        if isinstance(item, Row):
            content.rows.append(item)
        else:
            content.events.append(item)


def _is_own(journal: Journal, attempt: int, writer: int, segment: int, content: Segment) -> bool:
    """Whether a segment is what its name says; if its header says otherwise, that is damage."""
    expected = {"attempt": attempt, "writer": writer, "segment": segment}
    given = {name: journal.header.get(name, number) for name, number in expected.items()}
    if given != expected:
        content.damage.append(Damage(journal.path, 0, 0, f"misplaced: its header says {given}"))
    return given == expected


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
    parts = [part for part in manifest.parts if part.stream not in tables]
    for stream, table in tables.items():
        earlier = [part for part in manifest.parts if part.stream == stream]
        if not compact:
            parts += earlier
            earlier = []
        chunks = [read_part(layout, part) for part in earlier] + ([table] if len(table) else [])
        if chunks:
            target = layout.part(stream, attempt, writer, manifest.seals)
            parts.append(write_part(disk, target, chunks))
    sealed = Manifest(
        attempt=attempt,
        writer=writer,
        seals=manifest.seals + 1,
        segments=before,
        parts=tuple(parts),
        damage=(*manifest.damage, *content.damage),
        state=manifest.state,
    )
    document.write(disk, layout.manifest(attempt, writer), sealed.to_document())
    remove_leftovers(disk, layout, sealed)
    return sealed


def remove_leftovers(disk: Disk, layout: Layout, manifest: Manifest) -> None:
    """Remove what the manifest made superfluous: sealed segments, replaced and unnamed parts.

    A segment that was damaged is evidence: it moves to ``damaged/``.
    """
    damaged = {layout.root / damage.path for damage in manifest.damage}
    for number in layout.segment_numbers(manifest.attempt, manifest.writer):
        path = layout.journal(manifest.attempt, manifest.writer, number)
        if number < manifest.segments and path in damaged:
            make_directories(disk, layout.damaged(path).parent)
            disk.replace(path, layout.damaged(path))
        elif number < manifest.segments:
            disk.remove(path)
    named = {part.name for part in manifest.parts}
    for stream in STREAMS:
        for path in layout.part_files(stream, manifest.attempt, manifest.writer):
            if f"{stream}/{path.name}" not in named:
                disk.remove(path)
