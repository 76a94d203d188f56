"""Many runs in one sync: uploads are shared, go side by side, and keep what order matters."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import COMMAND, connect, held, sync, until
from wandbkeras import Run
from wandbkeras.sync import batch
from wandbkeras.sync.batch import Task, batches
from wandbkeras.sync.upload import Client, Upload


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each upload took, by the client which is still the real one."""
    counts = []
    upload = Client.upload

    def counted(client: Client, folders: list[Path], **arguments: Any) -> Upload:
        counts.append(len(folders))
        return upload(client, folders, **arguments)

    monkeypatch.setattr(Client, "upload", counted)
    return counts


@pytest.fixture(autouse=True)
def _connected(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(wandb_server, tmp_path / "home", monkeypatch)


def record(start: Callable[..., Run], run_id: str, rows: int = 3) -> Path:
    run = start(project="digits", id=run_id)
    for i in range(rows):
        run.log({"loss": i})
    run.finish()
    return Path(run.dir or "")


def losses(server: LoopbackServer, run_id: str) -> list[int]:
    return [row["loss"] for row in held(server, run_id).rows]


def test_small_runs_share_a_start_of_the_client(
    start: Callable[..., Run], wandb_server: LoopbackServer, uploads: list[int]
) -> None:
    """Five runs, one upload, and a result for each in the order of the paths."""
    ids = [f"run{i}" for i in range(5)]
    results = sync(*(record(start, run_id, rows=i) for i, run_id in enumerate(ids)))
    assert [(r.run_id, r.outcome, r.rows_sent) for r in results] == [
        (run_id, "verified", i) for i, run_id in enumerate(ids)
    ]
    assert uploads == [5]


def test_batches_go_side_by_side(
    start: Callable[..., Run],
    wandb_server: LoopbackServer,
    uploads: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several uploads at a time change nothing of what arrives, nor the order of the results."""
    monkeypatch.setattr(batch, "MAX_RUNS", 1)
    ids = [f"run{i}" for i in range(4)]
    results = sync(*(record(start, run_id) for run_id in ids), workers=3)
    assert [result.run_id for result in results] == ids
    assert uploads == [1, 1, 1, 1]
    assert [losses(wandb_server, run_id) for run_id in ids] == [[0, 1, 2]] * 4


def test_one_bad_run_in_a_batch_holds_up_no_other(
    start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path, uploads: list[int]
) -> None:
    """One is damaged, one may not be made, the other two arrive by one upload."""
    damaged, good, other = (record(start, name) for name in ("damaged", "good", "other"))
    (damaged / "run.json").write_text("{}")
    refused = start(project="digits", id="refused", entity="nobody")
    refused.finish()
    results = sync(damaged, good, refused.dir or "", other)
    assert [result.outcome for result in results] == ["failed", "verified", "failed", "verified"]
    assert [result.exit_code for result in results] == [4, 0, 9, 0]
    assert uploads == [2]


def test_a_run_that_is_not_found_in_a_batch_goes_alone_the_next_time(
    start: Callable[..., Run], wandb_server: LoopbackServer, uploads: list[int]
) -> None:
    """Its metrics are refused; the others arrive with it, and without it the next time."""
    paths = [record(start, run_id) for run_id in ("bad", "good", "other")]
    refused = {"kind": "file_stream", "path": "*/bad/*", "status": 403}
    wandb_server.add_fault("status", **refused)
    results = sync(*paths, settle_s=0.5)
    assert [result.outcome for result in results] == ["failed", "verified", "verified"]
    assert "rows: expected 3, found 0" in str(results[0].error)
    later = record(start, "later")
    results = sync(*paths, later, settle_s=0.5)
    assert [r.outcome for r in results] == ["failed", "unchanged", "unchanged", "verified"]
    wandb_server.clear_faults()
    assert sync(*paths)[0].rows_sent == 3
    assert uploads[:1] + sorted(uploads[1:3]) + uploads[3:] == [3, 1, 1, 1]


def test_copies_of_one_run_stay_in_order(
    start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """An early copy and the grown run, synced together: each row once, in order."""
    run = start(project="digits", id="k3j9x2ab")
    run.log({"loss": 0})
    early = tmp_path / "early"
    shutil.copytree(run.dir or "", early)
    run.log({"loss": 1})
    run.finish()
    assert [result.rows_sent for result in sync(early, run.dir or "")] == [1, 1]
    assert losses(wandb_server, "k3j9x2ab") == [0, 1]


def test_what_a_batch_holds() -> None:
    """As many runs, rows and bytes as a start of the client is worth; a large run goes alone."""

    def task(number: int, rows: int = 1, size: int = 1) -> Task:
        return Task(number, Path(), frozenset({str(number)}), rows, size)

    tasks = [task(0), task(1, rows=10**6), task(2), task(3, size=10**9), *map(task, range(4, 34))]
    (found,) = batches(tasks)
    assert [[task.number for task in batch] for batch in found] == [
        [0], [1], [2], [3], [*range(4, 29)], [*range(29, 34)],
    ]  # fmt: skip


def test_an_interrupted_sync_ends_at_once(
    start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """Ctrl-C ends the clients too, and the next sync completes what is missing."""
    path = record(start, "k3j9x2ab")
    wandb_server.add_fault("delay", kind="file_stream", seconds=60.0)
    process = subprocess.Popen(
        [COMMAND, "sync", path],
        env=wandb_server.environ(tmp_path / "home"),
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: "UpsertBucket" in [request.operation for request in wandb_server.requests()])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, len(said.strip().splitlines())) == (130, 1), said
    assert "it goes on where it was" in said
    wandb_server.clear_faults()
    assert sync(path)[0].error is None
    assert losses(wandb_server, "k3j9x2ab") == [0, 1, 2]
