"""Runs that are exported, and then synced by wandb's own command: the server holds the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import wandbkeras
from tests.server.process import LoopbackServer
from tests.syncing import command, connect, content, held, printed, sync_one, tree, wandb_sync
from wandbkeras import Run
from wandbkeras.errors import UsageError
from wandbkeras.sync.export import export_run


@pytest.fixture
def recorded(start: Callable[..., Run], tmp_path: Path) -> Path:
    """A run with some of everything, and a table that links to one of another artifact."""
    (tmp_path / "notes.txt").write_text("to be kept")
    run = start(
        project="digits", id="k3j9x2ab", name="first", group="g", tags=["a"], config={"lr": 0.1}
    )
    run.define_metric("loss", summary="min")
    for step in range(3):
        run.log({"loss": 1.0 / (step + 1), "n": 2**60 + step, "nan": float("nan")})
    image = wandbkeras.Image(np.zeros((4, 4, 3), np.uint8))
    run.log({"image": image, "table": wandbkeras.Table(columns=["i"], data=[[image]])})
    run.save(tmp_path / "notes.txt", base_path=tmp_path)
    run.log_artifact(tmp_path / "notes.txt", name="data", type="dataset", aliases=["best"])
    run.finish()
    return Path(run.dir or "")


def test_what_is_exported_arrives_as_what_is_synced(
    recorded: Path,
    wandb_server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By plain `wandb sync`, when the run is gone: rows, summary, config, files, artifacts."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    before = tree(recorded)
    done = command("export", "--format", "wandb", recorded, "-o", tmp_path / "out", "--json")
    assert (done.returncode, done.stderr, tree(recorded)) == (0, "", before)
    (found,) = printed(done)["runs"]
    assert (found["rows"], found["artifacts"], found["files"]) == (4, 2, 3)
    (exported,) = found["directories"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == [Path(exported).name]
    shutil.move(recorded, tmp_path / "away")
    wandb_sync(exported)
    theirs = content(held(wandb_server, "k3j9x2ab"))
    shutil.move(tmp_path / "away", recorded)
    assert sync_one(recorded, project="ours").error is None
    ours = content(held(wandb_server, "k3j9x2ab", project="ours"))
    assert theirs == ours


def test_an_export_is_not_written_over(recorded: Path, tmp_path: Path) -> None:
    """A directory that is there stays as it is, and nothing is left beside it."""
    (exported,) = export_run(recorded, tmp_path / "out").directories
    before = tree(tmp_path / "out")
    with pytest.raises(UsageError, match="is there already: name another directory with -o"):
        export_run(recorded, tmp_path / "out")
    assert tree(tmp_path / "out") == before
    assert exported.name in {path.partition("/")[0] for path in before}
    done = command("export", "--format", "wandb", recorded, "-o", tmp_path / "out", "--json")
    assert (done.returncode, printed(done)["exit_code"]) == (2, 2)


def test_tables_that_link_are_directories_to_be_synced_in_order(
    start: Callable[..., Run],
    wandb_server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is linked to is in the first; one after the other, all of it arrives, each once."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    run = start(project="digits", id="linked")
    validation = wandbkeras.Table(["x"], [[1], [2]])
    run.log({"validation": validation})
    run.log({"predictions": wandbkeras.Table({"row": wandbkeras.RowColumn(validation)}, [[1]])})
    run.finish()
    done = export_run(Path(run.dir or ""), tmp_path / "out")
    assert [path.parent.name for path in done.directories] == ["1", "2"]
    for directory in done.directories:
        wandb_sync(directory)
    there = held(wandb_server, "linked")
    assert [row["_step"] for row in there.rows] == [0, 1]
    names = [artifact.name for artifact in there.logged_artifacts]
    assert names == ["run-linked-validation", "run-linked-predictions"]
    assert {artifact.state for artifact in there.logged_artifacts} == {"COMMITTED"}
