"""What has arrived where, read from receipts and failure notes alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wandbkeras import Run
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.failure import Failure, read_failures, write_failure
from wandbkeras.sync.receipt import Receipt, fingerprint, receipts_directory, write_receipt
from wandbkeras.sync.status import Status, run_status

HERE = Destination("https://here", None, "digits", "k3j9x2ab")
THERE = Destination("https://there", "team", "digits", "k3j9x2ab")


@pytest.fixture
def run(start: Callable[..., Run], tmp_path: Path) -> Run:
    """A running run with ten rows, a version of 1,000 bytes and a file of 10."""
    run = start(project="digits", id="k3j9x2ab", name="first")
    for i in range(10):
        run.log({"loss": 1.0 / (i + 1)})
    (tmp_path / "model").write_bytes(bytes(1_000))
    (tmp_path / "notes").write_bytes(bytes(10))
    run.log_artifact(tmp_path / "model", name="model")
    run.save(tmp_path / "notes")
    return run


def opened(run: Run) -> StoredRun:
    return StoredRun(run.dir or "")


def receipt_of(run: StoredRun, destination: Destination, time: float = 100.0) -> Receipt:
    """The receipt that a sync of the run as it is now would write."""
    content = Content(run)
    return Receipt(
        **vars(destination), held_by="team", url=f"{destination.server}/url",
        fingerprint=fingerprint(run), state=content.remote_states[0], rows=len(content.steps),
        artifacts=[{"name": a.version.name, "digest": a.digest} for a in content.artifacts],
        time=time, wandb="0.31.0", wandbkeras="0.1.0", not_compared=[],
        files=len(content.files), file_md5s={n: f.md5 for n, f in content.files.items()},
    )  # fmt: skip


def prove(run: StoredRun, receipt: Receipt) -> None:
    write_receipt(receipts_directory(run, None), receipt.destination, receipt)


def failure_at(destination: Destination, time: float) -> Failure:
    return Failure(
        **vars(destination), error="RefusedError", message="no: ask", exit_code=9,
        retryable=False, time=time,
    )  # fmt: skip


def status(run: Run) -> Status:
    return run_status(opened(run))


def test_a_run_that_was_never_synced_is_pending_whole(run: Run) -> None:
    """All rows, artifacts, files and their bytes."""
    found = status(run)
    assert (found.run_id, found.name, found.arrived, found.places) == (
        "k3j9x2ab", "first", False, (),
    )  # fmt: skip
    assert (found.pending.rows, found.pending.artifacts, found.pending.files) == (10, 1, 1)
    assert found.pending.bytes == opened(run).size


def test_a_receipt_of_this_state_leaves_nothing_pending(run: Run) -> None:
    """It is said where the run is."""
    prove(opened(run), receipt_of(opened(run), HERE))
    found = status(run)
    (place,) = found.places
    assert (found.arrived, place.arrived, place.destination) == (True, True, HERE)
    assert set(vars(place.pending).values()) == set(vars(found.pending).values()) == {0}


def test_what_came_since_is_pending(run: Run, tmp_path: Path) -> None:
    """Only the growth: two rows and the bytes of a second version."""
    prove(opened(run), receipt_of(opened(run), HERE))
    (tmp_path / "model").write_bytes(bytes(5_000))
    run.log_artifact(tmp_path / "model", name="model")
    run.log({"loss": 0.0})
    run.log({"loss": 0.0})
    found = status(run)
    assert not found.arrived
    assert (found.pending.rows, found.pending.artifacts, found.pending.files) == (2, 1, 0)
    assert 5_000 < found.pending.bytes < opened(run).size - 1_000


def test_a_part_is_not_the_whole(run: Run) -> None:
    """A receipt that names something not sent proves nothing of the run as a whole."""
    whole = receipt_of(opened(run), HERE)
    prove(opened(run), replace(whole, artifacts=[], not_sent=["artifacts"]))
    found = status(run)
    assert (found.arrived, found.pending.rows, found.pending.artifacts) == (False, 0, 1)


def test_each_destination_is_a_place(run: Run) -> None:
    """One has all, the other lacks rows; a run that is somewhere is not pending."""
    prove(opened(run), replace(receipt_of(opened(run), THERE), rows=4, fingerprint="00"))
    prove(opened(run), receipt_of(opened(run), HERE))
    places = {place.destination: place for place in status(run).places}
    assert (places[HERE].arrived, places[THERE].arrived) == (True, False)
    assert places[THERE].pending.rows == 6
    assert status(run).pending.rows == 0


@pytest.mark.parametrize(("failed_at", "is_said"), [(99.0, False), (101.0, True)])
def test_a_failure_is_said_until_a_sync_succeeds(failed_at: float, is_said: bool, run: Run) -> None:
    """The later one of receipt and failure counts."""
    prove(opened(run), receipt_of(opened(run), HERE, time=100.0))
    failure = failure_at(HERE, failed_at)
    write_failure(receipts_directory(opened(run), None), failure)
    (place,) = status(run).places
    assert place.failure == (failure if is_said else None)


def test_a_failure_alone_is_a_place(run: Run) -> None:
    """Nothing has arrived there, and the reason is known."""
    write_failure(receipts_directory(opened(run), None), failure_at(THERE, 1.0))
    (place,) = status(run).places
    assert (place.destination, place.receipt, place.pending.rows) == (THERE, None, 10)


def test_a_damaged_note_says_nothing(run: Run) -> None:
    """Like a damaged receipt, and no error."""
    directory = receipts_directory(opened(run), None)
    write_failure(directory, failure_at(HERE, 1.0))
    (path,) = directory.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert read_failures(directory) == []
    assert status(run).places == ()
