"""A part of a run, under other names: only that arrives, and its receipt is none of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.server.process import LoopbackServer
from tests.syncing import connect, held, receipts, sync_one
from wandbkeras import Image, RowColumn, Run, Table
from wandbkeras.errors import ConflictError
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.choice import REDACTED, Choice
from wandbkeras.sync.clean import clean_run
from wandbkeras.sync.options import Options
from wandbkeras.sync.preview import preview
from wandbkeras.sync.receipt import sync_state
from wandbkeras.sync.status import run_status

CONFIG = {"lr": 0.1, "db": {"host": "here", "password": "hunter2"}, "a.b": {"c": "hunter2", "d": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackServer]:
    with LoopbackServer(tmp_path_factory.mktemp("server")).start() as server:
        yield server
        assert server.violations() == []


@pytest.fixture(autouse=True)
def _connected(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(server, tmp_path / "home", monkeypatch)


@pytest.fixture
def finished(
    start: Callable[..., Run],
    tmp_path: Path,
) -> Path:
    """A run with two metrics, a nested config with secrets, an artifact and a file."""
    run = start(project="digits", name="first", tags=["a"], config=CONFIG)
    for i in range(3):
        run.log({"loss": 1.0 / (i + 1), "val/acc": float(i)})
    (tmp_path / "data").write_text("x")
    run.log_artifact(tmp_path / "data", name=f"data-{run.id}")
    run.save(tmp_path / "data", base_path=tmp_path)
    run.finish()
    return Path(run.dir or "")


@pytest.fixture
def shown(
    start: Callable[..., Run],
) -> Path:
    """A run of two tables, one of which links to the other, an image and a graph."""
    run = start(project="digits")
    table = Table(["a"], [[1], [2]])
    run.log({"loss": 0.5, "t": table})
    photo = Image(np.zeros((2, 2, 3), dtype=np.uint8))
    run.log({"linked": Table({"row": RowColumn(table)}, [[1]]), "photo": photo})
    run.summary["graph"] = {"_type": "graph", "format": "keras", "nodes": [], "edges": []}
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


def test_what_rows_name_can_follow(shown: Path, server: LoopbackServer) -> None:
    """Of tables, images and graphs the rows arrive, and later the artifacts and files."""
    run_id, part = StoredRun(shown).info.id, Choice(artifacts=False, files=False)
    pending = run_status(StoredRun(shown)).pending
    for choice, expected in ((part, (2, 0, 0)), (Choice(), (2, 2, 4))):
        (would,) = preview([shown], Options(settle_s=0.0, choice=choice))
        assert (would.rows, would.artifacts, would.files) == expected
        assert would.bytes > 0
    assert (pending.rows, pending.artifacts, pending.files) == (2, 2, 4)
    assert sync_one(shown, choice=part).outcome == "verified"
    found = held(server, run_id)
    assert (found.rows[0]["t"]["_type"], found.logged_artifacts) == ("table-file", ())
    assert not [name for name in found.files if name.startswith("media")]
    result = sync_one(shown)
    assert (result.outcome, result.rows_sent) == ("verified", 0)
    assert (result.artifacts_sent, result.files_sent) == (2, 4)
    found = held(server, run_id)
    assert {found.rows[0]["t"]["path"], found.rows[1]["photo"]["path"]} <= set(found.files)
    assert run_status(StoredRun(shown)).pending.bytes == 0
    assert clean_run(shown).kept is None
    assert not shown.exists()


def test_tables_of_metrics_that_stay_here(shown: Path, server: LoopbackServer) -> None:
    """Neither their artifacts nor their files are sent; one without the table that it links to."""
    assert sync_one(shown, choice=Choice(keys=("loss", "linked"))).outcome == "verified"
    run_id = StoredRun(shown).info.id
    found = held(server, run_id)
    assert "t" not in found.rows[0]
    assert [artifact.name for artifact in found.logged_artifacts] == [f"run-{run_id}-linked"]
    media = [name for name in found.files if name.startswith("media")]
    assert {name.split("/")[2].split("_")[0] for name in media} == {"linked"}


def test_rows_that_were_sent_in_part_stay_so(finished: Path) -> None:
    """W&B changes no row: the whole is a conflict there, and says which metric is missing."""
    assert sync_one(finished, choice=Choice(keys=("loss",))).error is None
    error = sync_one(finished).error
    assert isinstance(error, ConflictError)
    assert "val/acc: expected 0.0, found 'nothing'" in str(error)


def test_what_a_run_has_none_of_is_not_left_out(
    start: Callable[..., Run],
) -> None:
    """Without artifacts, `--no-artifacts` sends the whole run."""
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
