"""The writer of one attempt: rows and events into the journal at once, synced and sealed behind.

When :meth:`RunWriter.history` or :meth:`RunWriter.event` returns, the record survives the process
being killed; within one second it survives a power cut. A disk that takes no more stops nothing:
what could not be recorded is counted, said once on standard error, and written into the run as soon
as the disk takes bytes again.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wandbkeras.errors import WandbkerasError
from wandbkeras.store import document
from wandbkeras.store.blobs import add_blob
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.journal import JournalWriter, encode_frame
from wandbkeras.store.layout import Layout
from wandbkeras.store.schema import ArtifactFile, ArtifactVersion
from wandbkeras.store.state import EVENT, HISTORY, PARTIAL, Event, RunState

SYNC_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
SEGMENT_BYTES = 16 << 20
# Folding rows in bundles keeps the one that pays for it out of the 99th percentile.
_FOLD_ROWS = 256


class RunWriter:
    """Writes one attempt of the run at ``layout``.

    ``process`` says who writes and ``from_step``, from which step it goes on; ``resume`` is what
    the attempt takes over (:meth:`RunState.to_resume_body`); ``clock`` gives seconds since the
    epoch. With ``attempt`` it writes beside the other writers of that attempt, else it begins one.
    """

    def __init__(
        self,
        layout: Layout,
        process: Mapping[str, Any],
        *,
        resume: Mapping[str, Any] | None = None,
        attempt: int | None = None,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.layout = layout
        self._state = RunState()
        self._unfolded: list[tuple[int, float, float, dict[str, Any]]] = []
        self.lock = threading.RLock()
        self._disk = disk or Disk()
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._process = process
        self._segment = 0
        self._dropped: Counter[str] = Counter()
        self._warned = False
        self._retired: list[JournalWriter] = []
        self._partial: tuple[int, float, float, dict[str, Any]] | None = None
        self._attempt = self._claim_attempt() if attempt is None else attempt
        self._writer, self._journal = self._claim_writer()
        self.event("attempt", dict(process) if resume is None else {**process, "resume": resume})
        self._journal.sync()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="wandbkeras-writer", daemon=True)
        self._thread.start()

    @property
    def attempt(self) -> int:
        return self._attempt

    def history(
        self, step: int, timestamp: float, runtime: float, values: dict[str, Any], complete: bool
    ) -> None:
        """Record (a piece of) the row of ``step``; ``complete`` if nothing more comes for it.

        The caller holds ``lock``: every row passes here, so nothing is done twice.
        """
        if self._partial is not None and self._partial[0] != step:
            self._close_row()
        partial = self._partial
        if partial is None and self._journal.size > self._segment_bytes:
            self._rotate()
        row = values if partial is None else {**partial[3], **values}
        if complete and self._state.metrics.in_use:
            missing = self.state.metrics.missing_step_metrics(row)
            values, row = {**values, **missing}, {**row, **missing}
        kind = HISTORY if complete else PARTIAL
        if not self._append((kind, step, timestamp, runtime, values)):
            return
        if not complete:
            self._partial = (step, timestamp, runtime, row)
            return
        self._partial = None
        self._unfolded.append((step, timestamp, runtime, row))
        if len(self._unfolded) == _FOLD_ROWS:
            self._fold()

    @property
    def state(self) -> RunState:
        """What is recorded so far; rows are folded in when somebody asks."""
        with self.lock:
            self._fold()
            return self._state

    def _fold(self) -> None:
        for row in self._unfolded:
            self._state.apply_row(*row)
        self._unfolded.clear()

    @property
    def has_rows(self) -> bool:
        """Whether anything of a row was recorded in this attempt."""
        return bool(self.state.rows) or self._partial is not None

    def event(self, kind: str, body: Mapping[str, Any]) -> None:
        """Record an event of ``kind``."""
        with self.lock:
            event = Event(kind, self._clock(), body)
            self._append((EVENT, kind, event.timestamp, body))
            self.state.apply(event)

    def add_file(self, source: Path) -> ArtifactFile:
        """Copy a file into the run's blobs."""
        return add_blob(self._disk, self.layout, source)

    def artifact(self, version: ArtifactVersion) -> None:
        """Record a version of an artifact whose files are blobs already."""
        with self.lock:
            make_directories(self._disk, self.layout.artifacts)
            number = len(self.state.artifacts)
            path = self.layout.artifact(self._attempt, self._writer, number)
            document.write(self._disk, path, version.to_document())
            self.event("artifact", {"manifest": path.name})

    def sync(self) -> None:
        """Return when everything recorded so far survives a power cut; the disk may refuse."""
        try:
            self._journal.sync()
        except OSError as error:
            self._warn(f"syncing to disk failed, training goes on: {error}")

    def close(self, exit_code: int, runtime: float) -> None:
        """Write the finish record and seal everything; the run is at rest when this returns."""
        with self.lock:
            self._close_row()
            self.event("finish", {"exit_code": exit_code, "runtime": runtime})
        self._stop.set()
        self._thread.join()
        try:
            for journal in (*self._retired, self._journal):
                journal.sync()
                journal.close()
            self._seal(before=self._segment + 1, compact=True)
        except (OSError, WandbkerasError) as error:
            self._say(f"the run stays unsealed, nothing is lost: {error}")

    def abandon(self) -> None:
        """Stop without a finish record, as a process that is killed does."""
        self._stop.set()
        self._thread.join()
        self._journal.close()

    def _claim_attempt(self) -> int:
        """Own a new attempt by making its directory: two processes never share one."""
        make_directories(self._disk, self.layout.attempts)
        while True:
            attempt = max(self.layout.attempt_numbers(), default=-1) + 1
            try:
                self._disk.make_directory(self.layout.attempt(attempt))
            except FileExistsError:
                continue
            self._disk.sync_directory(self.layout.attempts)
            return attempt

    def _claim_writer(self) -> tuple[int, JournalWriter]:
        """Own a writer's number by making its first journal."""
        while True:
            self._writer = max(self.layout.writer_numbers(self._attempt), default=-1) + 1
            try:
                return self._writer, self._open_segment()
            except FileExistsError:
                continue

    def _open_segment(self) -> JournalWriter:
        path = self.layout.journal(self._attempt, self._writer, self._segment)
        header = {
            "attempt": self._attempt,
            "writer": self._writer,
            "segment": self._segment,
            # In every segment, and in the first event too: losing one frame must not lose it.
            "process": self._process,
        }
        return JournalWriter(self._disk, path, header)

    def _close_row(self) -> None:
        """End the uncommitted row, if there is one."""
        if self._partial is not None:
            step, timestamp, runtime, row = self._partial
            if self.state.metrics.missing_step_metrics(row):
                self.history(step, timestamp, runtime, {}, complete=True)
                return
            self._partial = None
            self.state.apply_row(step, timestamp, runtime, row)

    def _append(self, record: tuple[Any, ...]) -> bool:
        """Append a record; False, counting it, if the disk does not take it."""
        try:
            if self._dropped:
                self._append_dropped()
            self._journal.append(encode_frame(record))
        except OSError as error:
            if record[0] != EVENT:
                self._dropped["rows"] += 1
            elif record[1] != "heartbeat":
                self._dropped["events"] += 1
            self._warn(f"not everything is recorded from here on, training goes on: {error}")
            return False
        return True

    def _append_dropped(self) -> None:
        """Say in the run how much the disk did not take: (pieces of) rows, and events."""
        rows, events = self._dropped["rows"], self._dropped["events"]
        body = {"rows": rows, "events": events, "reason": "the disk took no more"}
        event = Event("dropped", self._clock(), body)
        self._journal.append(encode_frame((EVENT, event.type, event.timestamp, body)))
        self.state.apply(event)
        self._dropped.clear()

    def _rotate(self) -> None:
        """Begin a new segment; the old one is synced and sealed in the background."""
        self._segment += 1
        try:
            journal = self._open_segment()
        except OSError:
            self._segment -= 1  # go on in the old one: it may still have room
            return
        self._retired.append(self._journal)
        self._journal = journal

    def _work(self) -> None:
        """Sync every second, seal retired segments, and say that the run is alive."""
        while not self._stop.wait(SYNC_SECONDS):
            try:
                self._journal.sync()
                self._seal_retired()
            except (OSError, WandbkerasError) as error:
                self._warn(f"syncing to disk failed, training goes on: {error}")
            if self._clock() - self._state.last_seen >= HEARTBEAT_SECONDS:
                self.event("heartbeat", {})

    def _seal_retired(self) -> None:
        with self.lock:
            retired, self._retired = self._retired, []
            before = self._segment
        if retired:
            for journal in retired:
                journal.sync()
                journal.close()
            self._seal(before=before, compact=False)

    def _seal(self, *, before: int, compact: bool) -> None:
        # Only sealing needs pyarrow, and importing that takes longer than starting a run may.
        from wandbkeras.store.seal import seal

        seal(self._disk, self.layout, self._attempt, self._writer, before=before, compact=compact)

    def _warn(self, text: str) -> None:
        """Say the first trouble with the disk; the rest is counted."""
        if not self._warned:
            self._warned = True
            self._say(text)

    def _say(self, text: str) -> None:
        print(f"wandbkeras: {self.layout.root}: {text}", file=sys.stderr)  # noqa: T201
