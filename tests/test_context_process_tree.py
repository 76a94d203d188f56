"""The processes of a run are found at a cost that does not grow with those of the machine."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from wandbkeras.context.process_tree import processes_below

# A child that starts one of its own from a thread, says who that is, and waits to be ended.
_FAMILY = """
import subprocess, sys, threading
def start():
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    sys.stdin.read()
    child.kill()
    child.wait()
thread = threading.Thread(target=start)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("knows_children", [True, False], ids=["by the kernel", "without it"])
def test_all_below_are_found_whichever_thread_started_them(
    knows_children: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children and grandchildren, where the kernel lists them and where it doesn't."""
    if not knows_children:
        monkeypatch.setattr(Path, "exists", lambda path: False)
    command = [sys.executable, "-c", _FAMILY]
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    (child,) = started
    assert child.stdin is not None and child.stdout is not None
    with child:
        grandchild = int(child.stdout.readline())
        found = {process.pid for process in processes_below(psutil.Process())}
        assert found >= {child.pid, grandchild}
        child.stdin.close()
    assert not {child.pid, grandchild} & {p.pid for p in processes_below(psutil.Process())}


def test_not_every_process_of_the_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil, which would ask them all, isn't asked for the children."""
    monkeypatch.delattr(psutil.Process, "children")
    assert isinstance(processes_below(psutil.Process()), list)
