"""Samples of what the machine does, taken by a thread until the run ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from wandbkeras.context.background import Background


class Sampling:
    """Takes a sample at once, one every ``interval_s`` seconds, and a last one when stopped."""

    def __init__(
        self,
        interval_s: float,
        record: Callable[[Mapping[str, float]], None],
        report: Callable[[str, str], None],
        begin: threading.Event | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._record = record
        self._stopped = threading.Event()
        self._background = Background("system metrics", self._work, report, begin)

    def stop(self) -> None:
        """Return when the last sample is recorded."""
        self._stopped.set()
        self._background.wait()

    def _work(self) -> None:
        # psutil, which takes a while to import, is imported here.
        from wandbkeras.context.machine import Machine

        machine = Machine()
        while True:
            self._record(machine.sample())
            if self._stopped.is_set():
                return
            self._stopped.wait(self._interval_s)
