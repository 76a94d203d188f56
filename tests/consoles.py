"""Programs that print while they record: how they are run, what was seen, and what is recorded."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.conftest import QUIET
from tests.server.process import ROOT
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun

BEGIN = """
import ctypes, os, signal, subprocess, sys, time
import wandbkeras
run = wandbkeras.init(dir="store")
"""


@dataclass
class Program:
    """A Python program at work in ``directory``, where it begins a run in ``store``."""

    process: subprocess.Popen[bytes]
    directory: Path

    def end(self) -> tuple[int, bytes, bytes]:
        """Wait for it; return its exit code and what it printed on both streams."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    @property
    def run(self) -> StoredRun:
        (run,) = Store(self.directory / "store").runs()
        return run


def environ(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    own = {name: value for name, value in QUIET.items() if name != "WANDBKERAS_CONSOLE"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return {**kept, **own, "PYTHONPATH": path, **more}


def play(
    directory: Path, code: str, *, before: Sequence[str] = (), flags: Sequence[str] = (), **env: str
) -> Program:
    """Start a program whose streams lead into pipes."""
    directory.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*before, sys.executable, *flags, "-c", BEGIN + dedent(code)],
        cwd=directory,
        env=environ(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return Program(process, directory)


def begin_on_a_terminal(directory: Path, code: str, **env: str) -> tuple[int, int]:
    """Start a program on a terminal of its own; return its id and the terminal's other end."""
    directory.mkdir(exist_ok=True)
    pid, controller = pty.fork()
    if not pid:
        os.chdir(directory)
        arguments = [sys.executable, "-c", BEGIN + dedent(code)]
        os.execve(sys.executable, arguments, environ(**env))
    return pid, controller


def seen_on(controller: int) -> bytes:
    """Return what a terminal shows until nobody writes to it any more."""
    seen = b""
    try:
        while chunk := os.read(controller, 1 << 16):
            seen += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(controller)
    return seen


def lines(run: StoredRun, stream: str | None = None) -> list[str]:
    """Return the lines that are recorded, of one stream or of both."""
    rows = run.console().to_pylist()
    return [row["text"] for row in rows if stream in (None, row["stream"])]
