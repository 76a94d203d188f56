"""With which code, and by which exception, the interpreter is about to end.

Python tells no one: an ``atexit`` function sees neither the exception nor the code. So the two ways
out are watched, each passed on unchanged: ``sys.excepthook`` and ``sys.exit``.
"""

from __future__ import annotations

import os
import sys
import traceback as tracebacks
from types import TracebackType
from typing import Any, NoReturn

from wandbkeras.context.masking import Masking
from wandbkeras.store.checks import readable

# The frames that matter most are the last ones.
_TRACEBACK_CHARACTERS = 65_536


class ExitCode:
    """The code seen so far: 0 until an exception or ``sys.exit`` says otherwise.

    ``traceback`` is that of the exception, if it was one.
    """

    def __init__(self) -> None:
        self.value = 0
        self.traceback: str | None = None

    def install(self) -> None:
        """Begin to watch; whoever is hooked in already is called as before."""
        excepthook, leave = sys.excepthook, sys.exit

        def watch_exception(
            kind: type[BaseException], error: BaseException, traceback: TracebackType | None
        ) -> None:
            self.value, self.traceback = exit_code_of(error), traceback_of(error)
            excepthook(kind, error, traceback)

        def watch_exit(status: Any = None, /) -> NoReturn:
            # A SystemExit that somebody catches leaves its code here; the next way out replaces it.
            self.value, self.traceback = exit_code_of(SystemExit(status)), None
            leave(status)

        sys.excepthook = watch_exception
        sys.exit = watch_exit


def exit_code_of(error: BaseException | None) -> int:
    """Return the exit code with which Python ends on ``error``.

    >>> exit_code_of(SystemExit(3)), exit_code_of(ValueError()), exit_code_of(None)
    (3, 1, 0)
    """
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        code = error.code
        return code if isinstance(code, int) else int(code is not None)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def traceback_of(error: BaseException | None) -> str | None:
    """Return what Python prints of ``error``, its end if it is long; None if it prints nothing.

    As on the console, values of variables that look like keys are masked.

    >>> traceback_of(SystemExit(3)), traceback_of(ValueError("no"))
    (None, 'ValueError: no\\n')
    """
    if error is None or isinstance(error, SystemExit):
        return None
    text = "".join(tracebacks.format_exception(type(error), error, error.__traceback__))
    return readable(Masking(os.environ).hide(text)[-_TRACEBACK_CHARACTERS:])
