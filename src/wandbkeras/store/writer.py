"""The writer of one attempt: rows and events into the journal at once, synced and sealed behind.

When :meth:`RunWriter.history` or :meth:`RunWriter.event` returns, the record survives the process
being killed; within one second it survives a power cut. A disk that takes no more stops nothing,
unless that is asked for: what could not be recorded is counted, said once on standard error, and
written into the run as soon as the disk takes bytes again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wandbkeras.errors import WandbkerasError
from wandbkeras.store import document
from wandbkeras.store.appender import Appender, OnFull
from wandbkeras.store.claim import Claim
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.file_writer import FileWriter
from wandbkeras.store.journal import encode_frame
from wandbkeras.store.layout import Layout
from wandbkeras.store.room import Room
from wandbkeras.store.schema import ArtifactVersion, Row
from wandbkeras.store.segments import SEGMENT_BYTES, Segments
from wandbkeras.store.state import EVENT, HISTORY, PARTIAL, Event, RunState

SYNC_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
# Folding rows in bundles keeps the one that pays for it out of the 99th percentile.
_FOLD_ROWS = 1024


class RunWriter:
    """Writes one attempt of the run at ``layout``.

    ``process`` says who writes and ``from_step``, from which step it goes on; ``resume`` is what
    the attempt takes over (:meth:`RunState.to_resume_body`); ``clock`` gives seconds since the
    epoch. With ``attempt`` it writes beside the other writers of that attempt, else it begins
    one: number ``begin``, or the next free one.
    ``on_full`` says what happens with what the disk does not take, or what is more than
    ``max_bytes`` for the whole run: it is dropped and counted, or it raises a DiskFullError.
    """

    def __init__(
        self,
        layout: Layout,
        process: Mapping[str, Any],
        *,
        resume: Mapping[str, Any] | None = None,
        begin: int | None = None,
        attempt: int | None = None,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
        segment_bytes: int = SEGMENT_BYTES,
        on_full: OnFull = "drop",
        max_bytes: int | None = None,
    ) -> None:
        self.layout = layout
        self._state = RunState()
        self._unfolded: list[tuple[str, int, float, float, dict[str, Any]]] = []
        self.lock = threading.RLock()
        self._room = Room(
            disk or Disk(), layout.root, segment_bytes=segment_bytes, max_bytes=max_bytes
        )
        self._disk = self._room.disk
        self._clock = clock
        self._rows_before = 0
        self._partial: tuple[int, float, float, dict[str, Any]] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="wandbkeras-writer", daemon=True)
        self._sealer = threading.Thread(
            target=self._seal_behind, name="wandbkeras-sealer", daemon=True
        )
        self._claim = Claim(self._disk, layout)
        try:
            self._attempt = self._claim.take(begin) if attempt is None else attempt
            self._segments = Segments(self._room, layout, self._attempt, process)
        except OSError:
            self._claim.give_up()
            raise
        self._writer, self._journal = self._segments.writer, self._segments.current
        self._appender = Appender(
            self._journal, layout.root, on_full, clock, lambda event: self.state.apply(event)
        )
        self._append = self._appender.append  # each row passes there
        self.files = FileWriter(self._room, layout, self._segments, self._appender)
        try:
            self._begin(dict(process) if resume is None else {**process, "resume": resume})
        except OSError:
            self.withdraw()
            raise
        self._room.hold(layout.attempt(self._attempt))
        self._thread.start()
        self._sealer.start()

    @property
    def attempt(self) -> int:
        return self._attempt

    @property
    def number(self) -> int:
        """The number of this writer in the attempt; 0 began it."""
        return self._writer

    def history(
        self, step: int, timestamp: float, runtime: float, values: dict[str, Any], complete: bool
    ) -> bool:
        """Record (a piece of) the row of ``step``; ``complete`` if nothing more comes for it.

        False if the disk did not take it. The caller holds ``lock``: every row passes here, so
        nothing is done twice.
        """
        if self._partial is not None and self._partial[0] != step:
            self._close_row()
        partial = self._partial
        if partial is None and self._journal.size > self._segments.limit:
            self._rotate()
        row = values if partial is None else {**partial[3], **values}
        if complete and self._state.metrics.in_use:
            missing = self.state.metrics.missing_step_metrics(row)
            values, row = {**values, **missing}, {**row, **missing}
        record = (HISTORY if complete else PARTIAL, step, timestamp, runtime, values)
        if not self._append(record):
            self._appender.refuse()
            return False
        if not complete:
            self._partial = (step, timestamp, runtime, row)
            return True
        self._partial = None
        self._unfolded.append(record if row is values else (*record[:4], row))
        if len(self._unfolded) == _FOLD_ROWS:
            self._fold()
        return True

    @property
    def state(self) -> RunState:
        """What is recorded so far; rows are folded in when somebody asks."""
        with self.lock:
            self._fold()
            return self._state

    def _fold(self) -> None:
        self._state.apply_rows([Row(*record[1:]) for record in self._unfolded])
        self._unfolded.clear()

    @property
    def has_rows(self) -> bool:
        """Whether anything of a row was recorded in this attempt."""
        return bool(self.state.rows) or self._partial is not None

    def event(self, kind: str, body: Mapping[str, Any]) -> None:
        """Record an event of ``kind``."""
        with self.lock:
            event = Event(kind, self._clock(), body)
            if not self._append((EVENT, kind, event.timestamp, body)):
                self._appender.refuse()
            self.state.apply(event)

    @contextlib.contextmanager
    def counting(self, what: str) -> Iterator[None]:
        """Count ``what`` as one record that is missing, if the disk does not take it."""
        try:
            yield
        except OSError as error:
            with self.lock:
                self._appender.miss(what, error)

    def confirm(self) -> None:
        """Return if all that the run begins with survives a power cut; else OSError."""
        if self._appender.is_short and self._appender.error is not None:
            raise self._appender.error
        self._segments.sync()
        self._room.begun()

    def artifact(self, version: ArtifactVersion) -> str:
        """Record a version of an artifact whose files are blobs already; return its manifest."""
        with self.lock:
            self._segments.check_place()
            make_directories(self._disk, self.layout.artifacts, within=self.layout.root)
            number = len(self.state.artifacts)
            path = self.layout.artifact(self._attempt, self._writer, number)
            document.write(self._disk, path, version.to_document())
            self.event("artifact", {"manifest": path.name})
        return path.name

    def sync(self) -> None:
        """Return when everything recorded so far survives a power cut; the disk may refuse."""
        try:
            self._segments.sync()
        except OSError as error:
            self._appender.refuse(error)
            self._appender.warn("disk", f"syncing to disk failed, training goes on: {error}")

    def close(self, exit_code: int, runtime: float, traceback: str | None = None) -> None:
        """Write the finish record and seal everything; the run is at rest when this returns.

        ``traceback`` is that of the exception that ended the run, if one did.
        """
        why = {} if traceback is None else {"traceback": traceback}
        said = []
        with self.lock:
            self._close_row()
            try:
                self._end({"exit_code": exit_code, "runtime": runtime, **why})
            except OSError as error:
                lost = self._appender.lost
                text = f"{lost} are not recorded, nor how" if lost else "it is not recorded how"
                said.append(f"{text} the run ended: {error}")
        self._stop.set()
        self._thread.join()
        self._sealer.join()
        self._room.release()
        try:
            self._segments.seal_all()
        except (OSError, WandbkerasError) as error:
            said.append(f"the run stays unsealed, its records are in the journal: {error}")
        if said:
            self._appender.say("; ".join(said))

    def abandon(self) -> None:
        """Stop without a finish record, as a process that is killed does."""
        self._stop.set()
        for thread in (self._thread, self._sealer):
            if thread.is_alive():
                thread.join()
        self._segments.close()
        self._room.release()

    def withdraw(self) -> None:
        """Undo that this writer began, before it has recorded a row."""
        self.abandon()
        with contextlib.suppress(OSError):
            self._disk.remove(self._journal.path)
        self._claim.give_up()

    def _close_row(self) -> None:
        """End the uncommitted row, if there is one."""
        if self._partial is not None:
            step, timestamp, runtime, row = self._partial
            missing = self.state.metrics.missing_step_metrics(row)
            if missing and self._append((HISTORY, step, timestamp, runtime, missing)):
                row = {**row, **missing}
            self._partial = None
            self.state.apply(Row(step, timestamp, runtime, row))

    def _begin(self, body: Mapping[str, Any]) -> None:
        """Record, surviving a power cut, that the attempt begins; or OSError."""
        event = Event("attempt", self._clock(), body)
        self._journal.append(encode_frame((EVENT, event.type, event.timestamp, body)))
        self._journal.sync()
        self._state.apply(event)

    def _end(self, body: Mapping[str, Any]) -> None:
        """Record how the run ended; or OSError."""
        event = Event("finish", self._clock(), body)
        self._appender.end((EVENT, event.type, event.timestamp, body), self._room.release)
        self.state.apply(event)

    def _rotate(self) -> None:
        """Begin a new segment; the old one is synced and sealed in the background."""
        self._segments.begin_next()
        if self._journal is not self._segments.current:
            self._journal = self._appender.journal = self._segments.current
            self._rows_before = self.state.rows

    def _work(self) -> None:
        while not self._stop.wait(SYNC_SECONDS):
            self.tick()

    def tick(self) -> None:
        """Do what is to be done every second: sync, say that the run is alive, end old segments."""
        try:
            self._segments.sync()
            self._segments.check_place()
        except OSError as error:
            self._appender.warn("disk", f"syncing to disk failed, training goes on: {error}")
        with self.lock, contextlib.suppress(OSError):
            self._appender.make_good()
            now = self._clock()
            if now - self._state.last_seen >= HEARTBEAT_SECONDS:
                self._beat()
            if self._segments.is_old(now) and self.state.rows > self._rows_before:
                self._end_segment()

    def _end_segment(self) -> None:
        """Begin a new segment, once no row is open."""
        if self._partial is None:
            self._rotate()
        else:
            self._segments.limit = 0

    def _beat(self) -> None:
        """Say that the run is alive."""
        event = Event("heartbeat", self._clock(), {})
        self._journal.append(encode_frame((EVENT, event.type, event.timestamp, event.body)))
        self._state.apply(event)

    def _seal_behind(self) -> None:
        """Seal segments that have ended; in a thread of its own: no sync may wait for that."""
        while not self._stop.wait(SYNC_SECONDS):
            # Without room for the parts nothing is lost, and the end tries again.
            with contextlib.suppress(OSError, WandbkerasError):
                self._segments.seal_waiting()
