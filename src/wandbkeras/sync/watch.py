"""Watching: runs are synced as often as they change, for as long as something may come.

Writers are on other machines, whose writing no file system tells of, so it looks again and again.
What is where is told by receipts: a watcher that was killed goes on where it was.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wandbkeras.errors import NotVerifiedError, SyncError, WandbkerasError, gravest
from wandbkeras.store.activity import Activity, activity
from wandbkeras.store.layout import Layout
from wandbkeras.sync.lock import Locks
from wandbkeras.sync.options import Options, Result
from wandbkeras.sync.receipt import Receipt
from wandbkeras.sync.under_way import UnderWay

DEFAULT_INTERVAL_S = 30.0
# W&B takes a run for crashed of which it has not heard for some minutes.
KEEP_ALIVE_S = 60.0
# A failed run is tried again after twice the time each time, and at last every ten minutes.
LONGEST_PAUSE_S = 600.0
# The directory of a store in which its watcher's lock lies.
LOCKS = ".watch"


@dataclass(frozen=True)
class Pace:
    """How often is looked, and when no more: durations in seconds.

    ``exit_when_done``: once there is a run and none is left that something may come of.
    ``idle_timeout_s``: once no run has been running and nothing has come for as long.
    """

    interval_s: float = DEFAULT_INTERVAL_S
    exit_when_done: bool = False
    idle_timeout_s: float | None = None


@dataclass(frozen=True)
class Event:
    """What happened at ``time`` (seconds since the epoch).

    ``found``: a run has come since the watch began. ``arrived``: what was new of one has been read
    back. ``failed``: it has not, as ``error`` says; ``retry_s`` is how long it is left alone.
    ``unreadable``: the runs themselves can't be looked for.
    """

    kind: Literal["found", "arrived", "failed", "unreadable"]
    time: float
    path: Path | None = None
    result: Result | None = None
    error: WandbkerasError | None = None
    retry_s: float | None = None


@dataclass(frozen=True)
class Watched:
    """A run as the watcher knows it; ``due_at`` is on the monotonic clock.

    ``result`` is None until its first sync has ended.
    """

    path: Path
    seen: Activity = ()
    result: Result | None = None
    failures: int = 0
    due_at: float = 0.0

    @property
    def receipt(self) -> Receipt | None:
        """What has arrived of it, also when the last sync has failed."""
        return self.result.receipt if self.result else None

    @property
    def state(self) -> str | None:
        """The state that the server shows; None while there is none to tell."""
        return self.receipt.state if self.receipt else None

    @property
    def is_running(self) -> bool:
        return self.state in ("running", "preempting")

    @property
    def is_preempted(self) -> bool:
        return self.state == "preempted"

    @property
    def may_change(self) -> bool:
        """Whether something may still come of it without anybody's doing.

        So it does of a run that was preempted: its next attempt is waiting in line.
        """
        if self.result is None or self.is_running or self.is_preempted:
            return True
        return self.result.error is not None and self.result.error.retryable


class Watcher:
    """Syncs the runs that ``find`` returns whenever they change; ``find`` is asked each time.

    ``stores`` are the directories in which its lock lies, so that there is one watcher of each.
    ``progress`` is called by several threads. Setting ``stopping`` ends the watch at the next
    moment at which nothing is under way.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[Path]],
        stores: Sequence[Path],
        options: Options,
        pace: Pace | None = None,
        *,
        stopping: threading.Event | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._find = find
        self._stores = stores
        self._options = replace(options, keep_alive_s=KEEP_ALIVE_S)
        self._pace = pace or Pace()
        self._stopping = stopping or threading.Event()
        self._under_way = UnderWay(self._options, progress)
        self._runs: dict[Path, Watched] = {}
        self._trouble: str | None = None
        self._has_looked = False
        self._last_event = time.monotonic()

    @property
    def runs(self) -> list[Watched]:
        """The runs that there are, as they were seen last."""
        return list(self._runs.values())

    @property
    def exit_code(self) -> int:
        """The gravest of what still holds; that of an incomplete sync for a run under way."""
        return gravest(
            (run.result.exit_code if run.result else 0)
            or (NotVerifiedError.exit_code if run.may_change else 0)
            for run in self._runs.values()
        )

    def events(self) -> Generator[Event, None, None]:
        """Watch; yield what happens until there is nothing left to wait for.

        LockedError if another watcher is at work on one of the stores.
        """
        locks = Locks()
        try:
            for store in self._stores:
                locks.acquire(store / LOCKS, "is watching these runs")
            while not self._stopping.is_set():
                next_look = time.monotonic() + self._pace.interval_s
                yield from self._look()
                self._has_looked = True
                yield from self._results(next_look)
                if not self._under_way.paths and self._is_over():
                    return
                self._stopping.wait(max(0.0, next_look - time.monotonic()))
            yield from self._results(math.inf)
        finally:
            self._under_way.close()
            locks.close()

    def _results(self, deadline: float) -> Iterator[Event]:
        """Note how syncs end until none is under way, or until ``deadline``."""
        while self._under_way.paths:
            result = self._under_way.next_result(deadline)
            if result is None:
                return
            yield from self._ended(result)

    def _look(self) -> Iterator[Event]:
        """Look for runs and sync those that need it."""
        try:
            paths = self._find()
        except (WandbkerasError, OSError) as error:
            # A mount that is gone comes back, and so do its runs.
            yield from self._unreadable(error)
            return
        self._trouble = None
        self._runs = {path: self._runs.get(path, Watched(path)) for path in paths}
        due = [run.path for run in self._runs.values() if self._is_due(run)]
        for path in due:
            if self._has_looked and not self._runs[path].seen:
                yield self._told(Event("found", time.time(), path))
            # Before it is read: what comes meanwhile is seen the next time.
            self._runs[path] = replace(self._runs[path], seen=activity(Layout(path)))
        self._under_way.begin(due)

    def _is_due(self, run: Watched) -> bool:
        if time.monotonic() < run.due_at or run.path in self._under_way.paths:
            return False
        # Of a running run the heartbeat may have stopped, which changes no file.
        changes_unseen = run.may_change and not run.is_preempted
        return changes_unseen or run.failures > 0 or run.seen != activity(Layout(run.path))

    def _ended(self, result: Result) -> Iterator[Event]:
        """Note how the sync of a run ended; it is an event if something is new."""
        before = self._runs.get(result.path)
        if before is None:  # it has gone meanwhile
            return
        if result.outcome == "failed":
            assert result.error is not None
            failures = before.failures + 1
            pause = self._pause(failures, result.error)
            after = replace(before, failures=failures, due_at=time.monotonic() + pause)
            # The receipt that it had still tells its state.
            told = replace(result, receipt=before.receipt)
            self._runs[result.path] = replace(after, result=told)
            if before.result is None or str(before.result.error) != str(result.error):
                yield self._told(
                    Event("failed", time.time(), result.path, result, result.error, pause)
                )
            return
        self._runs[result.path] = replace(before, result=result, failures=0, due_at=0.0)
        sent = result.rows_sent or result.artifacts_sent or result.files_sent
        has_changed = before.failures or self._runs[result.path].state != before.state
        if result.outcome == "verified" and (sent or has_changed):
            yield self._told(Event("arrived", time.time(), result.path, result))

    def _pause(self, failures: int, error: WandbkerasError) -> float:
        """Return how long a failed run is left alone: what somebody must put right, for long."""
        if not error.retryable:
            return LONGEST_PAUSE_S
        return min(self._pace.interval_s * 2.0 ** (failures - 1), LONGEST_PAUSE_S)

    def _unreadable(self, error: WandbkerasError | OSError) -> Iterator[Event]:
        if isinstance(error, OSError):
            error = SyncError(str(error))
        if str(error) != self._trouble:
            self._trouble = str(error)
            yield Event("unreadable", time.time(), error=error, retry_s=self._pace.interval_s)

    def _told(self, event: Event) -> Event:
        self._last_event = time.monotonic()
        return event

    def _is_over(self) -> bool:
        pace, runs = self._pace, self._runs.values()
        if pace.exit_when_done and runs and not any(run.may_change for run in runs):
            return True
        if pace.idle_timeout_s is None or any(run.is_running for run in runs):
            return False
        return time.monotonic() - self._last_event >= pace.idle_timeout_s
