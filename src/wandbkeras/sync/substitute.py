"""Another id for a run whose own can't be used there: it was deleted, or another run has it.

The note beside the receipts is durable before anything is sent under the new id, and the new id
follows from the old one, so that an interrupted sync goes on under the same, without the note too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
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
class _Note:
    recorded_id: str
    run_id: str


def substitute(directory: Path, destination: Destination) -> Destination:
    """Return where a run that was recorded for ``destination`` goes."""
    try:
        members = document.read(_path(directory, destination))
        if (members.get("format"), members.get("version")) == (_FORMAT, FORMAT_VERSION):
            return replace(destination, run_id=convert(members, _Note).run_id)
    except (FileNotFoundError, NotADirectoryError, DamagedError, ValueError):
        pass
    return destination


def write_substitute(directory: Path, recorded: Destination, used: Destination) -> None:
    """Note that the run goes on as ``used``."""
    disk = Disk()
    make_directories(disk, directory)
    members = {"format": _FORMAT, "version": FORMAT_VERSION}
    members |= {"recorded_id": recorded.run_id, "run_id": used.run_id}
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
