"""Syncs that go on while a watcher looks further: a run that hangs holds up no other."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue

from wandbkeras.sync.engine import sync
from wandbkeras.sync.options import Options, Result


class UnderWay:
    """The syncs that have begun and not ended; for one thread, which takes their results."""

    def __init__(self, options: Options, progress: Callable[[str], None]) -> None:
        self._options = options
        self._progress = progress
        self._ended: SimpleQueue[Result | BaseException] = SimpleQueue()
        # Each ends by its own event, which another one's end does not set.
        self._threads: list[tuple[threading.Thread, threading.Event]] = []
        self.paths: set[Path] = set()

    def begin(self, paths: Sequence[Path]) -> None:
        """Begin to sync runs, none of which is under way."""
        if not paths:
            return
        self.paths.update(paths)
        stopping = threading.Event()
        thread = threading.Thread(
            target=self._sync, args=(paths, stopping), name="wandbkeras-watch", daemon=True
        )
        living = [(other, event) for other, event in self._threads if other.is_alive()]
        self._threads = [*living, (thread, stopping)]
        thread.start()

    def next_result(self, deadline: float) -> Result | None:
        """Return how the next one ended, None if none does before ``deadline`` (monotonic)."""
        try:
            left = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
            ended = self._ended.get(timeout=left)
        except Empty:
            return None
        if isinstance(ended, BaseException):
            raise ended
        self.paths.discard(ended.path)
        return ended

    def close(self) -> None:
        """End what is under way."""
        for _, stopping in self._threads:
            stopping.set()
        for thread, _ in self._threads:
            thread.join()

    def _sync(self, paths: Sequence[Path], stopping: threading.Event) -> None:
        try:
            results = sync(
                paths,
                self._options,
                progress=self._progress,
                stopping=stopping,
                in_order=False,
            )
            with closing(results):
                for result in results:
                    self._ended.put(result)
        except BaseException as error:  # noqa: BLE001 - the thread's edge: raised where results are
            self._ended.put(error)
