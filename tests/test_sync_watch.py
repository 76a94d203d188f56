"""Watching: what comes is synced, what fails is tried again, what is done costs nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import held, sync_one
from wandbkeras import Run, Store
from wandbkeras.errors import LockedError, NotFoundError, UnreachableError
from wandbkeras.sync import watch
from wandbkeras.sync.options import Options
from wandbkeras.sync.watch import Event, Pace, Watcher

TRAINING = """
import sys, wandbkeras
run = wandbkeras.init(project="digits", id="first", dir=sys.argv[1])
for number in range(3):
    run.log({"loss": number})
print("logged", flush=True)
sys.stdin.read()
"""
QUICK = Pace(interval_s=0.05, exit_when_done=True)


@pytest.fixture
def watching(store: Path) -> Callable[..., Watcher]:
    """A watcher of the store, which is quick."""
    store.mkdir()

    def made(pace: Pace = QUICK, **arguments: Any) -> Watcher:
        options = Options(timeout_s=30.0, settle_s=0.0)
        arguments = {"find": lambda: Store(store).paths(), "stores": [store], **arguments}
        return Watcher(options=options, pace=pace, **arguments)

    return made


def told(event: Event) -> tuple[str, str, int, str]:
    assert event.result is not None
    assert event.result.receipt is not None
    receipt = event.result.receipt
    return event.kind, receipt.run_id, receipt.rows, receipt.state


def test_a_run_is_followed_from_its_first_row_to_its_end(
    start: Callable[..., Run], server: LoopbackServer, watching: Callable[..., Watcher]
) -> None:
    """Each row arrives once, a run that comes later is found, and the states are the true ones."""
    watcher = watching()
    events = watcher.events()
    run = start(project="digits", id="first")
    for i in range(3):
        run.log({"loss": i})
    # What may still grow, the row of the last step, waits for the next one.
    assert told(next(events))[1:] == ("first", 3, "running")
    assert watcher.exit_code == 6
    run.log({"loss": 3})
    assert told(next(events)) == ("arrived", "first", 4, "running")
    run.finish()
    assert told(next(events)) == ("arrived", "first", 4, "finished")
    assert (watcher.exit_code, list(events)) == (0, [])
    assert [row["loss"] for row in held(server, "first").rows] == [0, 1, 2, 3]
    assert held(server, "first").state == "finished"


def test_a_run_that_comes_later_is_found(
    start: Callable[..., Run], server: LoopbackServer, watching: Callable[..., Watcher]
) -> None:
    """One that was there from the beginning is no news; a finished one needs no second look."""
    first = start(project="digits", id="first")
    first.finish()
    watcher = watching(Pace(interval_s=0.05))
    events = watcher.events()
    assert told(next(events)) == ("arrived", "first", 0, "finished")
    second = start(project="digits", id="second")
    second.log({"loss": 1.0})
    second.finish(exit_code=3)
    found = next(events)
    assert (found.kind, found.path) == ("found", Path(second.dir or ""))
    assert told(next(events)) == ("arrived", "second", 1, "failed")
    events.close()
    assert watcher.exit_code == 0


def test_what_has_arrived_costs_no_request(
    start: Callable[..., Run], server: LoopbackServer, watching: Callable[..., Watcher]
) -> None:
    """Also for a watcher that starts anew: the receipts say so."""
    run = start(project="digits")
    run.finish()
    sync_one(run.dir)
    before = len(server.requests())
    watcher = watching()
    assert list(watcher.events()) == []
    assert (watcher.exit_code, len(server.requests())) == (0, before)


def test_a_network_that_is_gone_is_said_once_and_waited_for(
    start: Callable[..., Run], server: LoopbackServer, watching: Callable[..., Watcher]
) -> None:
    """Then the run arrives; what was sent before the outage is not sent again."""
    run = start(project="digits", id="first")
    run.log({"loss": 1.0})
    run.finish()
    watcher = watching()
    events = watcher.events()
    server.kill()
    failed = next(events)
    assert (failed.kind, type(failed.error)) == ("failed", UnreachableError)
    assert watcher.exit_code == UnreachableError.exit_code
    server.restart()
    assert [told(event) for event in events] == [("arrived", "first", 1, "finished")]
    assert len(held(server, "first").rows) == 1


def test_a_run_that_hangs_holds_up_no_other(
    start: Callable[..., Run],
    server: LoopbackServer,
    watching: Callable[..., Watcher],
    store: Path,
    tmp_path: Path,
) -> None:
    """One that comes while it hangs arrives before it, and it arrives when it no longer hangs."""
    for name in ("first", "second"):
        run = start(project="digits", id=name)
        run.log({"loss": 1.0})
        run.finish()
    second = Path(run.dir or "")
    second.rename(tmp_path / second.name)
    server.add_fault("hold", path="*/digits/first/file_stream")

    def progress(text: str) -> None:
        if text.startswith("uploading") and not second.exists():
            (tmp_path / second.name).rename(second)

    events = watching(progress=progress).events()
    assert next(events).path == second
    assert told(next(events)) == ("arrived", "second", 1, "finished")
    server.clear_faults()
    assert [told(event) for event in events] == [("arrived", "first", 1, "finished")]


def test_a_running_run_is_kept_alive(
    start: Callable[..., Run],
    server: LoopbackServer,
    watching: Callable[..., Watcher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server hears of it although it logs nothing, and doesn't take it for crashed."""
    run = start(project="digits", id="first")
    run.log({"loss": 1.0})
    run.log({"loss": 0.5}, commit=False)
    sync_one(run.dir)
    run.log({"more": 0.5}, commit=False)  # a record, and nothing to send yet
    beats = len([r for r in server.requests() if r.operation == "UpsertBucket"])
    stopping = threading.Event()

    def progress(text: str) -> None:
        if "reading back" in text:
            stopping.set()

    monkeypatch.setattr(watch, "KEEP_ALIVE_S", 0.0)
    watcher = watching(Pace(interval_s=0.05), stopping=stopping, progress=progress)
    (arrived,) = watcher.events()
    assert told(arrived) == ("arrived", "first", 1, "running")
    assert arrived.result is not None
    assert arrived.result.rows_sent == 0
    assert len([r for r in server.requests() if r.operation == "UpsertBucket"]) > beats


def test_a_run_whose_heartbeat_is_silent_has_failed(
    server: LoopbackServer,
    watching: Callable[..., Watcher],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A killed process of another machine, which can't be looked at; it is running until then."""
    monkeypatch.setattr("wandbkeras.store.process.platform.node", lambda: "login")
    events = watching().events()
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as training:
        assert training.stdout is not None
        assert training.stdout.readline() == b"logged\n"
        assert told(next(events)) == ("arrived", "first", 3, "running")
        training.kill()
    monkeypatch.setattr("wandbkeras.store.process.STALE_SECONDS", 0.0)
    assert told(next(events)) == ("arrived", "first", 3, "failed")
    assert list(events) == []
    assert (held(server, "first").state, len(held(server, "first").rows)) == ("failed", 3)


def test_there_is_one_watcher_of_a_store(watching: Callable[..., Watcher], store: Path) -> None:
    """The second one is told who the first one is; after its end another one may come."""
    stopping = threading.Event()

    def find() -> list[Path]:
        with pytest.raises(LockedError, match=r"process \d+ on .* is watching these runs"):
            next(watching().events())
        stopping.set()
        return []

    assert list(watching(Pace(), find=find, stopping=stopping).events()) == []
    assert list((store / watch.LOCKS).iterdir()) == []


def test_a_store_that_vanishes_is_said_once(watching: Callable[..., Watcher]) -> None:
    """And looked for again: a mount comes back."""
    answers = [NotFoundError("gone"), NotFoundError("gone"), OSError("stale file handle")]
    stopping = threading.Event()

    def find() -> list[Path]:
        if not answers:
            stopping.set()
            return []
        raise answers.pop(0)

    events = list(watching(Pace(0.01), find=find, stopping=stopping).events())
    assert [(event.kind, str(event.error)) for event in events] == [
        ("unreadable", "gone"),
        ("unreadable", "stale file handle"),
    ]


def test_a_watch_ends_when_nothing_comes(watching: Callable[..., Watcher]) -> None:
    """Without a run it does not end because all are done: the job may still be waiting in line."""
    looks: list[int] = []

    def find() -> list[Path]:
        looks.append(1)
        return []

    pace = Pace(interval_s=0.01, exit_when_done=True, idle_timeout_s=0.05)
    assert list(watching(pace, find=find).events()) == []
    assert len(looks) > 1
