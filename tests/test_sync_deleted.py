"""A run that was deleted on the server: said within seconds, and what is to be done is chosen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb

from tests.server.process import LoopbackServer
from tests.syncing import command, connect, held, printed, receipts, sync, sync_one
from wandbkeras import Run
from wandbkeras.errors import DeletedError


@pytest.fixture
def deleted(
    start: Callable[..., Run],
    wandb_server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A run that was synced and then deleted there."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    run = start(project="digits", id="k3j9x2ab")
    for i in range(3):
        run.log({"loss": i})
    (tmp_path / "data").write_text("x")
    run.log_artifact(tmp_path / "data", name="data")
    run.finish()
    assert sync_one(run.dir).error is None
    wandb.Api().run("loopback/digits/k3j9x2ab").delete()
    return Path(run.dir or "")


def test_a_deleted_run_is_said_at_once(
    deleted: Path, wandb_server: LoopbackServer, start: Callable[..., Run]
) -> None:
    """One line that says what can be done; the others arrive; a receipt still needs no server."""
    assert sync_one(deleted).outcome == "unchanged"
    other = start(project="digits", id="other")
    other.finish()
    began = time.monotonic()
    gone, arrived = sync(deleted, other.dir or "", check=True, timeout_s=120.0)
    assert time.monotonic() - began < 60
    assert isinstance(gone.error, DeletedError)
    assert (gone.exit_code, arrived.outcome) == (9, "verified")
    assert "--on-deleted skip" in str(gone.error)
    assert "--on-deleted recreate" in str(gone.error)


def test_a_deleted_run_may_be_left_at_that(
    deleted: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """Skipped: said, no error, and nothing is sent."""
    done = command(
        "sync", deleted, "--check", "--on-deleted", "skip", "--json",
        env=wandb_server.environ(tmp_path / "home"),
    )  # fmt: skip
    (run,) = printed(done)["runs"]
    assert (done.returncode, run["outcome"]) == (0, "skipped")
    assert done.stderr.startswith("k3j9x2ab: skipped: ")
    assert wandb_server.run_ids("loopback", "digits") == ["k3j9x2ab"]
    assert held(wandb_server, "k3j9x2ab").deleted


def test_a_deleted_run_can_be_made_again(deleted: Path, wandb_server: LoopbackServer) -> None:
    """Under the next id, all of it; and of that one too when it was deleted as well."""
    for run_id in ("k3j9x2ab-2", "k3j9x2ab-3"):
        result = sync_one(deleted, check=True, on_deleted="recreate")
        assert (result.outcome, result.rows_sent) == ("verified", 3)
        assert [row["loss"] for row in held(wandb_server, run_id).rows] == [0, 1, 2]
        assert run_id in {receipt.run_id for receipt in receipts(deleted)}
        assert sync_one(deleted).outcome == "unchanged"
        shutil.rmtree(deleted / "sync")
        wandb.Api().run(f"loopback/digits/{run_id}").delete()
