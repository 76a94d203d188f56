"""What the uploader of a live run does: a note beside the receipts, read without network.

It proves nothing, and nothing depends on it: what has arrived is in the receipts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.checks import convert
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.process import describe_process, is_alive
from wandbkeras.store.schema import FORMAT_VERSION

LIVE_FORMAT = "wandbkeras-live"
LIVE_NAME, LOG_NAME = "live.json", "live.log"

Phase = Literal["not started", "starting", "following", "waiting", "ended", "gone"]


@dataclass(frozen=True)
class LiveState:
    """What the uploader said at ``time`` (seconds since the epoch).

    ``not started``: there is none, as ``error`` says. ``starting``: it has not reached the server
    yet. ``following``: what is logged is sent. ``waiting``: the last try failed, as ``error`` says.
    ``ended``: it has no more to do, or no more time. ``gone``: it was killed, which is never
    written, but found by :func:`read_live`. ``rows`` of the run are verified at ``url``, where its
    state is ``run_state``; ``pending`` rows were not, when that was counted last. ``arrived``: the
    run has ended, and all of it is there, but for ``not_sent`` things that W&B does not take.
    """

    phase: Phase
    rows: int = 0
    pending: int | None = None
    url: str | None = None
    run_state: str | None = None
    arrived: bool = False
    not_sent: int = 0
    error: str | None = None
    time: float = field(default_factory=time.time)
    process: Mapping[str, Any] = field(default_factory=describe_process)


def write_live(directory: Path, state: LiveState) -> None:
    """Write the note; a disk that does not take it goes without."""
    disk = Disk()
    members = {"format": LIVE_FORMAT, "version": FORMAT_VERSION, **asdict(state)}
    with suppress(OSError):
        make_directories(disk, directory)
        document.write(disk, directory / LIVE_NAME, members)


def read_live(directory: Path) -> LiveState | None:
    """Return what the uploader of the run is known to do; None if there never was one."""
    with suppress(DamagedError, OSError, ValueError):
        members = document.read(directory / LIVE_NAME)
        if (members.get("format"), members.get("version")) != (LIVE_FORMAT, FORMAT_VERSION):
            return None
        state = convert(members, LiveState)
        if state.phase in ("not started", "ended"):
            return state
        if is_alive(dict(state.process), state.time, time.time()):
            return state
        return LiveState(**{**vars(state), "phase": "gone"})
    return None
