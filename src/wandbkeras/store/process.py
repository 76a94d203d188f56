"""Which process writes an attempt, and whether it still lives."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from wandbkeras.store.checks import readable

# A writer says that it lives every 15 s; one that has not for this long is taken for dead.
STALE_SECONDS = 90.0
_LAUNCHERS = (
    ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
    ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
    ("PMIX_NAMESPACE",),
    ("PBS_JOBID",),
    ("LSB_JOBID",),
)


def describe_process() -> dict[str, Any]:
    """Return what identifies this process on its host, for the attempt's first record."""
    pid = os.getpid()
    return {
        "host": readable(platform.node()),
        "boot": _boot_id(),
        "pids": _pid_namespace(),
        "pid": pid,
        "started": _start_ticks(pid),
        "launch": readable(_launch()),
        "program": readable(sys.argv[0] if sys.argv else ""),
        "python": platform.python_version(),
    }


def is_alive(process: dict[str, Any], last_seen: float, now: float) -> bool:
    """Whether the writer lives: its process on this boot of this host, else a fresh heartbeat."""
    there = (process.get("host"), process.get("boot"), process.get("pids"))
    here = there == (platform.node(), _boot_id(), _pid_namespace())
    if here and process.get("started") is not None:
        return bool(_start_ticks(int(process["pid"])) == process["started"])
    return now - last_seen < STALE_SECONDS


def _launch() -> str:
    """Return what the processes of one launch have in common, and no later launch has.

    That is the scheduler's or launcher's own id with its count of restarts, else the parent: a
    requeued job that starts while its predecessor still seems to live is no worker beside it.
    Nor is one after the next boot or in a restarted container, where the parent may be as before.
    """
    for names in _LAUNCHERS:
        values = [os.environ.get(name, "") for name in names]
        if values[0]:
            return ":".join((names[0], *values))
    parent = os.getppid()
    place = (platform.node(), _boot_id(), _pid_namespace(), parent, _start_ticks(parent))
    return ":".join(("parent", *map(str, place)))


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    """Return what tells containers on one host apart: a pid means another process in each."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _start_ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None if there is none.

    A pid alone is not enough: it is used again after its process has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything, so count from the last one: state is field 3.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
