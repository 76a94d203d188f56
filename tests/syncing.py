"""What the tests of sync and of the command line share: ways to sync, looks at what is there."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.server.process import PROXIES, LoopbackServer
from tests.server.snapshot import ArtifactSnapshot, RunSnapshot
from wandbkeras.sync.engine import sync as sync_runs
from wandbkeras.sync.options import Options, Result
from wandbkeras.sync.receipt import Receipt, read_receipts

COMMAND = Path(sys.executable).with_name("wandbkeras")
ENTITY, PROJECT = "loopback", "digits"


def connect(server: LoopbackServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process a client of the server, with an empty home."""
    home.mkdir(exist_ok=True)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in server.environ(home).items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # forgets the server of the test before


def sync(*paths: Path | str, **options: Any) -> list[Result]:
    """Sync runs by the Python API; the loopback server's counts don't lag unless it is told so."""
    chosen = Options(**{"timeout_s": 30.0, "settle_s": 0.0, **options})
    return list(sync_runs([Path(path) for path in paths], chosen))


def sync_one(path: Path | str | None, **options: Any) -> Result:
    assert path is not None
    (result,) = sync(path, **options)
    return result


def command(
    *arguments: str | Path | None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command ``wandbkeras`` to its end."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def on_a_terminal(
    *arguments: str | Path, env: Mapping[str, str], program: str | Path = COMMAND
) -> tuple[int, str]:
    """Run the command with a terminal for everything; return exit code and what was seen."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [program, *map(str, arguments)], env=env, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    seen = b""
    try:
        while chunk := os.read(controller, 4096):
            seen += chunk
    except OSError:  # how Linux says that the terminal was closed
        pass
    os.close(controller)
    return process.wait(), seen.decode()


def plain(seen: str) -> str:
    """Return what was seen without colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)


def printed(done: subprocess.CompletedProcess[str]) -> Any:
    """The one JSON document that the command printed."""
    return json.loads(done.stdout)


def held(server: LoopbackServer, run_id: str, project: str = PROJECT) -> RunSnapshot:
    return server.run(ENTITY, project, run_id)


# What W&B's client writes beside what the run holds; other tools' runs name artifacts otherwise.
_OF_THE_CLIENT = {"config.yaml", "wandb-summary.json", "wandb-metadata.json"}
_CLIENT_ID = re.compile(r"(wandb-client-artifact://)[0-9a-z]+")


def wandb_sync(*directories: Path | str) -> str:
    """Sync by plain `wandb sync`; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *map(str, directories)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


def content(run: RunSnapshot) -> dict[str, Any]:
    """All of a run but its project, and the client's own files and telemetry, to be compared."""
    summary = json.loads(_CLIENT_ID.sub(r"\1…", run.summary_text))
    own = {
        "project", "config", "summary_text", "logged_artifacts", "used_artifacts", "output",
        "events",
    }  # fmt: skip
    return {
        **{name: value for name, value in vars(run).items() if name not in own},
        "config": run.config_values,
        "summary": {key: value for key, value in summary.items() if key != "_wandb"},
        "duration": run.summary["_wandb"],
        "history": [json.loads(_CLIENT_ID.sub(r"\1…", line)) for line in run.history],
        "events": [*map(json.loads, run.events)],
        "console": run.console,  # its times are those of the sync
        "files": {name: data for name, data in run.files.items() if name not in _OF_THE_CLIENT},
        "logged": _by_name(run.logged_artifacts),
        "used": _by_name(run.used_artifacts),
    }


def _by_name(artifacts: Iterable[ArtifactSnapshot]) -> list[dict[str, Any]]:
    """Return what there is of artifacts, which the client sends side by side."""
    found = sorted(artifacts, key=lambda artifact: (artifact.name, artifact.version))
    return [{**vars(artifact), "manifest": None} for artifact in found]


def receipts(run: Path) -> list[Receipt]:
    """What is proven of a run; a failed sync leaves only its reason there."""
    return read_receipts(run / "sync")


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Mode and SHA-256 of everything below a directory."""
    return {
        path.relative_to(root).as_posix(): (
            path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; TimeoutError if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.01)
