"""Paths, patterns, --include and --exclude, and the names that replace the recorded ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import command, held, printed
from wandbkeras import Run


@pytest.fixture
def runs(start: Callable[..., Run], store: Path) -> Path:
    """Three runs: a finished one with a tag, a failed one, and one that can't be read."""
    for run_id, tags, code in (("good", ["keep"], 0), ("failed", [], 3), ("bad", [], 0)):
        run = start(project="digits", id=run_id, tags=tags)
        run.log({"loss": 1.0})
        run.finish(code)
    (Path(run.dir or "") / "run.json").write_text("{}")
    return store


def ids(*arguments: str | Path) -> list[str | None]:
    runs = printed(command("status", *arguments, "--json"))["runs"]
    return sorted((run.get("run_id") for run in runs), key=str)


def test_runs_are_chosen(runs: Path) -> None:
    """By criteria and by patterns of paths; what can't be read is not passed over in silence."""
    assert ids(runs) == [None, "failed", "good"]
    assert ids(runs, "--include", "tag=keep") == [None, "good"]
    assert ids(runs, "--exclude", "state=failed") == [None, "good"]
    assert ids(runs, "--include", "age<1h") == [None, "failed", "good"]
    assert ids(runs, "--include", "age>1h") == [None]
    assert ids(runs / "*-good") == ["good"]
    assert ids(runs.parent / "run?", "--include", "go*") == [None, "good"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--include", "tags=a"], 2, "expected id=, name=, tag="),
        (["--exclude", "age>soon"], 2, "the duration 'soon'"),
        (["--name", "x" * 129], 2, "W&B takes 128"),
        (["--tag", ""], 2, "W&B takes 1 to 64"),
        (["--only", "media"], 2, "'metrics'"),
        (["-n", "0"], 2, "1<=x<=64"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    arguments: list[str], code: int, text: str, runs: Path
) -> None:
    """One line, and exit code 2."""
    done = command("sync", runs, *arguments)
    assert (done.returncode, text in done.stderr) == (code, True)


def test_a_choice_is_synced(runs: Path, wandb_server: LoopbackServer, tmp_path: Path) -> None:
    """Only the chosen run arrives, under its other name; --quiet prints nothing."""
    done = command(
        "sync", runs / "*-*[a-z]", "--include", "id=good", "--exclude", "bad", "--name", "other",
        "--tag", "x", "--tag", "y", "--quiet", "-n", "2",
        env=wandb_server.environ(tmp_path / "home"),
    )  # fmt: skip
    assert done.stdout == ""
    assert wandb_server.run_ids("loopback", "digits") == ["good"]
    found = held(wandb_server, "good")
    assert (found.display_name, found.tags) == ("other", ("x", "y"))
