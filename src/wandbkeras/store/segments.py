"""The segments of a writer's journal: one takes the records, those before it wait to be sealed.

A segment ends when it is full, or when it has rows and is old, so what is sealed is never far
behind. The segments are synced and sealed in their order.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Mapping
from typing import Any

from wandbkeras.errors import DamagedError
from wandbkeras.store.journal import JournalWriter
from wandbkeras.store.layout import Layout
from wandbkeras.store.room import Room

SEGMENT_BYTES = 4 << 20
SEAL_SECONDS = 300.0


class Segments:
    """The segments of a new writer of an attempt; ``process`` says in each of them who writes.

    A writer owns its number by making its first segment.
    What adds records to :attr:`current` and calls :meth:`begin_next` takes care that one thread
    does so at a time; the rest is for any thread.
    """

    def __init__(
        self, room: Room, layout: Layout, attempt: int, process: Mapping[str, Any]
    ) -> None:
        self._room = room
        self._layout = layout
        self.attempt = attempt
        self._process = process
        self._number = 0
        self._waiting: list[JournalWriter] = []
        self._lock = threading.Lock()
        self._since: float | None = None
        self.limit = room.segment_bytes
        self.writer, self.current = self._claim()

    def is_old(self, now: float) -> bool:
        """Whether the current segment is to end; asked every second or so, at the time ``now``."""
        if self._since is None:
            self._since = now
        return now - self._since >= SEAL_SECONDS

    def begin_next(self) -> None:
        """Begin a new segment, unless the disk takes none; what is in the old one can be sealed."""
        self._since = None
        self._number += 1
        try:
            self.check_place()
            new = self._open(self.writer)
        except OSError:
            self._number -= 1  # go on in the old one: it may still have room
            later = self.current.size + self._room.segment_bytes // 8
            self.limit = 0 if self.current.is_large else later
            return
        self.limit = self._room.segment_bytes
        with self._lock:
            self._waiting.append(self.current)
            self.current = new

    def sync(self) -> None:
        """Return when everything recorded so far survives a power cut; or OSError.

        The oldest segment first, so that a power cut meanwhile takes the latest records.
        """
        with self._lock:
            journals = [*self._waiting, self.current]
        for journal in journals:
            journal.sync()

    def seal_waiting(self) -> None:
        """Seal the segments that are full or old, beginning with the oldest; or OSError."""
        # What is synced already: two threads that sync a file might close it for one another.
        with self._lock:
            ready = list(itertools.takewhile(lambda j: j.synced == j.size, self._waiting))
            del self._waiting[: len(ready)]
            before = self._number - len(self._waiting)
        for journal in ready:
            journal.close()
        if ready:
            self._seal(before, at_end=False)

    def seal_all(self) -> None:
        """Seal everything, as one part a stream if there is room for that; or OSError."""
        try:
            self.sync()
        finally:
            self.close()
        self._seal(self._number + 1, at_end=True)
        self._seal_console()

    def close(self) -> None:
        """Take no more records."""
        with self._lock:
            journals, self._waiting = [*self._waiting, self.current], []
        for journal in journals:
            journal.close()

    def check_place(self) -> None:
        """Return if the run lies where it began; OSError if it was moved, removed or unmounted.

        Else what is made by its path would lie elsewhere than its journal.
        """
        if not self._layout.attempt(self.attempt).is_dir():
            gone = f"{os.strerror(errno.ENOENT)}, the run directory is gone"
            raise FileNotFoundError(errno.ENOENT, gone, str(self._layout.root))

    def _claim(self) -> tuple[int, JournalWriter]:
        """Own a writer's number by making its first segment."""
        while True:
            number = max(self._layout.writer_numbers(self.attempt), default=-1) + 1
            with contextlib.suppress(FileExistsError):
                return number, self._open(number)

    def _open(self, writer: int) -> JournalWriter:
        header = {
            "attempt": self.attempt,
            "writer": writer,
            "segment": self._number,
            # In every segment, and in the first event too: losing one frame must not lose it.
            "process": self._process,
        }
        path = self._layout.journal(self.attempt, writer, self._number)
        return JournalWriter(self._room.disk, path, header)

    def _seal_console(self) -> None:
        """Seal what the process printed, if that is recorded; or OSError."""
        if self._layout.console_numbers(self.attempt, self.writer):
            from wandbkeras.store.console import seal_console

            seal_console(self._room.sealing, self._layout, self.attempt, self.writer)

    def _seal(self, before: int, *, at_end: bool) -> None:
        # Only sealing needs pyarrow, and importing that takes longer than starting a run may.
        from wandbkeras.store.seal import seal

        self.check_place()
        place = (self._room.sealing, self._layout, self.attempt, self.writer)
        try:
            seal(*place, before=before, compact=at_end, merge=not at_end)
        except (OSError, DamagedError):
            # Parts that become one must be sound, and need room for a second copy of them.
            seal(*place, before=before, compact=False)
