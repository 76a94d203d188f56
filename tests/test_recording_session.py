"""The active run of a process: one at a time, resumed by id, its parent's alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import wandbkeras
from wandbkeras.errors import RunExistsError, UsageError, WandbkerasError
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def test_a_second_init_returns_the_active_run(
    start: Start, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so, and makes nothing."""
    run = start(id="first")
    assert start(id="second") is run
    assert "run first is active already" in capsys.readouterr().err
    assert [stored.info.id for stored in Store(store).runs()] == ["first"]
    run.finish()
    assert start(id="second") is not run


def test_the_module_acts_on_the_active_run(start: Start, stored: Stored) -> None:
    """``wandbkeras.log`` and friends are the run's own."""
    run = start()
    wandbkeras.define_metric("loss", summary="max")
    wandbkeras.log({"loss": 1.0})
    wandbkeras.log({"loss": 2.0}, step=5, commit=True)
    wandbkeras.log_artifact(__file__, name="n", type="t")
    wandbkeras.config["a"] = 1
    wandbkeras.summary["b"] = 2
    wandbkeras.finish(exit_code=3)
    found = stored(run)
    assert [row.step for row in found.rows()] == [0, 5]
    assert (found.config, found.summary) == ({"a": 1}, {"loss": {"max": 2.0}, "b": 2})
    assert (len(found.artifacts), found.state, found.exit_code) == (1, "failed", 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: wandbkeras.log({"a": 1}),
        lambda: wandbkeras.define_metric("a"),
        lambda: wandbkeras.log_artifact(__file__),
        lambda: wandbkeras.config,
        lambda: wandbkeras.summary,
    ],
)
def test_without_a_run_the_module_says_what_to_call(call: Callable[[], object]) -> None:
    """The message names ``init`` and what was called."""
    with pytest.raises(WandbkerasError, match=r"call wandbkeras.init\(\) before wandbkeras\."):
        call()


def test_finishing_twice_or_nothing_is_no_error(start: Start, stored: Stored) -> None:
    """The first call counts."""
    wandbkeras.finish()
    run = start()
    run.finish(2)
    run.finish(0)
    wandbkeras.finish()
    assert run.is_finished
    assert stored(run).exit_code == 2


def test_a_context_manager_finishes_the_run(start: Start, stored: Stored) -> None:
    """Success, an exception and ``sys.exit`` each leave their exit code, and pass on."""
    with start() as run:
        run.log({"a": 1})
    assert (stored(run).state, stored(run).exit_code) == ("finished", 0)
    for error, code in ((ValueError("no"), 1), (SystemExit(3), 3), (KeyboardInterrupt(), 130)):
        with pytest.raises(type(error)), start() as run:
            raise error
        assert (stored(run).state, stored(run).exit_code) == ("failed", code)
    with pytest.raises(SystemExit), start() as run:
        raise SystemExit(0)
    assert stored(run).state == "finished"


def test_a_disabled_run_takes_every_call_and_writes_nothing(start: Start, store: Path) -> None:
    """A script runs unchanged; steps, config and summary work in memory."""
    run = start(mode="disabled", config={"lr": 0.1})
    assert (run.disabled, run.dir) == (True, None)
    run.log({"a": 1})
    run.log({"b": {"c": 2}}, step=7)
    run.log({"d": 3}, commit=False)
    assert run.step == 7
    run.define_metric("a", summary="max")
    run.summary["s"] = 1
    run.config.batch = 32
    run.sync()
    run.record_failure("somewhere", "something")
    assert dict(run.config) == {"lr": 0.1, "batch": 32}
    assert dict(run.summary) == {"a": 1, "b.c": 2, "d": 3, "s": 1}
    with pytest.raises(WandbkerasError):
        run.log({"a": object()})
    run.finish()
    assert not store.exists()


def test_an_id_is_used_again_only_to_go_on(start: Start, store: Path) -> None:
    """Without ``resume``, or with ``never``, an id that is in the store is refused."""
    start(id="k3j9x2ab").finish()
    for resume in (None, "never", False):
        with pytest.raises(RunExistsError, match=r"run 'k3j9x2ab' is in .* already: pass resume"):
            start(id="k3j9x2ab", resume=resume)
    assert len(Store(store).runs()) == 1


def test_must_resume_needs_a_run(start: Start, store: Path) -> None:
    """``must`` refuses an id that is not in the store, and to guess one."""
    with pytest.raises(RunExistsError, match='resume="must", but it is not in'):
        start(id="k3j9x2ab", resume="must")
    with pytest.raises(UsageError, match='resume="must" without an id'):
        start(resume="must")
    assert Store(store).runs() == []


@pytest.mark.parametrize("resume", ["allow", "must", "auto", True])
def test_a_resumed_run_goes_on_where_it_was(start: Start, store: Path, resume: str | bool) -> None:
    """Steps, runtime, config, summary and aggregates go on; it is one run of two attempts."""
    first = start(id="k3j9x2ab", name="n", config={"lr": 0.1, "old": 1})
    first.define_metric("loss", summary="min", step_metric="epoch")
    first.log({"loss": 1.0, "epoch": 4})
    first.log({"loss": 2.0, "gone": 1}, step=5, commit=True)
    first.finish(1)
    second = start(id="k3j9x2ab", resume=resume, config={"lr": 0.2})
    assert (second.dir, second.name, second.step) == (first.dir, "n", 6)
    assert dict(second.config) == {"lr": 0.2, "old": 1}
    del second.config["old"]
    del second.summary["gone"]
    second.log({"loss": 3.0})
    assert second.summary["loss"] == {"min": 1.0}
    second.finish()
    run = Store(store).run("k3j9x2ab")
    rows = list(run.rows())
    assert [(row.step, row.attempt) for row in rows] == [(0, 0), (5, 0), (6, 1)]
    assert rows[2].values == {"loss": 3.0, "epoch": 4}
    assert rows[2].runtime > rows[1].runtime
    assert run.config == {"lr": 0.2}
    assert run.summary == dict(second.summary) == {"loss": {"min": 1.0}, "epoch": 4}
    assert (run.state, run.exit_code) == ("finished", 0)


def test_resuming_what_is_not_there_begins_it(start: Start, store: Path) -> None:
    """``allow`` with a new id makes the run, and ``never`` does too."""
    start(id="a", resume="allow").finish()
    start(id="b", resume="never").finish()
    assert sorted(run.info.id for run in Store(store).runs()) == ["a", "b"]


_WORKER = """
import sys, wandbkeras
run = wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab", resume="allow")
run.log({sys.argv[2]: 1})
print("logged", flush=True)
sys.stdin.read()
run.log({sys.argv[2]: 2})
"""

_FORK = """
import os, sys, wandbkeras
run = wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab")
run.log({"a": 1})
child = os.fork()
if not child:
    run.log({"child": 1})
    run.summary["child"] = 1
    run.log_artifact(sys.executable)
    run.finish(9)
    sys.exit(0 if wandbkeras.run is None else 2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
run.log({"a": 2})
"""


def _two_workers(store: Path, *launches: str) -> StoredRun:
    """Let two processes, of the same launch or of different ones, log side by side."""
    workers = []
    for metric, launch in zip("ab", launches, strict=True):
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(store), metric],
            env={**os.environ, "SLURM_JOB_ID": launch},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"logged\n"
        workers.append(worker)
    assert Store(store).run("k3j9x2ab").state == "running"
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    return Store(store).run("k3j9x2ab")


def test_processes_of_one_launch_write_side_by_side(store: Path) -> None:
    """Workers of one job share an attempt: each step is one row, of the metrics of both."""
    run = _two_workers(store, "7", "7")
    assert [row.values for row in run.rows()] == [{"a": 1, "b": 1}, {"a": 2, "b": 2}]
    assert [view.number for view in run.attempts] == [0, 0]
    assert (run.state, run.row_count, run.summary) == ("finished", 2, {"a": 2, "b": 2})


def test_a_later_launch_goes_on_even_where_the_one_before_seems_to_live(store: Path) -> None:
    """A requeued job is the next attempt: it takes over from its first step on."""
    run = _two_workers(store, "7", "8")
    assert [row.values for row in run.rows()] == [{"a": 1}, {"b": 1}, {"b": 2}]
    assert [view.number for view in run.attempts] == [0, 1]
    assert [row.attempt for row in run.rows()] == [0, 1, 1]
    assert run.state == "finished"


def test_a_forked_child_does_not_write(store: Path) -> None:
    """The run is the parent's: what a child logs, or its end, leaves no trace in it."""
    subprocess.run([sys.executable, "-c", _FORK, str(store)], check=True)
    found = Store(store).run("k3j9x2ab")
    assert [row.values for row in found.rows()] == [{"a": 1}, {"a": 2}]
    assert (found.summary, found.state, found.artifacts) == ({"a": 2}, "finished", [])
