"""Live: one run is synced again and again while it is recorded, by a process beside the training.

Each round is a whole sync, with its lock, its reading back and its receipt: so this process can be
killed at any moment, and whatever syncs the run next goes on where it was.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wandbkeras.errors import LockedError, UnreachableError, WandbkerasError
from wandbkeras.store.activity import Activity, activity
from wandbkeras.store.layout import Layout
from wandbkeras.store.live import LiveState, Phase
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.engine import sync
from wandbkeras.sync.lock import Locks
from wandbkeras.sync.ongoing import Ongoing
from wandbkeras.sync.options import Options, Result
from wandbkeras.sync.watch import KEEP_ALIVE_S
from wandbkeras.sync.watch import LONGEST_PAUSE_S as PAUSE_FOR_SOMEBODY_S

WHO = "the live uploader of this run"
# The directory beside the receipts in which the lock lies that there is one uploader of a run by.
LOCKS = ".live"
# From the end of a round to the next one; longer if the rounds would take a larger share of a
# processor, as those of a run of millions of rows or thousands of images do.
DEFAULT_INTERVAL_S = 2.0
SHARE = 0.1
# A round that failed is tried again after twice the time each time, and at last as often.
LONGEST_PAUSE_S = 30.0
# The note says that the process lives as often.
_NOTE_S = 30.0
# A process that is being killed closes its files a moment before it is dead. Found running by a
# round that began so long after that, a run is one of other processes, too.
_RUNNING_S = 5.0
# Once the training has ended, nothing is waited for any longer than this at a time.
_LAST_PAUSE_S = 2.0


class Uploader:
    """Uploads the run at ``path`` until ``gone`` is set, and then the rest of it.

    ``gone``: the process that records has ended, or has no more to record. ``tell`` gets what is
    new: the state, and whether it is worth a note on disk. An interrupt ends it. ``interval_s``
    lies between two rounds at least, and before a round that failed is tried again.
    """

    def __init__(
        self,
        path: Path,
        gone: threading.Event,
        tell: Callable[[LiveState, bool], None],
        options: Options | None = None,
        interval_s: float = DEFAULT_INTERVAL_S,
    ) -> None:
        self._path = path
        self._interval_s = interval_s
        self._layout = Layout(path)
        self._gone = gone
        self._tell = tell
        self._options = replace(options or Options(), keep_alive_s=KEEP_ALIVE_S, workers=1)
        self._ongoing = Ongoing(WHO)
        self._state = LiveState("starting")
        self._noted = 0.0
        self._seen: Activity = ()
        self._looked = 0.0
        self._failures = 0
        self._gone_at = math.inf
        self._error: WandbkerasError | None = None

    def run(self) -> LiveState:
        """Upload until nothing is left; return the last state, which has been told."""
        locks = Locks(WHO)
        try:
            self._say(phase="starting")
            if self._acquire(locks):
                while not self._step():
                    pass
        except KeyboardInterrupt:
            pass  # the time is up
        finally:
            self._ongoing.close()
            locks.close()
        self._say(phase="ended", pending=None if self._state.arrived else self._pending())
        return self._state

    def _acquire(self, locks: Locks) -> bool:
        """Wait for the uploader of an attempt before, which sends the rest of that.

        Also for a disk that takes no file; False if the training ends before it does.
        """
        while True:
            try:
                locks.acquire(self._layout.receipts / LOCKS, "is sending it")
                return True
            except WandbkerasError as error:
                self._say(phase="waiting", error=str(error))
                if self._gone.is_set() and not error.retryable:
                    return False
            self._rest(self._interval_s)

    def _step(self) -> bool:
        """Sync if there may be something to send, then pause; True if nothing more can come."""
        was_gone = self._gone.is_set()  # before the round: what it reads is all then
        if was_gone:
            self._gone_at = min(self._gone_at, time.monotonic())
        is_first, began = not self._seen, time.process_time()
        if was_gone or self._is_due():
            self._round()
        if was_gone and self._is_over():
            return True
        # What the first one takes, to import and to connect, is taken once.
        self._rest(self._pause(0.0 if is_first else time.process_time() - began))
        return False

    def _is_over(self) -> bool:
        """Whether nothing is left to do now that the training has ended."""
        if self._error is not None:
            return not self._error.retryable
        return self._state.arrived or self._looked - self._gone_at > _RUNNING_S

    def _rest(self, pause_s: float) -> None:
        """Wait for the next round, and say meanwhile that this process lives.

        The end of the training ends the waiting; afterwards no pause is long.
        """
        if self._gone.is_set():
            time.sleep(min(pause_s, _LAST_PAUSE_S))
            return
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0:
            if self._gone.wait(min(left_s, _NOTE_S)):
                return
            self._say(phase=self._state.phase)

    def _is_due(self) -> bool:
        if self._error is not None or self._seen != activity(self._layout):
            return True
        return time.monotonic() - self._looked > KEEP_ALIVE_S

    def _round(self) -> None:
        """Bring what there is to the server, once."""
        # Before it is read: what comes meanwhile is seen the next time.
        self._seen, self._looked = activity(self._layout), time.monotonic()
        (result,) = sync([self._path], self._options, ongoing=self._ongoing)
        self._error = result.error
        if result.error is None:
            self._arrived(result)
        else:
            self._failed(result.error)

    def _arrived(self, result: Result) -> None:
        receipt = result.receipt
        assert receipt is not None
        self._failures = 0
        self._say(
            phase="following",
            rows=receipt.rows,
            url=receipt.url,
            run_state=receipt.state,
            arrived=receipt.state != "running",
            not_sent=len(receipt.not_sent),
            error=None,
            pending=None,
        )

    def _failed(self, error: WandbkerasError) -> None:
        self._failures += 1
        if isinstance(error, (UnreachableError, LockedError)):
            self._ongoing.ask_again()
        else:
            self._ongoing.forget()
        if isinstance(error, LockedError) and not self._gone.is_set():
            return  # another sync has its turn
        self._say(phase="waiting", arrived=False, error=str(error), pending=self._pending())

    def _pending(self) -> int | None:
        """Return how many rows are not verified; None if the run can't be read."""
        try:
            return max(0, StoredRun(self._path).row_count - self._state.rows)
        except (WandbkerasError, OSError):
            return None

    def _pause(self, cpu_s: float) -> float:
        """Return how long nothing is done: the training's machine is not this process's."""
        if self._error is None or isinstance(self._error, LockedError):
            return max(self._interval_s, cpu_s * (1 / SHARE - 1))
        if not self._error.retryable:
            return PAUSE_FOR_SOMEBODY_S
        return float(min(self._interval_s * 2.0 ** min(self._failures - 1, 10), LONGEST_PAUSE_S))

    def _say(self, *, phase: Phase, **changes: Any) -> None:
        before, now = self._state, time.time()
        after = self._state = replace(before, phase=phase, time=now, **changes)
        is_news = (before.phase, before.error, before.url) != (phase, after.error, after.url)
        if is_news or now - self._noted > _NOTE_S:
            self._noted, is_news = now, True
        self._tell(after, is_news)
