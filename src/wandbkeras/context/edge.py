"""Where whatever goes wrong with the surroundings of a run ends: the training goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def attempted(work: Callable[[], _T], report: Callable[[str], None]) -> _T | None:
    """Return what ``work`` gives; None if it raises, and why is reported.

    A machine can be odd in any way, so every exception ends here, and none elsewhere in this
    package. What is not an error, as the end of the process, goes on.

    >>> attempted(lambda: 1 // 0, print)
    ZeroDivisionError: integer division or modulo by zero
    """
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - said, recorded, and training goes on
        report(f"{type(error).__name__}: {error}")
        return None
