"""Rows that have arrived and a later attempt replaces: the run goes on elsewhere, linked."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import connect, held, receipts, sync_one
from wandbkeras import Run, Store
from wandbkeras.errors import ConflictError, RolledBackError, UnreachableError
from wandbkeras.sync.options import Options
from wandbkeras.sync.watch import Event, Pace, Watcher

# Goes on from the step of its checkpoint, and logs as many rows as it is told to.
ATTEMPT = """
import sys, wandbkeras
run = wandbkeras.init(project="digits", dir=sys.argv[1], id="k3j9x2ab", resume="allow")
if run.resumed:
    run.roll_back(int(sys.argv[2]))
else:
    run.alert("begun", "by the first attempt")
for line in sys.stdin:
    for _ in range(int(line)):
        run.log({"loss": 1.0 / (run.step + 1), "attempt": int(sys.argv[3])})
    print("logged", flush=True)
"""


@pytest.fixture(autouse=True)
def _connected(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(wandb_server, tmp_path / "home", monkeypatch)


class Attempt:
    """A training process of the run ``k3j9x2ab``."""

    def __init__(self, store: Path, from_step: int, number: int) -> None:
        command = [sys.executable, "-c", ATTEMPT, str(store), str(from_step), str(number)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def log(self, rows: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(rows, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "logged\n"

    def preempt(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait() == -signal.SIGTERM

    def end(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


def arrived(events: Iterator[Event]) -> tuple[str, str, int]:
    """Where the run went, as which state, and with how many rows, by the next event."""
    event = next(events)
    assert event.kind == "arrived", event.error
    assert event.result is not None
    assert event.result.receipt is not None
    receipt = event.result.receipt
    return receipt.run_id, receipt.state, receipt.rows


def failed(events: Iterator[Event]) -> type[Exception]:
    event = next(events)
    assert event.kind == "failed"
    return type(event.error)


def test_three_attempts_with_rollbacks_are_one_clean_curve(
    wandb_server: LoopbackServer, store: Path
) -> None:
    """Watched all the time, with the network cut twice: each step is there once, and linked."""
    store.mkdir()
    options = Options(timeout_s=30.0, settle_s=0.0, on_rollback="fresh-id")
    watcher = Watcher(
        lambda: Store(store).paths(), [store], options, Pace(0.05, exit_when_done=True)
    )
    events = watcher.events()
    first = Attempt(store, 0, 0)
    first.log(10)
    assert arrived(events) == ("k3j9x2ab", "running", 10)
    first.preempt()
    assert arrived(events) == ("k3j9x2ab", "preempted", 10)
    second = Attempt(store, 6, 1)
    second.log(2)
    assert arrived(events) == ("k3j9x2ab-2", "running", 8)
    second.log(4)
    wandb_server.kill()
    assert failed(events) is UnreachableError
    second.log(1)
    wandb_server.restart()
    assert arrived(events) == ("k3j9x2ab-2", "running", 13)
    second.preempt()
    wandb_server.kill()
    assert failed(events) is UnreachableError
    third = Attempt(store, 10, 2)
    third.log(1)
    wandb_server.restart()
    assert arrived(events) == ("k3j9x2ab-3", "running", 11)
    third.log(5)
    third.end()
    assert arrived(events) == ("k3j9x2ab-3", "finished", 16)
    assert (list(events), watcher.exit_code) == ([], 0)
    rows = held(wandb_server, "k3j9x2ab-3").rows
    assert [row["_step"] for row in rows] == list(range(16))
    assert [row["attempt"] for row in rows] == [0] * 6 + [1] * 4 + [2] * 6
    assert [row["loss"] for row in rows] == [1.0 / (step + 1) for step in range(16)]
    assert_linked(wandb_server, ["k3j9x2ab", "k3j9x2ab-2", "k3j9x2ab-3"])
    alerts = [len(wandb_server.run("loopback", "digits", name).alerts) for name in RUNS]
    assert alerts == [1, 0, 0]


RUNS = ("k3j9x2ab", "k3j9x2ab-2", "k3j9x2ab-3")


def assert_linked(server: LoopbackServer, names: list[str]) -> None:
    """Each run tells the one before it and the one after it, in config and notes."""
    for number, name in enumerate(names):
        run = server.run("loopback", "digits", name)
        links = {}
        if number > 0:
            links["continues"] = f"{server.url}/loopback/digits/runs/{names[number - 1]}"
        if number + 1 < len(names):
            links["continued_as"] = f"{server.url}/loopback/digits/runs/{names[number + 1]}"
            assert (run.notes or "").count(links["continued_as"]) == 1
        assert run.config_values.get("wandbkeras", {}) == links


def rolled_back(start: Callable[..., Run], server: LoopbackServer) -> Path:
    """A run of which three rows have arrived when an attempt goes on from the second one."""
    run = start(project="digits", id="k3j9x2ab", notes="mine", config={"lr": 0.1})
    run.log_artifact(__file__, name="code", type="code")
    for loss in (1.0, 0.5, 0.4):
        run.log({"loss": loss})
    run.finish()
    assert sync_one(run.dir).error is None
    run = start(id="k3j9x2ab", resume="allow")
    run.roll_back(1)
    run.log({"loss": 0.6})
    run.finish()
    return Path(run.dir or "")


def test_nothing_is_sent_unless_it_is_asked_for(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """It is said what has happened and what can be done; then the run goes whole, once."""
    path = rolled_back(start, wandb_server)
    before = held(wandb_server, "k3j9x2ab")
    result = sync_one(path)
    assert isinstance(result.error, RolledBackError)
    assert (result.exit_code, "--on-rollback fresh-id" in str(result.error)) == (10, True)
    assert held(wandb_server, "k3j9x2ab") == before
    result = sync_one(path, on_rollback="fresh-id")
    assert (result.outcome, result.rows_sent, result.artifacts_sent) == ("verified", 2, 1)
    assert [row["loss"] for row in held(wandb_server, "k3j9x2ab-2").rows] == [1.0, 0.6]
    assert_linked(wandb_server, ["k3j9x2ab", "k3j9x2ab-2"])
    earlier = wandb_server.run("loopback", "digits", "k3j9x2ab")
    assert (earlier.state, str(earlier.notes).startswith("mine\n\n")) == ("finished", True)
    assert earlier.config_values["lr"] == 0.1
    assert "_wandb" in earlier.config
    assert sync_one(path).outcome == "unchanged"
    assert {receipt.run_id for receipt in receipts(path)} == {"k3j9x2ab", "k3j9x2ab-2"}
    # On another machine, without what stands beside the receipts, the same id is found again.
    shutil.rmtree(path / "sync")
    assert sync_one(path, on_rollback="fresh-id").rows_sent == 0
    assert wandb_server.run_ids("loopback", "digits") == ["k3j9x2ab", "k3j9x2ab-2"]
    assert_linked(wandb_server, ["k3j9x2ab", "k3j9x2ab-2"])


def test_rows_of_somebody_else_are_no_rollback(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """Of a run that was rolled back, too: those are a conflict, whatever is said of rollbacks."""
    run = start(project="digits", id="k3j9x2ab")
    run.log({"loss": 3.0})
    run.finish()
    assert sync_one(run.dir).error is None
    shutil.rmtree(run.dir or "")
    path = rolled_back_unsent(start)
    result = sync_one(path, on_rollback="fresh-id")
    assert type(result.error) is ConflictError
    assert wandb_server.run_ids("loopback", "digits") == ["k3j9x2ab"]


def rolled_back_unsent(start: Callable[..., Run]) -> Path:
    for losses in ((1.0, 0.5), (0.6,)):
        run = start(project="digits", id="k3j9x2ab", resume="allow")
        if run.resumed:
            run.roll_back(1)
        for loss in losses:
            run.log({"loss": loss})
        run.finish()
    return Path(run.dir or "")
