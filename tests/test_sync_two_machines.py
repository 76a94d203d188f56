"""Two copies of a run synced at once, as from two machines: no lock of ours is seen by both.

What happens meanwhile happens in the callback that shows progress, so the order is always the same.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import ENTITY, PROJECT, connect, held, receipts, sync_one
from wandbkeras import Artifact, Run
from wandbkeras.errors import ConflictError, LockedError, NotVerifiedError
from wandbkeras.sync.choice import Choice
from wandbkeras.sync.engine import sync
from wandbkeras.sync.options import Options, Result
from wandbkeras.sync.readback import Server

ROWS = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackServer]:
    """One that takes the same row twice, as W&B's does."""
    with LoopbackServer(tmp_path_factory.mktemp("server"), repeats=True).start() as server:
        yield server
        assert server.violations() == []


def record(start: Callable[..., Run], folder: Path, rows: int = ROWS) -> Path:
    """A finished run with rows and two versions of an artifact."""
    run = start(project=PROJECT)
    for i in range(rows):
        run.log({"loss": 1.0 / (i + 1)})
    for version in range(2):
        (folder / "data.txt").write_text(f"version {version} of {run.id}")
        artifact = Artifact(f"data-{run.id}", "dataset")
        artifact.add_file(folder / "data.txt")
        run.log_artifact(artifact)
    run.finish()
    return Path(run.dir or "")


def copy_of(path: Path, folder: Path) -> tuple[Path, Path]:
    return path, shutil.copytree(path, folder / "another machine" / path.name)


@pytest.fixture
def copies(
    start: Callable[..., Run],
    server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, Path]:
    """A run, and a copy of it."""
    connect(server, tmp_path / "home", monkeypatch)
    return copy_of(record(start, tmp_path), tmp_path)


def id_of(path: Path) -> str:
    return path.name.rpartition("-")[2]


def sync_and_meanwhile(path: Path, moment: str, action: Callable[[], object]) -> Result:
    """Sync a run; when it says ``moment``, do what another machine does then."""

    def progress(text: str) -> None:
        if moment in text:
            action()

    (result,) = sync([path], Options(timeout_s=90, settle_s=0), progress=progress)
    return result


def assert_all_is_there_once(server: LoopbackServer, run_id: str) -> None:
    found = held(server, run_id)
    assert [row["loss"] for row in found.rows] == [1.0 / (i + 1) for i in range(ROWS)]
    assert [(a.version, a.state) for a in found.logged_artifacts] == [
        (0, "COMMITTED"), (1, "COMMITTED"),
    ]  # fmt: skip
    assert (found.state, found.exit_code) == ("finished", 0)


def test_of_two_that_begin_at_the_same_moment_one_sends(
    copies: tuple[Path, Path], server: LoopbackServer
) -> None:
    """Both are told that there is no such run; the server tells one of them that it made it."""
    # Both ask side by side, and the request that makes the run waits until it has come from both.
    server.add_fault("hold", operation="UpsertBucket", times=2)
    ready = threading.Barrier(2)
    with ThreadPoolExecutor() as pool:
        syncs = [pool.submit(sync_and_meanwhile, copy, "asking", ready.wait) for copy in copies]
        results = sorted((s.result() for s in syncs), key=lambda result: result.outcome)
    late, first = results
    assert (first.error, first.rows_sent, first.artifacts_sent) == (None, ROWS, 2)
    assert isinstance(late.error, LockedError)
    assert "another sync has just begun to send this run" in str(late.error)
    assert (late.exit_code, late.rows_sent, receipts(late.path)) == (11, 0, [])
    again = sync_one(late.path)
    assert (again.error, again.rows_sent, again.artifacts_sent) == (None, 0, 0)
    assert_all_is_there_once(server, id_of(copies[0]))


@pytest.mark.parametrize("moment", ["sending", "asking"])
def test_what_another_has_sent_is_not_sent_again(
    moment: str, copies: tuple[Path, Path], server: LoopbackServer
) -> None:
    """Asked again right before the upload, the server says so; the next sync finds all there."""
    mine, others = copies
    result = sync_and_meanwhile(mine, moment, lambda: sync_one(others))
    if moment == "asking":  # it has not looked yet
        assert (result.outcome, result.rows_sent) == ("verified", 0)
    else:
        assert isinstance(result.error, LockedError)
        assert "has arrived since it was asked" in str(result.error)
        assert (result.exit_code, receipts(mine)) == (11, [])
    again = sync_one(mine)
    assert (again.error, again.rows_sent) == (None, 0)
    assert_all_is_there_once(server, id_of(mine))


def test_a_run_that_goes_on_meanwhile_is_left_to_whoever_goes_on_with_it(
    copies: tuple[Path, Path], server: LoopbackServer
) -> None:
    """Its state says so before any row does."""
    mine, _ = copies
    sync_one(mine, choice=Choice(artifacts=False))

    def go_on() -> None:
        Server().announce(ENTITY, PROJECT, id_of(mine))

    result = sync_and_meanwhile(mine, "sending", go_on)
    assert isinstance(result.error, LockedError)
    assert "it was finished when it was asked, and is running now" in str(result.error)
    assert sync_one(mine).artifacts_sent == 2
    assert_all_is_there_once(server, id_of(mine))


def test_rows_that_arrive_twice_are_never_called_verified(
    copies: tuple[Path, Path], server: LoopbackServer
) -> None:
    """Between the last question and the client's own nothing is asked: it is said afterwards."""
    mine, others = copies
    result = sync_and_meanwhile(mine, "uploading", lambda: sync_one(others))
    assert len(held(server, id_of(mine)).rows) == 2 * ROWS
    assert isinstance(result.error, ConflictError)
    assert (result.exit_code, receipts(mine)) == (10, [])
    assert "holds 400 rows, the run has 200" in str(result.error)
    assert "--on-conflict new-id" in str(result.error)
    # The other one had verified before; asked again, it says the same.
    assert len(receipts(others)) == 1
    assert isinstance(sync_one(others, check=True).error, ConflictError)
    # And the way out is a whole run under another id, for both.
    for copy in copies:
        assert sync_one(copy, check=True, on_conflict="new-id").outcome == "verified"
    assert len(held(server, f"{id_of(mine)}-2").rows) == ROWS
    assert server.run_ids(ENTITY, PROJECT)[-1] == f"{id_of(mine)}-2"


def test_versions_that_arrive_twice_are_not_called_verified(
    start: Callable[..., Run],
    server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a run without rows too; the last versions are right, and the next sync takes them."""
    connect(server, tmp_path / "home", monkeypatch)
    mine, others = copy_of(record(start, tmp_path, rows=0), tmp_path)
    result = sync_and_meanwhile(mine, "uploading", lambda: sync_one(others))
    assert isinstance(result.error, NotVerifiedError)
    assert f"artifact data-{id_of(mine)}: 4 versions arrived and 2 were sent" in str(result.error)
    assert receipts(mine) == []
    assert sync_one(mine).artifacts_sent == 0
