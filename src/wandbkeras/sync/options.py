"""What the user asks of a sync, and how the sync of one run ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wandbkeras.errors import WandbkerasError
from wandbkeras.sync.choice import Choice
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.receipt import Level, Receipt

DEFAULT_TIMEOUT_S = 300.0
DEFAULT_SETTLE_S = 5.0
DEFAULT_WORKERS = 4


@dataclass(frozen=True)
class Options:
    """What the user asked for. ``entity`` and ``project`` replace those recorded.

    ``settle_s``: how far the server's counts may be behind, some seconds on the hosted one.
    ``level``: how the history is compared. ``check`` asks the server even where a receipt proves.
    ``workers``: how many uploads go on at a time. ``on_conflict`` and ``on_deleted``: what to do
    about a run whose id another run has there, or was deleted there; ``on_rollback``, about one of
    which rows are there that a later attempt has replaced. ``keep_alive_s``: of a running
    run that the server has not heard of for as long a sign of life is sent; None sends none.
    """

    entity: str | None = None
    project: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    settle_s: float = DEFAULT_SETTLE_S
    state_directory: Path | None = None
    choice: Choice = field(default_factory=Choice)
    level: Level = "sample"
    check: bool = False
    workers: int = DEFAULT_WORKERS
    on_conflict: Literal["fail", "new-id"] = "fail"
    on_deleted: Literal["fail", "skip", "recreate"] = "fail"
    on_rollback: Literal["fail", "fresh-id"] = "fail"
    keep_alive_s: float | None = None


@dataclass(frozen=True)
class Result:
    """How the sync of one run ended.

    ``unchanged``: a receipt says that all of it is there already, nothing was asked or sent.
    ``verified``: all of it was read back. ``failed``: ``error`` says why; ``skipped``: so it does,
    and the user asked to leave it at that. ``destination`` is where it was to go, None if the run
    can't be read. ``lost`` is what damage had cost the run before, a line each: all of the rest is
    meant. ``dropped`` and ``dropped_events`` count the rows and other records that the run never
    got.
    """

    path: Path
    run_id: str | None
    outcome: Literal["unchanged", "verified", "failed", "skipped"]
    receipt: Receipt | None = None
    destination: Destination | None = None
    rows_sent: int = 0
    artifacts_sent: int = 0
    files_sent: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    error: WandbkerasError | None = None
    lost: tuple[str, ...] = ()
    dropped: int = 0
    dropped_events: int = 0

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error and self.outcome == "failed" else 0
