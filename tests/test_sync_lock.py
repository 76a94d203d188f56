"""Syncs of one run at a time: of those that come at once one works, and the dead hold nobody up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import COMMAND, connect, held, sync_one, until
from wandbkeras import Run
from wandbkeras.errors import LockedError, UsageError
from wandbkeras.store.process import STALE_SECONDS, describe_process
from wandbkeras.sync import lock
from wandbkeras.sync.lock import Locks

HOLD = """
import sys
from pathlib import Path
from wandbkeras.sync.lock import Locks

Locks().acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def lock_files(directory: Path) -> list[Path]:
    return [*directory.glob("*.lock")]


def foreign(directory: Path, silent_s: float) -> Path:
    """The file of a sync on another machine that was heard of so long ago."""
    path = directory / "0123456789abcdef.lock"
    path.write_text(json.dumps({**describe_process(), "host": "elsewhere", "boot": "x"}))
    stamp = path.stat().st_mtime - silent_s
    os.utime(path, (stamp, stamp))
    return path


def test_a_lock_is_one_at_a_time(tmp_path: Path) -> None:
    """Within a process too; a lock that was given back leaves nothing."""
    first, second = Locks(), Locks()
    first.acquire(tmp_path)
    with pytest.raises(LockedError, match=f"process {os.getpid()} on "):
        second.acquire(tmp_path)
    first.release(tmp_path)
    second.acquire(tmp_path)
    second.close()
    assert lock_files(tmp_path) == []


def test_who_takes_turns_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than the moments in which two give way to each other; then its name is told."""
    uploader, other = Locks("the live uploader of this run"), Locks()
    pauses: list[float] = []

    def pause(least: float, most: float) -> float:
        pauses.append(most)
        if len(pauses) == 10:
            uploader.release(tmp_path)
        return 0.0

    monkeypatch.setattr(lock.random, "uniform", pause)
    uploader.acquire(tmp_path)
    other.acquire(tmp_path)
    assert len(pauses) == 10
    other.release(tmp_path)
    uploader.acquire(tmp_path)
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.0)
    with pytest.raises(LockedError, match="the live uploader of this run, process"):
        other.acquire(tmp_path)
    uploader.close()


def test_of_many_at_once_never_two_hold_it(tmp_path: Path) -> None:
    """Eight threads want it again and again: nobody who has it ever sees another."""
    inside: list[int] = []
    crowds: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            locks = Locks()
            try:
                locks.acquire(tmp_path)
            except LockedError:
                continue
            inside.append(number)
            crowds.append(len(inside))
            inside.remove(number)
            locks.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(crowds) == {1}
    assert lock_files(tmp_path) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """As long as it lives it does; its file goes with the next lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(LockedError, match=f"process {holder.pid} "):
        Locks().acquire(tmp_path)
    holder.kill()
    holder.communicate()
    locks = Locks()
    locks.acquire(tmp_path)
    assert len(lock_files(tmp_path)) == 1
    locks.close()


def test_one_who_is_killed_before_it_has_the_lock_holds_up_nobody(tmp_path: Path) -> None:
    """What it has begun to write is no lock, and goes when it is old."""
    begun = tmp_path / "0123456789abcdef.unlocked"
    begun.touch()
    locks = Locks()
    locks.acquire(tmp_path)
    locks.close()
    assert begun.exists()  # as of one that writes at this moment
    stamp = begun.stat().st_mtime - STALE_SECONDS - 30
    os.utime(begun, (stamp, stamp))
    locks.acquire(tmp_path)
    locks.close()
    assert list(tmp_path.iterdir()) == []


def test_another_machine_counts_while_it_is_heard_of(tmp_path: Path) -> None:
    """By the time of the file system, with no process to ask."""
    foreign(tmp_path, silent_s=STALE_SECONDS - 30)
    with pytest.raises(LockedError, match="on elsewhere"):
        Locks().acquire(tmp_path)
    old = foreign(tmp_path, silent_s=STALE_SECONDS + 30)
    locks = Locks()
    locks.acquire(tmp_path)
    assert not old.exists()
    locks.close()


def test_where_nothing_can_be_written_nothing_is_sent(tmp_path: Path) -> None:
    """The message names the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--state-dir"):
        Locks().acquire(tmp_path / "file")


def test_a_run_that_is_being_synced_is_locked(
    start: Callable[..., Run],
    wandb_server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second sync sends nothing, leaves no failure behind, and the first one ends as it would."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    run = start(project="digits", id="k3j9x2ab")
    for i in range(3):
        run.log({"loss": i})
    run.finish()
    path = Path(run.dir or "")
    wandb_server.add_fault("delay", kind="file_stream", seconds=60.0)
    first = subprocess.Popen([COMMAND, "sync", path], env=wandb_server.environ(tmp_path / "home"))
    until(lambda: lock_files(path / "sync") != [])
    error = sync_one(path).error
    assert isinstance(error, LockedError)
    assert (error.exit_code, error.retryable) == (11, True)
    assert f"process {first.pid} on " in str(error)
    assert [file.suffix for file in (path / "sync").iterdir()] == [".lock"]
    first.kill()
    first.wait()
    wandb_server.clear_faults()
    assert sync_one(path, settle_s=1.0).error is None
    assert [row["loss"] for row in held(wandb_server, "k3j9x2ab").rows] == [0, 1, 2]
    assert lock_files(path / "sync") == []
