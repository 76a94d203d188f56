"""Why a run has not arrived: a note beside the receipts, for whoever asks without network.

It is about the last try. A receipt that is written later outlives it; nothing is removed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.checks import convert
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.schema import FORMAT_VERSION
from wandbkeras.sync.destination import Destination

FAILURE_FORMAT = "wandbkeras-sync-failure"
_PREFIX = "failed-"


@dataclass(frozen=True)
class Failure:
    """The last try that failed: ``error`` is the error's class, ``time`` since the epoch (s)."""

    server: str
    entity: str | None
    project: str
    run_id: str
    error: str
    message: str
    exit_code: int
    retryable: bool
    time: float

    @property
    def destination(self) -> Destination:
        return Destination(self.server, self.entity, self.project, self.run_id)


def write_failure(directory: Path, failure: Failure) -> None:
    """Write the note; a disk that does not take it takes no receipt either, and that is said."""
    disk = Disk()
    members = {"format": FAILURE_FORMAT, "version": FORMAT_VERSION, **asdict(failure)}
    with suppress(OSError):
        make_directories(disk, directory)
        document.write(disk, directory / f"{_PREFIX}{failure.destination.stem}.json", members)


def read_failures(directory: Path) -> list[Failure]:
    """Return every sound note in a directory."""
    found = []
    for path in sorted(directory.glob(f"{_PREFIX}*.json")) if directory.is_dir() else ():
        with suppress(DamagedError, OSError, ValueError):
            members = document.read(path)
            if (members.get("format"), members.get("version")) == (FAILURE_FORMAT, FORMAT_VERSION):
                found.append(convert(members, Failure))
    return found
