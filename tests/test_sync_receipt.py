"""Receipts: what they prove, and when they prove nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.syncing import tree
from wandbkeras import Run
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.receipt import (
    Receipt,
    fingerprint,
    read_receipt,
    read_receipts,
    receipts_directory,
    sync_state,
    write_receipt,
)

DESTINATION = Destination("https://api.wandb.ai", None, "digits", "k3j9x2ab")


@pytest.fixture
def receipt() -> Receipt:
    return Receipt(
        server="https://api.wandb.ai", entity=None, project="digits", run_id="k3j9x2ab",
        held_by="someone", url="https://wandb.ai/someone/digits/runs/k3j9x2ab", fingerprint="00",
        state="finished", rows=3, artifacts=[{"name": "m", "version": "v0", "digest": "d"}],
        time=1795412700.5, wandb="0.31.0", wandbkeras="0.1.0", not_compared=["createdAt"],
    )  # fmt: skip


def stored(run: Run) -> StoredRun:
    assert run.dir is not None
    return StoredRun(run.dir)


def test_a_receipt_is_read_as_it_was_written(tmp_path: Path, receipt: Receipt) -> None:
    """The directory is made, and every member comes back."""
    write_receipt(tmp_path / "a" / "b", DESTINATION, receipt)
    assert read_receipt(tmp_path / "a" / "b", DESTINATION) == receipt
    assert read_receipts(tmp_path / "a" / "b") == [receipt]


def test_a_receipt_is_replaced(tmp_path: Path, receipt: Receipt) -> None:
    """A later receipt of the same destination takes the place, and nothing else is left."""
    write_receipt(tmp_path, DESTINATION, receipt)
    write_receipt(tmp_path, DESTINATION, replace(receipt, rows=4))
    assert read_receipts(tmp_path) == [replace(receipt, rows=4)]
    assert len([*tmp_path.iterdir()]) == 1


def test_destinations_have_receipts_of_their_own(tmp_path: Path, receipt: Receipt) -> None:
    """Server, entity, project and run id each tell receipts apart, whatever is in their names."""
    destinations = [
        DESTINATION,
        replace(DESTINATION, server="https://api.wandb.ai:8080"),
        replace(DESTINATION, entity="digits"),
        replace(DESTINATION, entity="digits", project="k3j9x2ab"),
        replace(DESTINATION, project="di-gits"),
        replace(DESTINATION, project="di gits"),
        replace(DESTINATION, project="é" * 128),
        replace(DESTINATION, run_id="K3J9X2AB"),
    ]
    for rows, destination in enumerate(destinations):
        write_receipt(tmp_path, destination, replace(receipt, rows=rows))
    found = [read_receipt(tmp_path, destination) for destination in destinations]
    assert [r and r.rows for r in found] == list(range(len(destinations)))
    assert len([*tmp_path.iterdir()]) == len(destinations)
    assert all(len(path.name) < 200 for path in tmp_path.iterdir())


def test_no_receipt_is_none(tmp_path: Path) -> None:
    """No directory, no file: nothing is proven."""
    assert read_receipt(tmp_path / "none", DESTINATION) is None
    assert read_receipts(tmp_path / "none") == []


def test_a_damaged_receipt_proves_nothing(tmp_path: Path, receipt: Receipt) -> None:
    """Every flipped byte and every cut makes it void, and no error."""
    write_receipt(tmp_path, DESTINATION, receipt)
    path = tmp_path / (DESTINATION.stem + ".json")
    good = path.read_bytes()
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert read_receipt(tmp_path, DESTINATION) is None
        assert read_receipts(tmp_path) == []
        path.write_bytes(good[:at])
        assert read_receipt(tmp_path, DESTINATION) is None


def test_a_fingerprint_changes_with_the_run(start: Callable[..., Run]) -> None:
    """A row, a config value, an artifact, the end: each is something new to send."""
    run = start()
    marks = [fingerprint(stored(run))]
    for change in (
        lambda: run.log({"a": 1}),
        lambda: run.config.update({"lr": 1}),
        lambda: run.log_artifact(__file__, name="this"),
        lambda: run.finish(),
    ):
        change()
        marks.append(fingerprint(stored(run)))
    assert len(set(marks)) == len(marks)


def test_a_fingerprint_is_the_contents_not_the_places(
    start: Callable[..., Run], tmp_path: Path, receipt: Receipt
) -> None:
    """A copy elsewhere has the same; a receipt in the run changes nothing."""
    run = start()
    run.log({"a": 1})
    run.finish()
    mark = fingerprint(stored(run))
    copy = tmp_path / "elsewhere"
    shutil.copytree(stored(run).path, copy)
    write_receipt(receipts_directory(StoredRun(copy), None), DESTINATION, receipt)
    assert fingerprint(StoredRun(copy)) == mark


def test_whether_a_run_has_arrived(start: Callable[..., Run], receipt: Receipt) -> None:
    """No receipt is no, one of this state is yes, one of an earlier state is in part."""
    run = start()
    run.log({"a": 1})
    assert sync_state(stored(run)) == "no"
    directory = receipts_directory(stored(run), None)
    mark = fingerprint(stored(run))
    write_receipt(directory, DESTINATION, replace(receipt, fingerprint=mark))
    assert sync_state(stored(run)) == "yes"
    run.log({"a": 2})
    assert sync_state(stored(run)) == "in part"


def test_receipts_can_lie_elsewhere(
    start: Callable[..., Run], tmp_path: Path, receipt: Receipt
) -> None:
    """With a directory for the state the run itself is not written to."""
    run = start()
    run.finish()
    before = tree(stored(run).path)
    directory = receipts_directory(stored(run), tmp_path / "state")
    mark = fingerprint(stored(run))
    write_receipt(directory, DESTINATION, replace(receipt, fingerprint=mark))
    assert tree(stored(run).path) == before
    assert sync_state(stored(run)) == "no"
    assert sync_state(stored(run), tmp_path / "state") == "yes"
