"""The processes below one, without a look at all processes of the machine.

A node of a cluster has thousands: asking each who its parent is takes longer than a whole sample.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def processes_below(process: psutil.Process) -> list[psutil.Process]:
    """Return the children of ``process``, theirs, and so on, those that are still there."""
    tasks = Path("/proc", str(process.pid), "task")
    if not (tasks / str(process.pid) / "children").exists():
        return list(process.children(recursive=True))  # another system, or a kernel without it
    found = []
    waiting = _children(process.pid)
    while waiting:
        pid = waiting.pop()
        with suppress(psutil.Error):
            found.append(psutil.Process(pid))
        waiting += _children(pid)
    return found


def _children(pid: int) -> list[int]:
    """Return the processes that one has started, each thread of it."""
    found: list[int] = []
    with suppress(OSError):  # it has ended, or one of its threads has
        for task in Path("/proc", str(pid), "task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found
