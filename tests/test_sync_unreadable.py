"""Runs that can't be read, among good ones: the good ones arrive, the others are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import connect, held, sync
from wandbkeras import Run
from wandbkeras.errors import DamagedError, NewerFormatError, NotFoundError, SyncError
from wandbkeras.store import document
from wandbkeras.sync.options import Result


@pytest.fixture(autouse=True)
def _connected(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(wandb_server, tmp_path / "home", monkeypatch)


def record(start: Callable[..., Run], name: str, folder: Path) -> Run:
    run = start(project="digits", id=name)
    for i in range(50):
        run.log({"loss": 1.0 / (i + 1)})
    (folder / "f").write_text(name)
    run.log_artifact(folder / "f", name=f"data-{name}", type="dataset")
    return run


@pytest.fixture
def bad(start: Callable[..., Run], tmp_path: Path) -> Path:
    """A finished run, good so far, in a store with two others."""
    for name in ("good1", "good2"):
        record(start, name, tmp_path).finish()
    run = record(start, "bad", tmp_path)
    run.finish()
    return Path(run.dir or "")


@pytest.fixture
def journal(bad: Path, start: Callable[..., Run]) -> Path:
    """The journal of a second attempt, which goes on."""
    run = start(id="bad", resume="allow")
    for i in range(50):
        run.log({"loss": 1.0 / (i + 1)})
    (path,) = bad.rglob("*.wbk")
    return path


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def sync_among_good_ones(bad: Path, server: LoopbackServer) -> Result:
    """Sync the run between two good ones, which must arrive; return how it ended."""
    good = [path for path in bad.parent.iterdir() if "good" in path.name]
    first, failed, last = sync(good[0], bad, good[1])
    assert [first.outcome, failed.outcome, last.outcome] == ["verified", "failed", "verified"]
    for name in ("good1", "good2"):
        assert len(held(server, name).rows) == 50
    assert bad.name in str(failed.error)
    with pytest.raises(LookupError):
        held(server, "bad")
    return failed


def test_a_damaged_run_json(bad: Path, wandb_server: LoopbackServer) -> None:
    """Who the run is can't be trusted."""
    flip(bad / "run.json", 30)
    failed = sync_among_good_ones(bad, wandb_server)
    assert isinstance(failed.error, DamagedError)
    assert (failed.run_id, failed.exit_code) == (None, 4)


def test_a_damaged_journal(bad: Path, journal: Path, wandb_server: LoopbackServer) -> None:
    """A row in the middle is lost: what is left is not the run, and nothing of it is sent."""
    flip(journal, journal.stat().st_size // 2)
    failed = sync_among_good_ones(bad, wandb_server)
    assert isinstance(failed.error, DamagedError)
    assert journal.name in str(failed.error)
    assert "nothing was sent" in str(failed.error)
    assert failed.run_id == "bad"


def test_a_damaged_history(bad: Path, wandb_server: LoopbackServer) -> None:
    """A flipped byte in the sealed rows is found before anything is sent."""
    (part,) = (bad / "history").iterdir()
    flip(part, part.stat().st_size // 2)
    assert isinstance(sync_among_good_ones(bad, wandb_server).error, DamagedError)


@pytest.mark.parametrize("what", ["history", "artifacts", "blobs"])
def test_a_missing_file(what: str, bad: Path, wandb_server: LoopbackServer) -> None:
    """A file that a copy has lost is named, and what is left is not taken for the run."""
    (lost,) = (path for path in (bad / what).rglob("*") if path.is_file())
    lost.unlink()
    failed = sync_among_good_ones(bad, wandb_server)
    assert failed.exit_code in (3, 4, 6)
    assert lost.name in str(failed.error)


def test_a_damaged_blob(bad: Path, wandb_server: LoopbackServer) -> None:
    """Other bytes than were recorded are not sent as if they were."""
    (blob,) = bad.glob("blobs/sha256/*/*")
    flip(blob, 0)
    failed = sync_among_good_ones(bad, wandb_server)
    assert isinstance(failed.error, DamagedError)
    assert blob.name in str(failed.error)


def test_a_newer_format(bad: Path, wandb_server: LoopbackServer) -> None:
    """A run of a later version is left to a later version."""
    members = document.read(bad / "run.json")
    (bad / "run.json").write_bytes(document.encode({**members, "version": 99}))
    failed = sync_among_good_ones(bad, wandb_server)
    assert isinstance(failed.error, NewerFormatError)
    assert failed.exit_code == 5


def test_a_missing_run_json(bad: Path, wandb_server: LoopbackServer) -> None:
    """Who the run is can only be told by repairing it."""
    (bad / "run.json").unlink()
    failed = sync_among_good_ones(bad, wandb_server)
    assert isinstance(failed.error, DamagedError)
    assert "run.json: missing" in str(failed.error)


def test_no_run(bad: Path, wandb_server: LoopbackServer) -> None:
    """A directory in which nothing was recorded is no run."""
    shutil.rmtree(bad)
    bad.mkdir()
    assert isinstance(sync_among_good_ones(bad, wandb_server).error, NotFoundError)


def test_what_the_system_refuses(bad: Path, journal: Path, wandb_server: LoopbackServer) -> None:
    """An error of the system, here a directory where a file was, is one run's only."""
    journal.unlink()
    journal.mkdir()
    failed = sync_among_good_ones(bad, wandb_server)
    assert isinstance(failed.error, (SyncError, DamagedError))
