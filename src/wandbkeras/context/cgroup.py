"""What of the machine a job may use: the limits of its control groups, of both versions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The kernel writes spaces and backslashes in paths as octal numbers.
_ESCAPE = re.compile(r"\\(\d{3})")
# What version 1 gives for no limit is near the largest number.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class JobLimits:
    """``cpus``: processors that the job may use; ``memory``: bytes; None: no limit.

    ``group`` is the directory of the control group that limits the memory.
    """

    cpus: float | None = None
    memory: int | None = None
    group: Path | None = None

    def memory_used(self) -> int | None:
        """Return the bytes in use of what is limited; None if nothing is.

        Cached file contents that the kernel would give up first don't count: reading a data set
        would look like a full memory.
        """
        if self.group is None:
            return None
        used = _number(self.group / "memory.current", "memory.usage_in_bytes")
        cached = _statistics(self.group / "memory.stat")
        inactive = cached.get("total_inactive_file", cached.get("inactive_file", 0))
        return None if used is None else max(used - inactive, 0)


def job_limits(root: Path = Path("/")) -> JobLimits:
    """Return the limits of this process; ``root`` is where ``/proc`` and ``/sys`` lie.

    The control groups above limit it too, so the least limit counts.
    """
    cpus, memory, group = _allowed_cpus(), None, None
    for directory in _groups(root):
        limit = _number(directory / "memory.max", "memory.limit_in_bytes")
        if limit is not None and limit < min(memory or _NO_LIMIT, _NO_LIMIT):
            memory, group = limit, directory
        quota = _quota(directory)
        if quota is not None:
            cpus = quota if cpus is None else min(cpus, quota)
    return JobLimits(cpus, memory, group)


def _allowed_cpus() -> float | None:
    """Return how many processors this process is bound to; None if to none in particular."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = len(os.sched_getaffinity(0))
    return float(allowed) if allowed < (os.cpu_count() or 0) else None


def _groups(root: Path) -> Iterator[Path]:
    """Yield the directories of this process's groups, and those above them."""
    try:
        own = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    paths = {names: path for _, names, path in (line.split(":", 2) for line in own)}
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        mounted, point = (_unescaped(field) for field in before.split()[3:5])
        for names, path in paths.items():
            is_version_2 = kind == "cgroup2" and names == ""
            controllers = {"cpu", "memory"} & {*names.split(",")} & {*re.split("[ ,]", options)}
            if is_version_2 or (kind == "cgroup" and controllers):
                top = root / point.lstrip("/")
                # In a container what is mounted is the group itself.
                inside = path.removeprefix(mounted.rstrip("/")).strip("/")
                directory = top / inside
                yield from (directory, *(p for p in directory.parents if p.is_relative_to(top)))


def _quota(directory: Path) -> float | None:
    """Return the processors that the time allowed in each period makes; None if all is."""
    try:
        quota, period = (directory / "cpu.max").read_text().split()
    except (OSError, ValueError):
        time, length = (_number(directory / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    else:
        time, length = (int(text) if text.isdecimal() else None for text in (quota, period))
    return time / length if time and length and time > 0 else None


def _number(path: Path, other: str | None = None) -> int | None:
    """Return the number that a file holds, or one of another name beside it; None for ``max``."""
    for file in (path, path.with_name(other)) if other else (path,):
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        return int(text) if text.lstrip("-").isdecimal() else None
    return None


def _statistics(path: Path) -> dict[str, int]:
    try:
        fields = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in fields if len(pair) == 2 and pair[1].isdecimal()}


def _unescaped(path: str) -> str:
    return _ESCAPE.sub(lambda code: chr(int(code[1], 8)), path)
