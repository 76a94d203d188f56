"""The uploader of a live run by itself: what it says when it has to wait or can't work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tests.server.process import LoopbackServer
from tests.syncing import held, sync_one
from wandbkeras.store.live import LiveState, read_live, write_live
from wandbkeras.sync.live import LOCKS, WHO, Uploader
from wandbkeras.sync.lock import Locks


def upload(path: Path, tell: Callable[[LiveState], None] = lambda state: None) -> LiveState:
    """Upload a run whose training has ended; return the last state."""
    gone = threading.Event()
    gone.set()
    return Uploader(path, gone, lambda state, is_news: tell(state), interval_s=0.01).run()


def test_there_is_one_uploader_of_a_run(finished: Path, server: LoopbackServer) -> None:
    """The next one says who the first one is, and works when that has ended."""
    first, directory = Locks(WHO), finished / "sync" / LOCKS
    first.acquire(directory)
    said: list[str] = []

    def tell(state: LiveState) -> None:
        if state.phase == "waiting":
            said.append(state.error or "")
            first.release(directory)

    state = upload(finished, tell)
    assert len(said) == 1
    assert "the live uploader of this run, process" in said[0]
    assert (state.phase, state.arrived, state.rows, state.error) == ("ended", True, 1, None)
    assert held(server, "k3j9x2ab").state == "finished"
    assert list(directory.iterdir()) == []


def test_a_server_that_refuses_is_no_reason_to_wait(finished: Path, server: LoopbackServer) -> None:
    """As a wrong key is none: what is left is told, and a sync brings it."""
    server.add_fault("status", operation="UpsertBucket", status=403)
    state = upload(finished)
    assert (state.phase, state.arrived, state.pending) == ("ended", False, 1)
    assert "the run was refused" in (state.error or "")
    server.clear_faults()
    assert sync_one(finished).rows_sent == 1


def test_without_room_for_receipts_nothing_is_sent(finished: Path) -> None:
    """The reason is told, and nothing is waited for."""
    (finished / "sync").mkdir()
    (finished / "sync" / LOCKS).write_text("in the way")
    state = upload(finished)
    assert (state.phase, state.arrived, state.pending) == ("ended", False, 1)
    assert "no receipt could be written here" in (state.error or "")


def test_a_note_of_a_dead_process_is_that_of_one_that_was_killed(
    tmp_path: Path,
) -> None:
    """Unless it said that it ended; a damaged note is none."""
    state = LiveState("following", rows=5, error=None)
    write_live(tmp_path, state)
    assert read_live(tmp_path) == state
    dead = LiveState(**{**vars(state), "process": {**state.process, "started": 1}})
    write_live(tmp_path, dead)
    assert read_live(tmp_path) == LiveState(**{**vars(dead), "phase": "gone"})
    ended = LiveState(**{**vars(dead), "phase": "ended"})
    write_live(tmp_path, ended)
    assert read_live(tmp_path) == ended
    (tmp_path / "live.json").write_text("{}")
    assert read_live(tmp_path) is None
