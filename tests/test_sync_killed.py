"""Sync itself killed by SIGKILL, and counts that lag: the next one goes on, nothing is doubled."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import ROOT, LoopbackServer
from tests.syncing import COMMAND, connect, held, receipts, sync_one, until
from wandbkeras import Artifact, Run

ROWS = 2_000


@pytest.fixture
def finished(start: Callable[..., Run], tmp_path: Path) -> Path:
    """A finished run with many rows and two versions of an artifact."""
    run = start(project="digits", id="k3j9x2ab")
    for i in range(ROWS):
        run.log({"loss": 1.0 / (i + 1)})
    for version in range(2):
        (tmp_path / "data.bin").write_bytes(bytes([version]) * 100_000)
        artifact = Artifact("data", "dataset")
        artifact.add_file(tmp_path / "data.bin")
        run.log_artifact(artifact)
    run.finish()
    return Path(run.dir or "")


def sync_and_kill(
    server: LoopbackServer, run: Path, home: Path, moment: str, times: int = 1
) -> None:
    """Start a sync and kill it as soon as the server has handled so many such requests."""
    before = len(server.requests())
    syncing = subprocess.Popen(
        [COMMAND, "sync", run],
        env=server.environ(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def reached() -> bool:
        later = server.requests()[before:]
        return sum(moment in (request.operation, request.kind) for request in later) >= times

    until(reached)
    syncing.kill()
    assert syncing.wait() == -9


def assert_all_is_there_once(server: LoopbackServer) -> None:
    found = held(server, "k3j9x2ab")
    assert [row["loss"] for row in found.rows] == [1.0 / (i + 1) for i in range(ROWS)]
    assert [(a.version, a.state) for a in found.logged_artifacts] == [
        (0, "COMMITTED"), (1, "COMMITTED"),
    ]  # fmt: skip
    assert found.logged_artifacts[1].aliases == ("latest",)
    assert found.state == "finished"


@pytest.mark.parametrize("moment", ["UpsertBucket", "file_stream", "upload", "CommitArtifact"])
def test_a_killed_sync_is_completed_by_the_next(
    moment: str,
    finished: Path,
    wandb_server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed when the run is made, in the rows, at an artifact: the rest arrives, once."""
    sync_and_kill(wandb_server, finished, tmp_path, moment)
    assert receipts(finished) == []
    connect(wandb_server, tmp_path / "home", monkeypatch)
    assert sync_one(finished, settle_s=1.0).error is None
    assert_all_is_there_once(wandb_server)


def test_a_sync_may_be_killed_again_and_again(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try takes up where the server is, however little the one before it did."""
    for moment in ("file_stream", "CommitArtifact"):
        sync_and_kill(wandb_server, finished, tmp_path, moment)
    connect(wandb_server, tmp_path / "home", monkeypatch)
    assert sync_one(finished, settle_s=1.0).error is None
    assert_all_is_there_once(wandb_server)


def test_a_killed_sync_leaves_no_client_behind(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """The client that it started ends too: nothing goes on sending."""
    wandb_server.add_fault("delay", kind="file_stream", seconds=2.0)
    # The run is made by one request before the client makes it again.
    sync_and_kill(wandb_server, finished, tmp_path, "UpsertBucket", times=2)
    # One request may be under way; another would follow within a second.
    until(lambda: "file_stream" in [request.kind for request in wandb_server.requests()])
    count = len(wandb_server.requests())
    with pytest.raises(TimeoutError):
        until(lambda: len(wandb_server.requests()) > count, seconds=3)


def test_counts_that_lag_double_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is 2 s behind shows a killed sync's rows late; the next one waits for them."""
    with LoopbackServer(tmp_path / "server", lag_s=2.0).start() as server:
        sync_and_kill(server, finished, tmp_path, "CreateArtifact")
        assert len(held(server, "k3j9x2ab").rows) > 0
        connect(server, tmp_path / "home", monkeypatch)
        assert sync_one(finished, settle_s=2.5).error is None
        assert_all_is_there_once(server)
        shutil.rmtree(finished / "sync")
        assert sync_one(finished, settle_s=2.5).rows_sent == 0
        assert server.violations() == []


def test_syncs_are_killed_at_random_moments() -> None:
    """The short version of ``scripts/crash_sync --kills 100``: client and all, or sync alone."""
    command = [sys.executable, "scripts/crash_sync.py", "--kills", "5", "--jobs", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    assert (done.returncode, figures["faults"]) == (0, []), done.stderr
    assert figures["kills"] >= 5
