"""What benchmarks share: a figure with its budget, and ways to measure."""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number and, if it has one, the budget that it must keep."""

    name: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def kept(self) -> bool:
        return self.budget is None or self.value <= self.budget

    def __str__(self) -> str:
        budget = "" if self.budget is None else f"  (budget {self.budget:g}"
        verdict = "" if self.budget is None else f", {'kept' if self.kept else 'EXCEEDED'})"
        return f"{self.name:<58} {self.value:>12,.2f} {self.unit}{budget}{verdict}"


def in_a_process(module: str, call: str) -> list[float]:
    """Return the numbers that a function of a module here prints in a process of its own.

    So imports, threads and memory of one don't count for another. It records nothing of what
    surrounds it, which has figures of its own.
    """
    path = os.pathsep.join(["scripts", os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env |= {"WANDBKERAS_ENVIRONMENT": "off", "WANDBKERAS_SYSTEM_METRICS": "off"}
    env |= {"WANDBKERAS_CONSOLE": "off"}
    code = f"import {module} as b; b.{call}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def interleaved(arms: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each call of each arm, taken in turns; the first round is lost."""
    spent: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds + 1):
        for name, call in arms.items():
            start = time.process_time()
            call()
            spent[name].append(time.process_time() - start)
    return {name: seconds[1:] for name, seconds in spent.items()}


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median ratio of what was measured in the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had, interpreter and libraries too."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's other figure, ru_maxrss, is that of the parent, where that has had more.
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes


def children_cpu() -> float:
    """Return the seconds of CPU that the processes started from here have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
