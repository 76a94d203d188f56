"""With which code the interpreter is about to end.

Python tells no one: an ``atexit`` function sees neither the exception nor the code. So the two ways
out are watched, each passed on unchanged: ``sys.excepthook`` and ``sys.exit``.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, NoReturn

from wandbkeras.recording.recorder import exit_code_of


class ExitCode:
    """The code seen so far: 0 until an exception or ``sys.exit`` says otherwise."""

    def __init__(self) -> None:
        self.value = 0

    def install(self) -> None:
        """Begin to watch; whoever is hooked in already is called as before."""
        excepthook, leave = sys.excepthook, sys.exit

        def watch_exception(
            kind: type[BaseException], error: BaseException, traceback: TracebackType | None
        ) -> None:
            self.value = exit_code_of(error)
            excepthook(kind, error, traceback)

        def watch_exit(status: Any = None, /) -> NoReturn:
            # A SystemExit that somebody catches leaves its code here; the next way out replaces it.
            self.value = exit_code_of(SystemExit(status))
            leave(status)

        sys.excepthook = watch_exception
        sys.exit = watch_exit
