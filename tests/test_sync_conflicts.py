"""The server holds something else under the run id: it is said, and nothing is sent."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import command, connect, held, receipts, sync, sync_one
from wandbkeras import Run
from wandbkeras.errors import ConflictError

# A run of wandb's own under the same id, going on after what the server holds.
ONLINE = """
import sys, wandb

settings = wandb.Settings(x_disable_stats=True)
run = wandb.init(project="digits", id="k3j9x2ab", resume="allow", settings=settings)
for value in sys.argv[1:]:
    run.log({"loss": float(value)})
run.finish()
"""


@pytest.fixture(autouse=True)
def _connected(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(wandb_server, tmp_path / "home", monkeypatch)


def record(start: Callable[..., Run], *values: float, **arguments: str) -> Path:
    run = start(project="digits", **{"id": "k3j9x2ab", **arguments})
    for value in values:
        run.log({"loss": value})
    run.finish()
    return Path(run.dir or "")


def log_online(*values: float) -> None:
    subprocess.run([sys.executable, "-c", ONLINE, *map(str, values)], check=True)


def assert_conflict(path: Path, server: LoopbackServer, *texts: str) -> None:
    """The sync is refused in so many words, and the server holds what it held."""
    before = held(server, "k3j9x2ab")
    result = sync_one(path)
    assert isinstance(result.error, ConflictError)
    assert result.exit_code == 10
    assert all(text in str(result.error) for text in texts), result.error
    assert held(server, "k3j9x2ab") == before
    assert receipts(path) == []


def test_rows_of_another_run_are_a_conflict(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """As many rows, but not these."""
    log_online(1.0, 0.5)
    path = record(start, 1.0, 0.25)
    assert_conflict(path, wandb_server, "the server holds something else", "row 0 (_step 0)")


def test_more_rows_than_the_run_has_are_a_conflict(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """Someone went on with the run on the server."""
    path = record(start, 1.0, 0.5)
    assert sync_one(path).error is None
    log_online(0.1)
    shutil.rmtree(path / "sync")
    assert_conflict(path, wandb_server, "the server holds 3 rows, the run has 2")


def test_a_run_without_rows_is_gone_on_with(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """A run that was only started there holds nothing that ours contradicts."""
    log_online()
    path = record(start, 1.0, 0.5)
    assert sync_one(path).error is None
    assert [row["loss"] for row in held(wandb_server, "k3j9x2ab").rows] == [1.0, 0.5]


def test_a_conflict_holds_up_no_other_run(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """The other runs of the command arrive."""
    log_online(3.0)
    path, other = record(start, 1.0), record(start, 1.0, id="other")
    assert [result.outcome for result in sync(path, other)] == ["failed", "verified"]


def test_the_command_says_the_conflict(
    start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """One line, with the destination, and exit code 10."""
    log_online(3.0)
    done = command("sync", record(start, 1.0), env=wandb_server.environ(tmp_path))
    assert (done.returncode, done.stdout) == (10, "")
    (line,) = done.stderr.splitlines()
    assert f"{wandb_server.url}/(default entity)/digits/k3j9x2ab" in line
    assert "loss: expected 1.0, found 3" in line


def test_a_new_id_resolves_a_conflict(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """The run goes under the next id, and stays there without being told again."""
    log_online(1.0, 0.5)
    before = held(wandb_server, "k3j9x2ab")
    path = record(start, 1.0, 0.25)
    assert sync_one(path, on_conflict="new-id").outcome == "verified"
    assert held(wandb_server, "k3j9x2ab") == before
    assert [row["loss"] for row in held(wandb_server, "k3j9x2ab-2").rows] == [1.0, 0.25]
    assert [receipt.run_id for receipt in receipts(path)] == ["k3j9x2ab-2"]
    assert sync_one(path).outcome == "unchanged"
    again = start(id="k3j9x2ab", resume="allow")
    again.log({"loss": 0.1})
    again.finish()
    assert sync_one(path).rows_sent == 1
    assert wandb_server.run_ids("loopback", "digits") == ["k3j9x2ab", "k3j9x2ab-2"]


def test_a_new_id_that_holds_the_run_is_gone_on_with(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """Without the note of the first sync, as on another machine, the same id is found again."""
    log_online(3.0)
    path = record(start, 1.0)
    assert sync_one(path, on_conflict="new-id").error is None
    shutil.rmtree(path / "sync")
    assert sync_one(path, on_conflict="new-id").rows_sent == 0
    assert wandb_server.run_ids("loopback", "digits") == ["k3j9x2ab", "k3j9x2ab-2"]
