"""Whether a writer still lives is read from the process itself, or from its heartbeat."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from wandbkeras.store.process import STALE_SECONDS, describe_process, is_alive


def _of(pid: int) -> dict[str, Any]:
    return {**describe_process(), "pid": pid}


def test_this_process_lives_however_quiet_it_is() -> None:
    """On the same boot of the same host the process table tells, not the clock."""
    assert is_alive(describe_process(), last_seen=0.0, now=1e9)


def test_an_ended_process_does_not_live_however_fresh_its_heartbeat() -> None:
    """A process that is gone, or a zombie that nobody waited for, is dead at once."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import wandbkeras.store.process as p; print(p.describe_process())"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    described = eval(child.stdout.read())  # the child's own words
    assert described["pid"] == child.pid
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(described, last_seen=100.0, now=100.0)
    child.wait()
    assert not is_alive(described, last_seen=100.0, now=100.0)


def test_a_pid_that_is_used_again_is_another_process() -> None:
    """The start time tells a process from a later one of the same pid."""
    described = {**describe_process(), "started": 1}
    assert not is_alive(described, last_seen=100.0, now=100.0)


def test_elsewhere_the_heartbeat_tells() -> None:
    """A run of another host or another boot lives while its last sign of life is fresh."""
    for change in ({"host": "elsewhere"}, {"boot": "another"}, {"started": None}):
        described = {**describe_process(), **change}
        assert is_alive(described, last_seen=100.0, now=100.0 + STALE_SECONDS - 1)
        assert not is_alive(described, last_seen=100.0, now=100.0 + STALE_SECONDS)
    assert not is_alive({}, last_seen=0.0, now=1e9)
