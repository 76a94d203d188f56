"""The receipt of a real sync: what it holds, at each level of verification."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import connect, held, receipts, sync_one
from wandbkeras import Run
from wandbkeras.errors import ConflictError
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync import history
from wandbkeras.sync.digests import HistoryDigest, digest_of
from wandbkeras.sync.receipt import Receipt


@pytest.fixture
def finished(
    start: Callable[..., Run],
    wandb_server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A finished run of 3,000 rows, a version of an artifact and a file."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    run = start(project="digits", id="k3j9x2ab", config={"lr": 0.1})
    for i in range(3_000):
        run.log({"loss": 1.0 / (i + 1)})
    (tmp_path / "data").write_text("x")
    run.log_artifact(tmp_path / "data", name="data")
    run.save(tmp_path / "data", base_path=tmp_path)
    run.finish()
    return Path(run.dir or "")


def proof(path: Path, **options: object) -> Receipt:
    assert sync_one(path, **options).error is None
    (receipt,) = receipts(path)
    return receipt


def test_a_receipt_says_what_was_proven(finished: Path, wandb_server: LoopbackServer) -> None:
    """Counts, digests, the server's own ids, and that nothing was left out."""
    receipt = proof(finished)
    run, there = StoredRun(finished), held(wandb_server, "k3j9x2ab")
    assert receipt.is_whole
    assert (receipt.rows, receipt.rows_compared, receipt.level) == (3_000, 3_000, "sample")
    digest = HistoryDigest()
    for row in run.rows():
        digest.add(row)
    assert receipt.history_digest == str(digest)
    last, runtime = [*run.rows()][-1], int(run.folded.runtime)
    summary = {"loss": 1 / 3_000, "_timestamp": last.timestamp, "_runtime": runtime}
    assert receipt.summary_digest == digest_of(summary)
    assert receipt.config_digest == digest_of({"lr": 0.1})
    assert receipt.file_md5s == {"data": "9dd4e461268c8034f5c8564e155c67a6"}
    assert receipt.run_storage_id
    assert [a["id"] != "" for a in receipt.artifacts] == [True]
    assert [a["digest"] for a in receipt.artifacts] == [a.digest for a in there.logged_artifacts]


def test_counts_alone_read_no_rows(finished: Path, wandb_server: LoopbackServer) -> None:
    """Their number is proven and nothing else of them; the receipt says so."""
    receipt = proof(finished, level="counts")
    assert (receipt.rows, receipt.rows_compared, receipt.level) == (3_000, 0, "counts")
    operations = {request.operation for request in wandb_server.requests()}
    assert not {name for name in operations if name and "HistoryPage" in name}
    again = proof(finished, level="full", check=True)
    assert (again.rows_compared, again.level) == (3_000, "full")
    assert {r.operation for r in wandb_server.requests()} - operations


def test_a_sample_of_a_long_history_is_compared(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit as many rows are read as the sample has."""
    monkeypatch.setattr(history, "FULL_ROWS", 2_000)
    monkeypatch.setattr(history, "SAMPLE_PAGES", 2)
    receipt = proof(finished)
    assert (receipt.rows, receipt.rows_compared) == (3_000, 2_000)


def test_rows_are_compared_before_others_follow_them(
    start: Callable[..., Run], finished: Path, tmp_path: Path
) -> None:
    """With --verify counts too: nothing is appended to another run's rows."""
    assert sync_one(finished).error is None
    other = start(dir=tmp_path / "other", project="digits", id="k3j9x2ab")
    for _ in range(3_001):
        other.log({"loss": 2.0})
    other.finish()
    assert isinstance(sync_one(other.dir, level="counts").error, ConflictError)
