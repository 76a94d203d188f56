"""Reads runs in every way, repairs them and goes on with them: ``python -m tests.audited RUN...``.

Each run in turn; what is printed for it, as JSON, is what each way raised, and every file that was
opened and every change that was made meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wandbkeras_cli.show import describe

import wandbkeras
from wandbkeras.errors import WandbkerasError
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.repair import repair_run
from wandbkeras.store.search import FrameSearch  # noqa: F401  which is imported when it is needed
from wandbkeras.store.verify import verify_run
from wandbkeras.sync.content import Content
from wandbkeras.sync.receipt import fingerprint, sync_state

SECONDS = 60
_CHANGES = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
)
_OTHERS = ("subprocess.Popen", "socket.connect", "socket.getaddrinfo")
# Of the one blob that the runs have; another one of the same two digits lies beside it.
WEIGHTS = b"weights"


def strictly(path: Path) -> None:
    """Read all that sync reads."""
    _read(StoredRun(path, strict=True))


def leniently(path: Path) -> None:
    """Read all that can be read."""
    _read(StoredRun(path))


def as_a_store(path: Path) -> None:
    for run in Store(path.parent).runs():
        _read(run)


def verified(path: Path) -> None:
    verify_run(path)


def shown(path: Path) -> None:
    describe(StoredRun(path))


def repaired(path: Path) -> None:
    repair_run(path)


def resumed(path: Path) -> None:
    """Go on with it: a row, and a file that becomes a blob beside the one that is there."""
    source = path.parent / "source"
    source.write_bytes(beside_the_weights())
    with wandbkeras.init(dir=path.parent, id="k3j9x2ab", resume="must") as run:
        run.log({"loss": 0.5})
        run.log_artifact(source, name="model")


def beside_the_weights() -> bytes:
    """Return bytes whose blob lies in the directory of that of :data:`WEIGHTS`."""
    digits = hashlib.sha256(WEIGHTS).hexdigest()[:2]
    tries = (b"%d" % number for number in range(100_000))
    return next(data for data in tries if hashlib.sha256(data).hexdigest()[:2] == digits)


def _read(run: StoredRun) -> None:
    with Content(run) as content:
        list(content.rows())
        content.summary  # noqa: B018
        content.files  # noqa: B018
        for version in (artifact.version for artifact in content.artifacts):
            for file in version.files.values():
                run.blob(file.sha256)
    for table in run.tables():
        table.read()
    for file in run.files.values():
        run.blob(file.sha256)
    run.histograms()
    run.events()
    run.state_before(5)
    run.size  # noqa: B018
    run.row_count  # noqa: B018
    fingerprint(run)
    sync_state(run)


Way = Callable[[Path], None]
READINGS: tuple[Way, ...] = (strictly, leniently, as_a_store, verified, shown)
CHANGES: tuple[Way, ...] = (repaired, resumed)


class _Audit:
    """What was opened, or changed, since :meth:`start`, but in ``scratch``: sync's own place."""

    def __init__(self, scratch: str) -> None:
        self.found: set[str] = set()
        self._scratch = f"{scratch}/"
        sys.addaudithook(self._note)

    def start(self) -> None:
        self.found = set()

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int):
                return
            name = os.fsdecode(path)
            beneath = "/" not in name and flags & os.O_NOFOLLOW
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            # A bare name, no link followed: it lies in a directory that was opened the same way.
            if not beneath or writes:
                self._add("write" if writes else "open", name)
        elif event in ("os.listdir", "os.scandir") and not isinstance(arguments[0], int):
            self._add("list", os.fsdecode(arguments[0]))
        elif event in _CHANGES:
            two = event in ("os.rename", "os.link", "os.symlink")
            for path in arguments[: 2 if two else 1]:
                if not isinstance(path, int):
                    self._add(event, _whole(os.fsdecode(path), -1 if two else arguments[-1]))
        elif event.startswith("shutil."):
            self._add(event, os.fsdecode(arguments[0]))
        elif event.startswith(_OTHERS):
            self.found.add(f"{event} {arguments}")

    def _add(self, event: str, name: str) -> None:
        if not name.startswith(self._scratch):
            self.found.add(f"{event} {name}")


def _whole(name: str, directory: Any) -> str:
    """Return the whole path of a name in the open ``directory``, a descriptor if there is one."""
    if "/" in name or not isinstance(directory, int) or directory < 0:
        return name
    return f"{Path(f'/proc/self/fd/{directory}').readlink()}/{name}"


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"not done in {SECONDS} s")


def _outcome(way: Way, path: Path) -> dict[str, Any]:
    signal.alarm(SECONDS)
    started = time.perf_counter()
    try:
        way(path)
        return {"class": None, "message": "", "exit_code": 0}
    except WandbkerasError as error:
        return {"class": "ours", "message": str(error), "exit_code": error.exit_code}
    except Exception as error:  # noqa: BLE001 - the test says that there is none
        return {"class": type(error).__name__, "message": str(error), "exit_code": 70}
    finally:
        signal.alarm(0)
        print(f"{time.perf_counter() - started:.2f} s: {path.parent.name}", file=sys.stderr)


def _ways(ways: tuple[Way, ...], path: Path, audit: _Audit) -> dict[str, Any]:
    audit.start()
    outcomes = {way.__name__: _outcome(way, path) for way in ways}
    return {"outcomes": outcomes, "touched": sorted(audit.found)}


def main() -> None:
    signal.signal(signal.SIGALRM, _too_long)
    tempfile.tempdir = tempfile.mkdtemp()
    audit = _Audit(tempfile.tempdir)
    sound, *paths = map(Path, sys.argv[1:])
    for way in (*READINGS, *CHANGES):  # whatever Python opens for itself, it has opened then
        way(sound)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {}
    for path in paths:
        found[str(path)] = {
            "read": _ways(READINGS, path, audit),
            "changed": _ways(CHANGES, path, audit),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    Path(tempfile.tempdir).rmdir()  # what a sync makes is gone with it
    print(json.dumps({"runs": found, "peak_bytes": peak * 1024}))


if __name__ == "__main__":
    main()
