"""A part of a run, under other names: only that arrives, and its receipt is none of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import connect, held, receipts, sync_one
from wandbkeras import Run
from wandbkeras.errors import ConflictError
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.choice import REDACTED, Choice
from wandbkeras.sync.receipt import sync_state

CONFIG = {"lr": 0.1, "db": {"host": "here", "password": "hunter2"}, "a.b": {"c": "hunter2", "d": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackServer]:
    with LoopbackServer(tmp_path_factory.mktemp("server")).start() as server:
        yield server
        assert server.violations() == []


@pytest.fixture
def finished(
    start: Callable[..., Run],
    server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A run with two metrics, a nested config with secrets, an artifact and a file."""
    connect(server, tmp_path / "home", monkeypatch)
    run = start(project="digits", name="first", tags=["a"], config=CONFIG)
    for i in range(3):
        run.log({"loss": 1.0 / (i + 1), "val/acc": float(i)})
    (tmp_path / "data").write_text("x")
    run.log_artifact(tmp_path / "data", name=f"data-{run.id}")
    run.save(tmp_path / "data", base_path=tmp_path)
    run.finish()
    return Path(run.dir or "")


def arrived(path: Path, server: LoopbackServer) -> tuple[set[str], int, bool]:
    """The metrics that are there, the number of artifacts, and whether the file is."""
    found = held(server, StoredRun(path).info.id)
    metrics = {key for key in found.rows[0] if not key.startswith("_")}
    return metrics, len(found.logged_artifacts), "data" in found.files


@pytest.mark.parametrize(
    ("choice", "expected", "left_out"),
    [
        (Choice(artifacts=False), ({"loss", "val/acc"}, 0, True), ["artifacts"]),
        (
            Choice(artifacts=False, files=False),
            ({"loss", "val/acc"}, 0, False),
            ["artifacts", "files"],
        ),
        (Choice(keys=("val/*", "x")), ({"val/acc"}, 1, True), ["metrics other than val/*, x"]),
    ],
)
def test_a_part_arrives_and_nothing_else(
    choice: Choice,
    expected: tuple[set[str], int, bool],
    left_out: list[str],
    finished: Path,
    server: LoopbackServer,
) -> None:
    """It is verified, its receipt names what was left out, and syncing it again asks nothing."""
    assert sync_one(finished, choice=choice).outcome == "verified"
    assert arrived(finished, server) == expected
    (receipt,) = receipts(finished)
    assert (receipt.not_sent, receipt.is_whole) == (left_out, False)
    assert sync_state(StoredRun(finished)) == "in part"
    requests = len(server.requests())
    assert sync_one(finished, choice=choice).outcome == "unchanged"
    assert len(server.requests()) == requests


def test_the_rest_of_a_part_can_follow(finished: Path, server: LoopbackServer) -> None:
    """What was left out at first is all that a sync of the whole sends."""
    assert sync_one(finished, choice=Choice(artifacts=False, files=False)).error is None
    result = sync_one(finished)
    assert (result.outcome, result.rows_sent, result.artifacts_sent) == ("verified", 0, 1)
    assert arrived(finished, server) == ({"loss", "val/acc"}, 1, True)
    assert sorted(receipt.is_whole for receipt in receipts(finished)) == [False, True]
    assert sync_state(StoredRun(finished)) == "yes"


def test_rows_that_were_sent_in_part_stay_so(finished: Path) -> None:
    """W&B changes no row: the whole is a conflict there, and says which metric is missing."""
    assert sync_one(finished, choice=Choice(keys=("loss",))).error is None
    error = sync_one(finished).error
    assert isinstance(error, ConflictError)
    assert "val/acc: expected 0.0, found 'nothing'" in str(error)


def test_what_a_run_has_none_of_is_not_left_out(
    start: Callable[..., Run],
    server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without artifacts, `--no-artifacts` sends the whole run."""
    connect(server, tmp_path / "home", monkeypatch)
    run = start(project="digits", config={"lr": 1})
    run.finish()
    choice = Choice(artifacts=False, files=False, redact=("password",))
    assert sync_one(run.dir, choice=choice).error is None
    assert [receipt.is_whole for receipt in receipts(Path(run.dir or ""))] == [True]
    assert sync_one(run.dir).outcome == "unchanged"


def test_a_secret_does_not_leave_the_machine(finished: Path, server: LoopbackServer) -> None:
    """Nothing that arrived holds it; in its place stands what says so."""
    choice = Choice(redact=("db.password", "a.b.c"))
    assert sync_one(finished, choice=choice).error is None
    there = held(server, StoredRun(finished).info.id)
    assert there.config_values == {
        "lr": 0.1, "db": {"host": "here", "password": REDACTED}, "a.b": {"c": REDACTED, "d": 1},
    }  # fmt: skip
    assert "hunter2" not in repr(there)
    assert receipts(finished)[0].not_sent == [
        "the config value db.password (redacted)", "the config value a.b.c (redacted)",
    ]  # fmt: skip


def test_names_can_be_replaced(finished: Path, server: LoopbackServer) -> None:
    """Name, group, job type, tags and notes; they stay replaced until others are given."""
    for choice, name in (
        (Choice(name="other", group="g", job_type="j", tags=("x", "y"), notes="n"), "other"),
        (Choice(name="third"), "third"),
    ):
        assert sync_one(finished, choice=choice).outcome == "verified"
        found = held(server, StoredRun(finished).info.id)
        assert (found.display_name, found.group, found.job_type) == (name, "g", "j")
        assert (set(found.tags), found.notes) == ({"x", "y"}, "n")
        assert sync_one(finished).outcome == "unchanged"
    (receipt,) = receipts(finished)
    assert (receipt.is_whole, receipt.replaced["tags"]) == (True, ["x", "y"])
