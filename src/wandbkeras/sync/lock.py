"""One sync of a run at a time, on any file system: who comes says so, then looks around.

Each sync puts a file of its own beside the receipts and then lists them: of two that come at once
at least one sees the other, and whoever sees another one gives way. No file is ever locked or
overwritten, so it holds where ``flock`` does not, and for other machines on the same file system.
A file whose process is dead, or on another machine silent for 90 s, counts no more.

What it does not promise: two copies of a run are two runs to it.
"""

from __future__ import annotations

import json
import random
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from wandbkeras.errors import LockedError, UsageError
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.process import STALE_SECONDS, describe_process, is_alive

HEARTBEAT_S = 15.0
_TRIES = 4
_LONGEST_PAUSE_S = 0.5
_PATIENCE_S = 30.0
_SUFFIX, _UNFINISHED = ".lock", ".unlocked"


class Locks:
    """The locks that this process holds, with one thread that shows that it lives.

    ``who`` it is, is told to those who find a lock taken. Who says that holds it for moments, again
    and again, so others wait for their turn.
    """

    def __init__(self, who: str = "") -> None:
        self._who = who
        self._held: dict[Path, Path] = {}
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, directory: Path, purpose: str = "is syncing this run") -> None:
        """Lock the run whose receipts lie in ``directory``; LockedError if another one holds it.

        UsageError where no file can be made: no receipt could be written either. ``purpose`` is
        what the other one does, as the message says it.
        """
        tries, patient_until = 0, time.monotonic() + _PATIENCE_S
        while True:
            mine = _announce(directory, self._who)
            others = [other for other in _living(directory, mine) if other != mine]
            if not others:
                self._hold(directory, mine)
                return
            mine.unlink()
            tries += 1
            takes_turns = not self._who and any(map(_who, others))
            if tries >= _TRIES and not (takes_turns and time.monotonic() < patient_until):
                break
            # Perhaps it came at the same moment and has given way, too.
            time.sleep(random.uniform(0.0, _LONGEST_PAUSE_S))
        raise LockedError(
            f"{directory}: {_owner(others[0])} {purpose}: try again when it has ended"
        )

    def release(self, directory: Path) -> None:
        """Give the lock back; nothing happens if it isn't held."""
        with self._mutex:
            mine = self._held.pop(directory, None)
        if mine is not None:
            with suppress(OSError):  # taken for dead, it may have been removed
                mine.unlink()

    def close(self) -> None:
        """Give all locks back."""
        self._stop.set()
        for directory in list(self._held):
            self.release(directory)

    def _hold(self, directory: Path, mine: Path) -> None:
        with self._mutex:
            self._held[directory] = mine
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with self._mutex:
                held = list(self._held.values())
            for path in held:
                with suppress(OSError):
                    path.touch()


def _announce(directory: Path, who: str) -> Path:
    path = directory / f"{secrets.token_hex(8)}{_SUFFIX}"
    # Whole from the first moment: of one who was killed while writing nobody could tell that.
    unfinished = path.with_suffix(_UNFINISHED)
    try:
        make_directories(Disk(), directory)
        with unfinished.open("x") as file:
            json.dump({**describe_process(), "who": who}, file)
        unfinished.rename(path)
    except OSError as error:
        raise UsageError(
            f"{directory}: no receipt could be written here ({error}), so nothing was sent: name a "
            "directory that can be written to with --state-dir"
        ) from error
    return path


def _living(directory: Path, mine: Path) -> list[Path]:
    """Return the files whose processes live, and remove the others.

    The time is that of the file system: the clocks of two machines may differ.
    """
    now = mine.stat().st_mtime
    found = []
    for path in directory.glob(f"*{_UNFINISHED}"):
        with suppress(FileNotFoundError):
            if now - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()
    for path in directory.glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError):  # just given back
            if is_alive(_process(path), path.stat().st_mtime, now):
                found.append(path)
            else:
                path.unlink()
    return found


def _process(path: Path) -> dict[str, Any]:
    """Return who made the file; nothing of one that is not written yet."""
    try:
        found = json.loads(path.read_text())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _who(path: Path) -> str:
    with suppress(OSError):  # just given back
        return str(_process(path).get("who", ""))
    return ""


def _owner(path: Path) -> str:
    with suppress(OSError):
        process = _process(path)
        who = f"{process['who']}, " if process.get("who") else ""
        return f"{who}process {process.get('pid')} on {process.get('host')}"
    return "another process"
