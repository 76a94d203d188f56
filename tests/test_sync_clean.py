"""Cleaning removes what a receipt proves to be elsewhere, and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.syncing import tree
from tests.test_sync_status import HERE, prove, receipt_of
from wandbkeras import Run, Store
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.verify import verify_run
from wandbkeras.sync import clean
from wandbkeras.sync.clean import Cleaning, clean_run, finish_cleaning
from wandbkeras.sync.lock import Locks
from wandbkeras.sync.receipt import read_receipts


@pytest.fixture
def run(start: Callable[..., Run], tmp_path: Path) -> Run:
    """A run with rows, an artifact of 1,000 bytes and a file; it has not ended."""
    run = start(project="digits", id="k3j9x2ab")
    run.log({"loss": 1.0})
    (tmp_path / "model").write_bytes(bytes(1_000))
    (tmp_path / "notes").write_bytes(bytes(10))
    run.log_artifact(tmp_path / "model", name="model")
    run.save(tmp_path / "notes", base_path=tmp_path)
    return run


@pytest.fixture
def arrived(run: Run) -> Path:
    """The run, ended and proven to be elsewhere."""
    run.finish()
    stored = StoredRun(run.dir or "")
    prove(stored, replace(receipt_of(stored, HERE), time=time.time()))
    return stored.path


def without_receipt(path: Path) -> None:
    shutil.rmtree(path / "sync")


def with_a_part(path: Path) -> None:
    prove(StoredRun(path), replace(receipt_of(StoredRun(path), HERE), not_sent=["artifacts"]))


def with_counts(path: Path) -> None:
    prove(StoredRun(path), replace(receipt_of(StoredRun(path), HERE), level="counts"))


def with_another_fingerprint(path: Path) -> None:
    prove(StoredRun(path), replace(receipt_of(StoredRun(path), HERE), fingerprint="00"))


def with_a_damaged_receipt(path: Path) -> None:
    (receipt,) = (path / "sync").iterdir()
    receipt.write_bytes(receipt.read_bytes()[:-9])


def with_damaged_originals(path: Path) -> None:
    (path / "damaged").mkdir()
    (path / "damaged" / "history-000.parquet").write_bytes(b"x")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_receipt, "no receipt"),
        (with_a_part, "not all of it was sent: artifacts"),
        (with_counts, "only counted"),
        (with_another_fingerprint, "has grown"),
        (with_a_damaged_receipt, "no receipt"),
        (with_damaged_originals, "it holds damaged"),
    ],
)
@pytest.mark.parametrize("keep_history", [False, True])
def test_what_is_not_proven_is_kept(
    change: Callable[[Path], None], reason: str, keep_history: bool, arrived: Path
) -> None:
    """With the reason, and not one byte of it changes."""
    change(arrived)
    before = tree(arrived.parent)
    found = clean_run(arrived, keep_history=keep_history)
    assert reason in (found.kept or "")
    assert found.freed == 0
    assert tree(arrived.parent) == before


def test_a_running_run_is_kept(run: Run) -> None:
    """Whatever its receipt says."""
    stored = StoredRun(run.dir or "")
    prove(stored, receipt_of(stored, HERE))
    assert clean_run(stored.path).kept == "it is running"


def test_a_run_that_is_being_synced_is_kept(arrived: Path) -> None:
    """Another process holds its lock."""
    locks = Locks()
    locks.acquire(arrived / "sync")
    assert "is syncing this run" in (clean_run(arrived).kept or "")
    locks.close()
    assert clean_run(arrived).kept is None


def test_a_young_run_is_kept(arrived: Path) -> None:
    """By the age of its last record."""
    assert "not old enough" in (clean_run(arrived, older_than_s=3_600).kept or "")
    assert clean_run(arrived, older_than_s=0).kept is None


def test_a_proven_run_is_removed(arrived: Path) -> None:
    """Who it was and its receipts stay, out of the store's sight; its bytes are counted."""
    size = sum(
        path.stat().st_size
        for path in arrived.rglob("*")
        if path.is_file() and path.parent.name != "sync" and path.name != "run.json"
    )
    info, proofs = (arrived / "run.json").read_bytes(), read_receipts(arrived / "sync")
    found = clean_run(arrived)
    assert found == Cleaning(arrived, "k3j9x2ab", size, url="https://here/url")
    kept = arrived.parent / "cleaned" / arrived.name
    assert {path.name for path in kept.iterdir()} == {"run.json", "sync"}
    assert ((kept / "run.json").read_bytes(), read_receipts(kept / "sync")) == (info, proofs)
    assert Store(arrived.parent).paths() == []


def test_a_dry_run_counts_the_same_and_removes_nothing(arrived: Path) -> None:
    """For the whole run and for its blobs."""
    before = tree(arrived.parent)
    foreseen = [clean_run(arrived, keep_history=keep, dry_run=True) for keep in (True, False)]
    assert tree(arrived.parent) == before
    assert foreseen[0].freed == 1_010
    assert foreseen[1] == clean_run(arrived)


def test_history_can_be_kept(arrived: Path) -> None:
    """The contents go; rows, config and what the artifacts were stay readable and sound."""
    found = clean_run(arrived, keep_history=True)
    assert (found.kept, found.freed) == (None, 1_010)
    stored = StoredRun(arrived, strict=True)
    assert stored.history().num_rows == 1
    assert [version.name for version in stored.artifacts] == ["model"]
    assert [path for path in (arrived / "blobs").rglob("*") if path.is_file()] == []
    assert verify_run(arrived).damage == []
    assert clean_run(arrived, keep_history=True).freed == 0
    assert clean_run(arrived).kept is None


def test_a_content_that_another_run_shares_stays(arrived: Path, tmp_path: Path) -> None:
    """A hard link is one name of two; what it frees is nothing."""
    (blob,) = [path for path in (arrived / "blobs").rglob("*") if path.lstat().st_size == 1_000]
    os.link(blob, tmp_path / "shared")
    assert clean_run(arrived, keep_history=True).freed == 10
    assert (tmp_path / "shared").read_bytes() == bytes(1_000)


def test_an_interrupted_removal_is_finished(arrived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is out of sight first, whole; the next call removes what is left."""

    def die(directory: Path) -> None:
        raise KeyboardInterrupt

    size = clean_run(arrived, dry_run=True).freed
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(clean, "_empty", die)
        clean_run(arrived)
    store = arrived.parent
    assert Store(store).paths() == []
    assert (store / "cleaned" / arrived.name / "attempts").is_dir()
    assert finish_cleaning(store, dry_run=True) == size
    assert finish_cleaning(store) == size
    assert {path.name for path in (store / "cleaned" / arrived.name).iterdir()} == {
        "run.json", "sync",
    }  # fmt: skip
    assert finish_cleaning(store) == 0


def test_nothing_is_moved_through_a_link(arrived: Path, tmp_path: Path) -> None:
    """A store may come from a stranger: `cleaned` that leads elsewhere is in the way."""
    (tmp_path / "elsewhere").mkdir()
    (arrived.parent / "cleaned").symlink_to(tmp_path / "elsewhere")
    before = tree(arrived)
    with pytest.raises(Exception, match="in the way"):
        clean_run(arrived)
    assert tree(arrived) == before
    assert [*(tmp_path / "elsewhere").iterdir()] == []
