"""Sealing: journal segments become Parquet parts, named by a manifest, and then go.

The order of steps makes every moment safe to be killed at: a part is written, synced and renamed
into place; the manifest that names it replaces the old one; only then are the journal segments
and the parts that it replaces removed. What no manifest names does not exist for a reader.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from wandbkeras.errors import DamagedError, WandbkerasError
from wandbkeras.store import columns, document
from wandbkeras.store.checks import Process, check_value, convert
from wandbkeras.store.damage import Damage
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.journal_reader import MAX_DAMAGE, Journal, read_journal
from wandbkeras.store.layout import STREAMS, Layout
from wandbkeras.store.manifest import Manifest, read_manifest
from wandbkeras.store.parquet import GROUP_ROWS, Part, write_part
from wandbkeras.store.part_reader import read_part
from wandbkeras.store.part_schema import CONSOLE_SCHEMA
from wandbkeras.store.schema import Row
from wandbkeras.store.state import Event, RunState, decode_record, read_records

# Parts that are larger are not merged before the end.
_LARGE_ROWS, _LARGE_BYTES = GROUP_ROWS, 8 << 20
# Parts that are not small wait until together they are large.
_SMALL_ROWS = 16_384


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
        if len(content.damage) > MAX_DAMAGE:
            raise DamagedError(f"{path.parent}: more than {MAX_DAMAGE} damaged places: no journal")
        try:
            journal = read_journal(path, layout.root, decode_record)
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
            raise DamagedError(f"{path}: a record that makes no sense ({error})") from error
    content.damage = [replace(d, path=d.path.relative_to(layout.root)) for d in content.damage]
    return content


def _fold(journal: Journal, attempt: int, state: RunState, content: Segment) -> None:
    """Add a segment's records; a row never goes on in the next segment."""
    if not state.process:
        check_value(journal.header)
        given = journal.header.get("process", {})
        convert(given, Process)
        state.process = dict(given)
    items = list(read_records(journal.records, attempt))
    state.apply_all(items)
    content.rows += [item for item in items if isinstance(item, Row)]
    content.events += [item for item in items if isinstance(item, Event)]


def _is_own(journal: Journal, attempt: int, writer: int, segment: int, content: Segment) -> bool:
    """Whether a segment is what its name says; if its header says otherwise, that is damage."""
    expected = {"attempt": attempt, "writer": writer, "segment": segment}
    given = {name: journal.header.get(name, number) for name, number in expected.items()}
    if given != expected:
        content.damage.append(Damage(journal.path, 0, 0, f"misplaced: its header says {given}"))
    return given == expected


def seal(
    disk: Disk,
    layout: Layout,
    attempt: int,
    writer: int,
    *,
    before: int,
    compact: bool,
    merge: bool = False,
) -> Manifest:
    """Seal the segments before number ``before``; with ``compact``, leave one part a stream.

    With ``merge``, small parts become larger ones, so that there are never many. One segment is in
    memory at a time, however many have piled up.
    """
    done = read_manifest(layout, attempt, writer).segments
    for end in range(done + 1, before):
        _seal_once(disk, layout, attempt, writer, before=end, merge=merge)
    return _seal_once(disk, layout, attempt, writer, before=before, compact=compact, merge=merge)


@dataclass(frozen=True)
class _Tables:
    """The tables of earlier parts and a new one, read anew whenever they are gone through."""

    read: Callable[[Part], pa.Table]
    parts: Sequence[Part]
    table: pa.Table

    def __iter__(self) -> Iterator[pa.Table]:
        for part in self.parts:
            _release_memory()
            yield self.read(part)
        if len(self.table):
            yield self.table


def _seal_once(
    disk: Disk,
    layout: Layout,
    attempt: int,
    writer: int,
    *,
    before: int,
    compact: bool = False,
    merge: bool,
) -> Manifest:
    manifest = read_manifest(layout, attempt, writer)
    content = read_segments(layout, attempt, writer, manifest.segments, manifest.state, last=before)
    return seal_content(
        disk, layout, manifest, content, before=before, compact=compact, merge=merge
    )


def seal_content(
    disk: Disk,
    layout: Layout,
    manifest: Manifest,
    content: Segment,
    *,
    before: int,
    compact: bool = False,
    merge: bool = False,
    read: Callable[[Part], pa.Table] | None = None,
    console: pa.Table | None = None,
) -> Manifest:
    """Seal ``content``, which is that of the segments up to ``before``, after what is sealed.

    ``compact`` and ``merge`` are those of :func:`seal`. ``read`` reads parts of which not all is
    sound: what it returns is written anew. ``console`` is all that the writer's process printed.
    """
    attempt, writer = manifest.attempt, manifest.writer
    history, histograms = columns.row_tables(content.rows)
    tables = {
        "history": history,
        "histograms": histograms,
        "events": columns.event_table(content.events, attempt),
        "console": CONSOLE_SCHEMA.empty_table() if console is None else console,
    }
    reader = read or partial(read_part, layout)
    parts = [part for part in manifest.parts if part.stream not in tables]
    try:
        for stream, table in tables.items():
            earlier = [part for part in manifest.parts if part.stream == stream]
            first = 0 if compact else _small_tail(earlier, len(table)) if merge else len(earlier)
            parts += earlier[:first]
            replaced = earlier[first:]
            if len(replaced) == 1 and not len(table) and read is None:
                parts += replaced  # compact as it is
            elif replaced or len(table):
                target = layout.part(stream, attempt, writer, manifest.seals)
                parts.append(write_part(disk, target, _Tables(reader, replaced, table)))
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
    except OSError:
        _remove_unnamed(disk, layout, manifest)
        raise
    remove_leftovers(disk, layout, sealed)
    _release_memory()
    return sealed


def _release_memory() -> None:
    """Give back what Arrow keeps for later: that is as much as it has in use, and not ours."""
    pa.default_memory_pool().release_unused()


def _small_tail(parts: Sequence[Part], rows: int) -> int:
    """Return the index of the first of the last parts that become one with ``rows`` more.

    Small ones are no larger than what follows them, so that they are few and a row is written anew
    only a few times. Those that are neither small nor large are merged all at once.
    """
    small = len(parts)
    while small and parts[small - 1].rows <= min(rows, _SMALL_ROWS) and _can_grow(parts[small - 1]):
        small -= 1
        rows += parts[small].rows
    first = small
    while first and _can_grow(parts[first - 1]):
        first -= 1
        rows += parts[first].rows
    return first if rows >= _LARGE_ROWS else small


def _can_grow(part: Part) -> bool:
    return part.rows < _LARGE_ROWS and part.size <= _LARGE_BYTES


def _remove_unnamed(disk: Disk, layout: Layout, manifest: Manifest) -> None:
    """Remove what a sealing after ``manifest`` wrote before it failed: it may fill the disk."""
    attempt, writer = manifest.attempt, manifest.writer
    with suppress(OSError, WandbkerasError):
        # A manifest that is in place already, only not for a power cut yet, names the parts.
        if read_manifest(layout, attempt, writer).seals == manifest.seals:
            for stream in STREAMS:
                path = layout.part(stream, attempt, writer, manifest.seals)
                if path.exists():
                    disk.remove(path)


def remove_leftovers(disk: Disk, layout: Layout, manifest: Manifest) -> None:
    """Remove what the manifest made superfluous: sealed segments, replaced and unnamed parts.

    A file that was damaged is evidence: it moves to ``damaged/``.
    """
    keep_damaged(disk, layout, manifest)
    for path in _leftovers(layout, manifest):
        disk.remove(path)


def keep_damaged(disk: Disk, layout: Layout, manifest: Manifest) -> None:
    """Move superfluous segments and parts that the manifest calls damaged to ``damaged/``."""
    damaged = {layout.root / damage.path for damage in manifest.damage}
    for path in _leftovers(layout, manifest):
        if path in damaged:
            move_damaged(disk, layout, path)


def move_damaged(disk: Disk, layout: Layout, path: Path) -> None:
    """Move a file to ``damaged/``, under a name of its own."""
    names = (layout.damaged(path, number) for number in itertools.count())
    target = next(name for name in names if not name.exists())
    make_directories(disk, target.parent, within=layout.root)
    disk.replace(path, target)
    disk.sync_directory(target.parent)


def _leftovers(layout: Layout, manifest: Manifest) -> list[Path]:
    attempt, writer = manifest.attempt, manifest.writer
    sealed = [n for n in layout.segment_numbers(attempt, writer) if n < manifest.segments]
    named = {layout.root / part.name for part in manifest.parts}
    damaged = {layout.root / damage.path for damage in manifest.damage}
    numbers = layout.console_numbers(attempt, writer)
    console = [layout.console(attempt, writer, number) for number in numbers]
    parts = [path for s in STREAMS for path in layout.part_files(s, attempt, writer)]
    return [
        *(layout.journal(attempt, writer, number) for number in sealed),
        *(path for path in console if manifest.has_console or path in damaged),
        *(path for path in parts if path not in named),
    ]
