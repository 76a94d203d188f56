"""Another id for a run whose own can't be used there: it was deleted, another run has it, or rows
that a later attempt has replaced.

The note beside the receipts is durable before anything is sent under the new id, and the new id
follows from the old one, so that an interrupted sync goes on under the same, without the note too.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.checks import convert
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.schema import FORMAT_VERSION
from wandbkeras.sync.destination import Destination

_FORMAT = "wandbkeras-substitute"
_LONGEST_ID = 64


@dataclass(frozen=True)
class Substitute:
    """The run that was recorded as ``recorded_id`` goes as ``run_id``.

    Because of a rollback, if ``continues`` is the id that it went as before, and ``continues_url``
    where that run is; ``is_linked`` once that one tells where this one is.
    """

    recorded_id: str
    run_id: str
    continues: str | None = None
    continues_url: str | None = None
    is_linked: bool = False


def read_substitute(directory: Path, recorded: Destination) -> Substitute:
    """Return as what a run goes that was recorded for a destination: as itself, without a note."""
    try:
        members = document.read(_path(directory, recorded))
        if (members.get("format"), members.get("version")) == (_FORMAT, FORMAT_VERSION):
            return convert(members, Substitute)
    except (FileNotFoundError, NotADirectoryError, DamagedError, ValueError):
        pass
    return Substitute(recorded.run_id, recorded.run_id)


def write_substitute(directory: Path, recorded: Destination, used: Substitute) -> None:
    """Note as what the run goes on."""
    disk = Disk()
    make_directories(disk, directory)
    members = {"format": _FORMAT, "version": FORMAT_VERSION, **asdict(used)}
    document.write(disk, _path(directory, recorded), members)


def next_id(run_id: str) -> str:
    """Return the id that comes after one that can't be used.

    >>> next_id("k3j9x2ab"), next_id("k3j9x2ab-2")
    ('k3j9x2ab-2', 'k3j9x2ab-3')
    """
    numbered = re.fullmatch(r"(.+)-([1-9][0-9]{0,2})", run_id)
    stem, number = (numbered[1], int(numbered[2])) if numbered else (run_id, 1)
    ending = f"-{number + 1}"
    return f"{stem[: _LONGEST_ID - len(ending)]}{ending}"


def _path(directory: Path, destination: Destination) -> Path:
    return directory / f"id-{destination.stem}.json"
