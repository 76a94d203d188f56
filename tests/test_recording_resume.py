"""Going on with a run: from a checkpoint, after a crash, and when many begin at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import wandbkeras
from wandbkeras.errors import UsageError
from wandbkeras.store.directory import Store

Start = Callable[..., wandbkeras.Run]


def _first_attempt(start: Start) -> None:
    """Log ten steps, and to the summary what only the last of them know."""
    run = start(id="k3j9x2ab", config={"lr": 0.1})
    run.define_metric("low", summary="min")
    for step in range(10):
        run.log({"loss": 10.0 - step, "low": 10 - step})
        if step == 4:
            run.summary["best"] = "early"
    run.summary["best"] = "late"
    run.finish(1)


def test_a_resumed_run_may_be_rolled_back(start: Start, store: Path) -> None:
    """Rows from a step on no longer count, and the summary is what it was before them."""
    _first_attempt(start)
    run = start(id="k3j9x2ab", resume="must")
    assert (run.step, run.resumed, run.has_begun) == (10, True, False)
    run.roll_back(6)
    assert run.step == 6
    assert dict(run.summary) == {"loss": 5.0, "low": {"min": 5}, "best": "early"}
    assert dict(run.config) == {"lr": 0.1}
    run.log({"loss": 0.5, "low": 7})
    run.finish()
    found = Store(store).run("k3j9x2ab")
    rows = [(row.step, row.attempt, row.values["loss"]) for row in found.rows()]
    assert rows == [*((step, 0, 10.0 - step) for step in range(6)), (6, 1, 0.5)]
    assert found.summary == {"loss": 0.5, "low": {"min": 5}, "best": "early"}
    assert found.row_count == 7


def test_a_first_step_that_lies_behind_rolls_back(start: Start, store: Path) -> None:
    """A script that goes on from its checkpoint with explicit steps needs no other word."""
    _first_attempt(start)
    run = start(id="k3j9x2ab", resume="must")
    run.log({"loss": 0.5}, step=3)
    run.log({"loss": 0.25}, step=2)  # a step that goes back within an attempt is one
    run.finish()
    found = Store(store).run("k3j9x2ab")
    assert [(row.step, row.values["loss"]) for row in found.rows()][-2:] == [(2, 8.0), (3, 0.5)]
    assert found.folded.dropped == 1


def test_an_attempt_that_logs_nothing_hides_nothing(start: Start, store: Path) -> None:
    """Rolled back and ended before its first row, an attempt leaves the history as it was."""
    _first_attempt(start)
    run = start(id="k3j9x2ab", resume="must")
    run.roll_back(2)
    run.finish()
    assert [row.step for row in Store(store).run("k3j9x2ab").rows()] == list(range(10))


def test_rolling_back_is_for_the_beginning_of_a_resumed_run(start: Start) -> None:
    """Elsewhere it is refused."""
    run = start(id="k3j9x2ab")
    with pytest.raises(UsageError, match="roll_back: expected a resumed run"):
        run.roll_back(0)
    run.log({"a": 1})
    run.finish()
    run = start(id="k3j9x2ab", resume="allow")
    with pytest.raises(UsageError, match="received step -1"):
        run.roll_back(-1)
    run.log({"a": 1}, commit=False)
    assert run.has_begun
    with pytest.raises(UsageError, match="that has not logged a row yet"):
        run.roll_back(0)


_CRASH = """
import os, sys, wandbkeras
run = wandbkeras.init(dir=sys.argv[1], id=sys.argv[2], project=sys.argv[3] or None)
run.log({"a": 1})
if sys.argv[4] == "crash":
    os._exit(9)
"""


def _record(store: Path, run_id: str, project: str, end: str) -> None:
    subprocess.run([sys.executable, "-c", _CRASH, str(store), run_id, project, end], check=False)


def test_auto_goes_on_with_the_run_that_crashed(start: Start, store: Path) -> None:
    """Without an id it is the project's latest run, if that one crashed."""
    _record(store, "other", "q", "crash")
    _record(store, "mine", "p", "crash")
    run = start(project="p", resume="auto")
    assert (run.id, run.step) == ("mine", 1)
    run.finish()
    run = start(project="p", resume="auto")
    assert run.id not in ("mine", "other")
    run.finish()
    assert start(project="q", resume=True).id == "other"


def test_an_id_that_ends_like_another_is_its_own_run(start: Start, store: Path) -> None:
    """``b`` is not ``a-b``."""
    start(id="a-b").finish()
    start(id="b").finish()
    start(id="20261123_000000-b").finish()
    assert sorted(run.info.id for run in Store(store).runs()) == ["20261123_000000-b", "a-b", "b"]


_TOGETHER = """
import sys, wandbkeras
print("ready", flush=True)
sys.stdin.readline()
with wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab", resume="allow") as run:
    print("open", flush=True)
    sys.stdin.readline()
    for value in range(5):
        run.log({sys.argv[2]: value})
"""


def _in_step(workers: list[subprocess.Popen[str]], word: str) -> None:
    """Let all go on once each has said ``word``."""
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == f"{word}\n"
    for worker in workers:
        assert worker.stdin is not None
        print("go on", file=worker.stdin, flush=True)


@pytest.mark.parametrize("earlier", [False, True])
def test_workers_that_begin_at_once_write_one_attempt(store: Path, earlier: bool) -> None:
    """Of workers that start, or resume, at the same moment one begins and the others join."""
    if earlier:
        _record(store, "k3j9x2ab", "p", "finish")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _TOGETHER, str(store), name],
            env={**os.environ, "SLURM_JOB_ID": "7"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c", "d")
    ]
    _in_step(workers, "ready")
    _in_step(workers, "open")
    assert [worker.wait() for worker in workers] == [0] * 4
    (run,) = Store(store).runs()
    rows = [row.values for row in run.rows()][-5:]
    assert rows == [{"a": i, "b": i, "c": i, "d": i} for i in range(5)]
    assert {view.number for view in run.attempts} == {0, 1} if earlier else {0}
    assert (run.state, run.damage) == ("finished", [])


def test_two_launches_of_one_run_are_told(
    start: Start, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The later one counts, nothing of the other is overwritten, and one line says so."""
    with subprocess.Popen(
        [sys.executable, "-c", _TOGETHER, str(store), "a"],
        env={**os.environ, "SLURM_JOB_ID": "another launch"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        _in_step([other], "ready")
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        run = start(id="k3j9x2ab", resume="allow")
        (line,) = capsys.readouterr().err.splitlines()
        assert f"process {other.pid} on " in line
        assert "what it logs from step 0 on is kept but no longer counts" in line
        run.log({"b": 1})
        assert other.stdin is not None
        print("go on", file=other.stdin, flush=True)
    run.finish()
    found = Store(store).run("k3j9x2ab")
    assert [(row.step, row.attempt, row.values) for row in found.rows()] == [(0, 1, {"b": 1})]
    assert [view.state.rows for view in found.attempts] == [5, 1]
    start(id="k3j9x2ab", resume="allow").finish()
    assert capsys.readouterr().err == ""
