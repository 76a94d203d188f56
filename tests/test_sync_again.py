"""Syncing again: nothing that is there is sent, what is new is sent once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import connect, held, sync, sync_one, tree
from wandbkeras import Artifact, Run
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.receipt import sync_state

SENDING = {"UpsertBucket", "CreateArtifact", "CreateRunFiles", "CommitArtifact"}


@pytest.fixture(autouse=True)
def _connected(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(wandb_server, tmp_path / "home", monkeypatch)


@pytest.fixture
def finished(start: Callable[..., Run], tmp_path: Path) -> Path:
    """A finished run with three rows and a version of an artifact, not synced yet."""
    run = start(project="digits", id="k3j9x2ab", config={"lr": 0.1})
    for i in range(3):
        run.log({"loss": 1.0 / (i + 1)})
    log_version(run, tmp_path, "one")
    run.finish()
    assert run.dir is not None
    return Path(run.dir)


def log_version(run: Run, folder: Path, text: str) -> None:
    (folder / "data.txt").write_text(text)
    artifact = Artifact("data", "dataset")
    artifact.add_file(folder / "data.txt")
    run.log_artifact(artifact)


def sent(server: LoopbackServer, since: int) -> list[str]:
    """What of the requests since then changes something."""
    return [
        request.operation or request.kind
        for request in server.requests()[since:]
        if request.operation in SENDING or request.kind in ("file_stream", "upload")
    ]


def test_a_second_sync_asks_nothing(finished: Path, wandb_server: LoopbackServer) -> None:
    """A receipt of this very state is enough: not one request is made."""
    first = sync_one(finished)
    before = wandb_server.requests()
    again = sync_one(finished)
    assert wandb_server.requests() == before
    assert (again.outcome, again.receipt) == ("unchanged", first.receipt)


@pytest.mark.parametrize("loss", ["deleted", "damaged", "of another machine"])
def test_without_a_receipt_the_server_is_asked(
    loss: str, finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """All is found there, nothing is sent, and the receipt is written again."""
    assert sync_one(finished).outcome == "verified"
    path = finished
    (receipt,) = (finished / "sync").iterdir()
    if loss == "deleted":
        receipt.unlink()
    elif loss == "damaged":
        receipt.write_bytes(receipt.read_bytes()[:-5])
    else:
        path = tmp_path / "another machine" / finished.name
        shutil.copytree(finished, path, ignore=shutil.ignore_patterns("sync"))
    before = len(wandb_server.requests())
    again = sync_one(path)
    assert (again.outcome, again.rows_sent, again.artifacts_sent) == ("verified", 0, 0)
    assert sent(wandb_server, before) == []
    assert len(wandb_server.requests()) > before
    assert sync_state(StoredRun(path)) == "yes"


def test_a_running_run_is_synced_as_it_grows(
    start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """Each sync sends only what is new; the run is running there, then finished."""
    run = start(project="digits", config={"lr": 0.1, "gone": 1})
    sent_rows, states = [], []
    for part in range(2):
        for _ in range(3):
            run.log({"loss": run.step, "part": part})
        log_version(run, tmp_path, f"version {part}")
        run.config.update({"part": part}, allow_val_change=True)
        run.summary["best"] = part
        sent_rows.append(sync_one(run.dir).rows_sent)
        states.append(held(wandb_server, run.id).state)
    run.finish()
    last = sync_one(run.dir)
    found = held(wandb_server, run.id)
    assert (sent_rows, last.rows_sent, last.artifacts_sent) == ([3, 3], 0, 0)
    assert (states, found.state, found.exit_code) == (["running"] * 2, "finished", 0)
    assert [(row["_step"], row["loss"], row["part"]) for row in found.rows] == [
        (i, i, i // 3) for i in range(6)
    ]
    assert [a.files for a in found.logged_artifacts] == [
        {"data.txt": b"version 0"}, {"data.txt": b"version 1"},
    ]  # fmt: skip
    assert found.config_values == {"lr": 0.1, "gone": 1, "part": 1}
    assert (found.summary["best"], found.summary["loss"]) == (1, 5)


def test_what_was_removed_is_removed_there(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """A key deleted from config or summary since the last sync does not stay on the server."""
    run = start(project="digits", config={"lr": 0.1, "gone": 1})
    run.summary.update({"kept": 1, "gone": 1})
    assert sync_one(run.dir).error is None
    del run.config["gone"]
    del run.summary["gone"]
    run.finish()
    assert sync_one(run.dir).error is None
    found = held(wandb_server, run.id)
    assert found.config_values == {"lr": 0.1}
    assert found.summary.keys() == {"kept", "_wandb", "_runtime"}


def test_an_open_row_is_sent_when_it_is_complete(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """A row that may still grow is held back; it arrives once, whole."""
    run = start(project="digits")
    run.log({"a": 0})
    run.log({"a": 1}, step=5)
    assert sync_one(run.dir).rows_sent == 1
    run.log({"b": 2}, step=5)
    assert sync_one(run.dir).rows_sent == 0
    run.log({"a": 3}, step=9)
    assert sync_one(run.dir).rows_sent == 1
    run.finish()
    assert sync_one(run.dir).rows_sent == 1
    values = [(row["_step"], row.get("a"), row.get("b")) for row in held(wandb_server, run.id).rows]
    assert values == [(0, 0, None), (5, 1, 2), (9, 3, None)]


def test_a_resumed_run_goes_on_there(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """The rows of the later attempt come after those that arrived, and it ends as that one."""
    run = start(project="digits", id="k3j9x2ab", config={"lr": 0.1})
    run.log({"x": 0})
    run.finish(1)
    assert sync_one(run.dir).error is None
    assert held(wandb_server, run.id).state == "failed"
    for value in (1, 2):
        again = start(id="k3j9x2ab", resume="allow")
        again.log({"x": value})
        again.finish()
    result = sync_one(run.dir)
    found = held(wandb_server, run.id)
    assert (result.rows_sent, found.state) == (2, "finished")
    assert [(row["_step"], row["x"], row["_runtime"]) for row in found.rows] == [
        (row.step, row.values["x"], row.runtime) for row in StoredRun(run.dir or "").rows()
    ]
    assert [row["x"] for row in found.rows] == [0, 1, 2]
    assert found.config_values == {"lr": 0.1}


def test_steps_that_two_attempts_logged_arrive_from_the_later(
    start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """A job that was put into the queue again, from its checkpoint: each step once, in order.

    Also when an early copy of it is synced after it.
    """
    run = start(project="digits", id="k3j9x2ab")
    for step in range(5):
        run.log({"step": step, "attempt": 0})
    run.finish(1)
    again = start(id="k3j9x2ab", resume="allow")
    again.roll_back(3)
    again.log({"step": 3, "attempt": 1})
    early = Path(shutil.copytree(run.dir or "", tmp_path / "early" / Path(run.dir or "").name))
    for step in (4, 5):
        again.log({"step": step, "attempt": 1})
    again.finish()
    for path in (run.dir, early, run.dir):
        sync_one(path, check=True)
    found = held(wandb_server, "k3j9x2ab")
    assert [(row["_step"], row["step"], row["attempt"]) for row in found.rows] == [
        *((step, step, 0) for step in range(3)), *((step, step, 1) for step in range(3, 6)),
    ]  # fmt: skip
    assert found.state == "finished"


def test_two_runs_may_log_to_one_artifact(
    start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """`latest` moves on to the later run's version, and the earlier run stays verified."""
    directories = []
    for text in ("one", "two"):
        run = start(project="digits")
        log_version(run, tmp_path, text)
        run.finish()
        directories.append(Path(run.dir or ""))
    assert [result.error for result in sync(*directories)] == [None, None]
    shutil.rmtree(directories[0] / "sync")
    before = len(wandb_server.requests())
    assert sync_one(directories[0]).outcome == "verified"
    assert sent(wandb_server, before) == []


def test_two_destinations_have_a_receipt_each(finished: Path, wandb_server: LoopbackServer) -> None:
    """The same run can be sent to another project, and each is synced on its own."""
    assert sync_one(finished).rows_sent == 3
    assert sync_one(finished, project="other").rows_sent == 3
    assert sync_one(finished, entity="loopback").outcome == "verified"
    assert sync_one(finished).outcome == "unchanged"
    assert len([*(finished / "sync").iterdir()]) == 3
    assert len(held(wandb_server, "k3j9x2ab", project="other").rows) == 3


def test_syncing_again_leaves_the_run_as_it_is(finished: Path) -> None:
    """An unchanged run is not written to at all."""
    sync_one(finished)
    before = tree(finished)
    sync_one(finished)
    assert tree(finished) == before
