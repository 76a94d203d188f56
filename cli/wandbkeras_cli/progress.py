"""Progress on a terminal: one line that changes. In a pipe there is none: runs end as lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from wandbkeras_cli.output import one_line

_T = TypeVar("_T")
_CLEAR = "\r\x1b[2K"
_WIDTH = 100


class Progress:
    """Shows how many of ``total`` runs are done and what was begun last; for several threads."""

    def __init__(self, total: int, *, shown: bool = True) -> None:
        self._total = total
        self._done = 0
        self._shown = shown and sys.stderr.isatty()
        self._lock = threading.Lock()
        self._last = ""

    def say(self, text: str) -> None:
        """Show what is being done now, in the place of what was shown before."""
        with self._lock:
            self._write(one_line(f"{self._done}/{self._total} runs · {text}")[:_WIDTH])

    def over(self, results: Iterable[_T]) -> Iterator[_T]:
        """Yield results, counting them; the line is cleared while one is being printed."""
        for result in results:
            with self._lock:
                self._done += 1
                self._write("")
            yield result
        with self._lock:
            self._write("")

    def _write(self, text: str) -> None:
        if self._shown and (text or self._last):
            self._last = text
            sys.stderr.write(f"{_CLEAR}\x1b[2m{text}\x1b[0m" if text else _CLEAR)
            sys.stderr.flush()
