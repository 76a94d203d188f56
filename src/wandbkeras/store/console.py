"""What a writer's process printed: numbered lines, in files of their own until they are sealed.

They are not in the journal, because another process writes them, one that outlives the writer: so
the last words of a process that was killed are recorded too. A line may be recorded several times,
as a progress bar is; the last time counts. Numbers that are missing are lines that are not kept.

The bytes are specified in ``docs/format.md``, section "Console".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from wandbkeras.errors import DamagedError
from wandbkeras.store.checks import Count, Instant, convert
from wandbkeras.store.damage import Damage
from wandbkeras.store.disk import Disk
from wandbkeras.store.journal import JournalWriter, encode_frame
from wandbkeras.store.journal_reader import read_journal
from wandbkeras.store.layout import Layout

if TYPE_CHECKING:
    import pyarrow as pa

CONSOLE = "console"
Stream = Literal["stdout", "stderr"]


class Line(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A line as it was at ``timestamp``, in seconds since the epoch."""

    number: Count
    stream: Stream
    timestamp: Instant
    text: str


class ConsoleFiles:
    """Writes the lines of a writer's process, ``max_bytes`` of them at most.

    The first half stays; of what comes after it the latest is kept, at least a quarter. What
    :meth:`write` has returned from survives the process being killed.
    """

    def __init__(
        self, disk: Disk, layout: Layout, attempt: int, writer: int, max_bytes: int
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._attempt, self._writer = attempt, writer
        self._max_bytes = max_bytes
        self._number = -1
        self._current: JournalWriter | None = None

    def write(self, lines: Sequence[Line]) -> None:
        """Record lines, 32,768 characters each at most; or OSError: not all of them are then."""
        for some in _bundles(lines, self._max_bytes // 32):
            frame = encode_frame((CONSOLE, some))
            current = self._current
            limit = self._max_bytes // (4 if self._number > 0 else 2)
            if current is None or current.size + len(frame) > limit:
                current = self._begin_next()
            current.append(frame)

    def sync(self) -> None:
        """Return when everything recorded so far survives a power cut; or OSError."""
        if self._current is not None:
            self._current.sync()

    def close(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None

    def _begin_next(self) -> JournalWriter:
        """Begin a segment; of those after the first the last two are kept."""
        self.close()
        number = self._number + 1
        if number > 2:
            with suppress(FileNotFoundError):  # removed, when the disk took no other
                self._disk.remove(self._path(number - 2))
        self._current, self._number = self._open(number), number
        return self._current

    def _open(self, number: int) -> JournalWriter:
        header = {"attempt": self._attempt, "writer": self._writer, "segment": number}
        return JournalWriter(self._disk, self._path(number), header)

    def _path(self, number: int) -> Path:
        return self._layout.console(self._attempt, self._writer, number)


def _bundles(lines: Sequence[Line], most: int) -> Iterator[Sequence[Line]]:
    """Yield the lines in bundles of ``most`` characters, or of one line that has more."""
    first, size = 0, 0
    for at, line in enumerate(lines):
        size += len(line.text)
        if size > most and at > first:
            yield lines[first:at]
            first, size = at, len(line.text)
    if lines:
        yield lines[first:]


@dataclass
class Found:
    """The lines of a writer that are not sealed, by their numbers, and what of them is damaged."""

    attempt: int
    writer: int
    lines: dict[int, Line] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)

    @property
    def table(self) -> pa.Table:
        """The lines in the order of their numbers, as a part has them."""
        import pyarrow as pa

        from wandbkeras.store.part_schema import CONSOLE_SCHEMA

        lines = [self.lines[number] for number in sorted(self.lines)]
        values: dict[str, Any] = {
            "_timestamp": [line.timestamp for line in lines],
            "_attempt": [self.attempt] * len(lines),
            "_writer": [self.writer] * len(lines),
            "line": [line.number for line in lines],
            "stream": [line.stream for line in lines],
            "text": [line.text for line in lines],
        }
        return pa.table(values, CONSOLE_SCHEMA)


def read_console(layout: Layout, attempt: int, writer: int) -> Found:
    """Return what a writer's process has printed, as far as it is not sealed."""
    found = Found(attempt, writer)
    for number in layout.console_numbers(attempt, writer):
        path = layout.console(attempt, writer, number)
        try:
            journal = read_journal(path, layout.root)
        except FileNotFoundError:
            continue  # of a running run: another one has taken its place
        place = {"attempt": attempt, "writer": writer, "segment": number}
        given = {name: journal.header.get(name, value) for name, value in place.items()}
        if given != place:
            journal.damage.append(Damage(path, 0, 0, f"misplaced: its header says {given}", 0))
        else:
            _take(found, path, journal.records)
        found.damage += [replace(d, path=d.path.relative_to(layout.root)) for d in journal.damage]
    return found


def _take(found: Found, path: Path, records: Sequence[Any]) -> None:
    for record in records:
        if record[0] != CONSOLE:
            continue  # of a later version
        try:
            (lines,) = record[1:]
            found.lines.update((line.number, line) for line in convert(lines, list[Line]))
        except ValueError as error:
            raise DamagedError(f"{path}: a record that makes no sense ({error})") from error


def seal_console(disk: Disk, layout: Layout, attempt: int, writer: int) -> None:
    """Seal all that a writer's process has printed, once it prints no more; or OSError."""
    from wandbkeras.store.manifest import read_manifest
    from wandbkeras.store.seal import Segment, seal_content

    manifest = read_manifest(layout, attempt, writer)
    if manifest.has_console:
        return
    found = read_console(layout, attempt, writer)
    content = Segment(damage=found.damage)
    seal_content(disk, layout, manifest, content, before=manifest.segments, console=found.table)
