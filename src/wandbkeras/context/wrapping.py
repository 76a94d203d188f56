"""A stream of Python's whose ``write`` is wrapped, so that what is written is recorded too."""

from __future__ import annotations

import os
import select
import sys
from typing import Any, TextIO

# Longer, and a program would wait for a relay that takes nothing.
_WAIT_MS = 1_000


class Wrapping:
    """Lets what is written to a stream of Python's be written to ``fd`` too.

    IPython does the same for each cell, and puts back afterwards what was there before it. So it is
    done anew as each cell begins.
    """

    def __init__(self, stream: TextIO, fd: int) -> None:
        self._stream = stream
        self._fd = fd
        self._before: Any = None
        self._mine: Any = None
        self.install()
        self._shell = _shell()
        if self._shell is not None:
            self._shell.events.register("pre_run_cell", self.install)

    def install(self, *_: Any) -> None:
        """Wrap the stream's ``write``, unless it is; AttributeError if the stream has none of its
        own."""
        if self._mine is not None and vars(self._stream).get("write") is self._mine:
            return
        self._before, before = vars(self._stream).get("write"), self._stream.write

        def write(text: str, /) -> int:
            written = before(text)
            if isinstance(text, str):
                _offer(self._fd, text.encode(errors="replace"))
            return written

        try:
            self._stream.write = write  # type: ignore[method-assign]
        except TypeError as error:
            raise AttributeError(str(error)) from error
        self._mine = write

    def remove(self) -> None:
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self.install)
        if vars(self._stream).get("write") is not self._mine:
            return
        if self._before is None:
            del self._stream.write
        else:
            self._stream.write = self._before  # type: ignore[method-assign]


def _shell() -> Any:
    """Return the shell of the notebook that this is, if it is one."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _offer(fd: int, data: bytes) -> None:
    """Write to the relay, unless it takes nothing for a second."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            if not poll.poll(_WAIT_MS):
                return
        except OSError:
            return
