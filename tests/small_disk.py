"""A real file system of a few megabytes, for processes that must see it get full."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import wandbkeras
from wandbkeras.store.reader import StoredRun

# In a mount namespace of its own, so nothing stays mounted however the process ends. What lies on
# the small disk in the end is copied to where the test can read it.
_MOUNTED = """
mount -t tmpfs -o "size=$1" tmpfs "$2" || exit 97
"$4" -c "$5" "$2" "$3"
code=$?
cp -a "$2/." "$3" || exit 98
exit $code
"""
_PRELUDE = """
import json, os, subprocess, sys
from pathlib import Path
import wandbkeras
from wandbkeras.errors import DiskFullError, UsageError

disk, kept = Path(sys.argv[1]), Path(sys.argv[2])
ballast = disk / "ballast"
said = {}

def free():
    system = os.statvfs(disk)
    return system.f_bavail * system.f_frsize

def fill(leave=0):
    # Truncated first: filling again is a change of what is left.
    with ballast.open("wb") as file:
        file.write(bytes(free() - leave))
    assert free() == leave

def empty():
    ballast.unlink(missing_ok=True)

def log(run, count, **more):
    for _ in range(count):
        run.log({"loss": 1 / (run.step + 1), **more})

def say(**values):
    said.update(values)
    Path(kept / "said.json").write_text(json.dumps(said))
"""


@dataclass(frozen=True)
class Outcome:
    """How a process on a small disk ended, what it ``said``, and a copy of what it left there."""

    code: int
    stderr: str
    said: dict[str, Any]
    left: Path

    @property
    def warnings(self) -> list[str]:
        """The lines that the package wrote to standard error; nothing else complains there."""
        for trouble in ("Traceback", "Exception ignored", "HDF5"):
            assert trouble not in self.stderr, self.stderr
        return [line for line in self.stderr.splitlines() if line.startswith("wandbkeras:")]

    def run(self, run_id: str) -> StoredRun:
        return wandbkeras.Store(self.left).run(run_id)

    def run_at(self, store: str, run_id: str) -> StoredRun:
        return wandbkeras.Store(self.left / store).run(run_id)


def on_small_disk(folder: Path, script: str, size: str = "2m", timeout_s: float = 900) -> Outcome:
    """Run a Python script, which has ``disk``, a directory on a file system of ``size`` bytes."""
    mount, kept = folder / "mount", folder / "kept"
    mount.mkdir(parents=True)
    kept.mkdir()
    done = subprocess.run(
        [*_namespace(), "sh", "-c", _MOUNTED, "sh", size, mount, kept, sys.executable,
         _PRELUDE + script],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode not in (97, 98), done.stderr
    said = kept / "said.json"
    return Outcome(
        code=done.returncode,
        stderr=done.stderr,
        said=json.loads(said.read_text()) if said.exists() else {},
        left=kept,
    )


@functools.cache
def _namespace() -> tuple[str, ...]:
    """Return the command that runs another one where it may mount: as root, or as if it were."""
    probe = ("sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt")
    for command in (("unshare", "-m"), ("unshare", "-rm")):
        if not subprocess.run([*command, *probe], capture_output=True).returncode:
            return command
    pytest.fail("neither root nor a user namespace may mount a tmpfs here: this can't be skipped")
