"""What the tests of sync and of the command line share: the command, and a look at a tree."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.server.process import PROXIES, LoopbackServer
from wandbkeras.sync.engine import Options, Result
from wandbkeras.sync.engine import sync as sync_runs

COMMAND = Path(sys.executable).with_name("wandbkeras")
ENTITY, PROJECT = "loopback", "digits"


def connect(server: LoopbackServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process a client of the server whose home is empty."""
    home.mkdir(exist_ok=True)
    environment = server.environ(home)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # forgets the settings of the test before


def sync(*paths: Path, **options: Any) -> list[Result]:
    """Sync runs with the Python API; the time limit is a test's."""
    return list(sync_runs(paths, Options(**{"timeout_s": 30.0, **options})))


def sync_one(path: Path, **options: Any) -> Result:
    (result,) = sync(path, **options)
    return result


def command(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command ``wandbkeras`` to its end."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """The one JSON document that the command printed."""
    return json.loads(done.stdout)


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Mode and SHA-256 of every file below a directory."""
    return {
        path.relative_to(root).as_posix(): (
            path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }
