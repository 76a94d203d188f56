"""Progress on a terminal: one line that changes. In a pipe there is none: runs end as lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from wandbkeras_cli.output import human_size, one_line

if TYPE_CHECKING:
    from rich.progress import Progress as Display

_T = TypeVar("_T")


class Progress:
    """Shows how many of ``total`` runs are done, what they sent, and what is going on now.

    For several threads. Nothing is shown unless standard error is a terminal.
    """

    def __init__(self, total: int, *, shown: bool = True) -> None:
        self._lock = threading.Lock()
        self._display = _display() if shown and sys.stderr.isatty() else None
        self._pausing = False
        self._sent = (0, 0)
        if self._display is not None:
            self._task = self._display.add_task("", total=total, sent="")

    def say(self, text: str) -> None:
        """Show what is being done now, in the place of what was shown before."""
        if self._display is None:
            return
        with self._lock:
            self._display.update(self._task, description=one_line(text))
            if not self._pausing:
                self._display.start()
                self._display.refresh()

    def over(
        self, results: Iterable[_T], sent: Callable[[_T], tuple[int, int]] = lambda _: (0, 0)
    ) -> Iterator[_T]:
        """Yield results, counting them and the rows and bytes that each has ``sent``.

        The line is out of the way while a result is being printed.
        """
        try:
            for result in results:
                self._count(*sent(result))
                yield result
                self._pausing = False
        finally:  # also when interrupted: what is said then has a line of its own
            self._pause()

    def _count(self, rows: int, size: int) -> None:
        self._pause()
        self._sent = (self._sent[0] + rows, self._sent[1] + size)
        if self._display is not None:
            text = f" · {self._sent[0]:,} rows, {human_size(self._sent[1])} sent"
            self._display.update(self._task, advance=1, sent=text if any(self._sent) else "")

    def _pause(self) -> None:
        with self._lock:
            self._pausing = True
            if self._display is not None:
                self._display.stop()


def _display() -> Display:
    # Importing rich takes longer than listing a store: only a terminal waits for it.
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.table import Column

    # Names in a run may come from a stranger: no text is markup.
    now = TextColumn("· {task.description}", markup=False, table_column=Column(no_wrap=True))
    counts = TextColumn("runs{task.fields[sent]}", markup=False)
    return Progress(
        SpinnerColumn(),
        MofNCompleteColumn(),
        counts,
        now,
        Elapsed(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
