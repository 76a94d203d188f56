"""Receipts: what was verified where, written last.

A receipt proves for one state of the run: its ``fingerprint`` is over the bytes that describe the
run, so a run that has grown has no receipt until it is synced again.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.checks import convert
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.layout import run_directory_name
from wandbkeras.store.plain_files import read_file
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import FORMAT_VERSION
from wandbkeras.sync.choice import Choice
from wandbkeras.sync.destination import Destination

RECEIPT_FORMAT = "wandbkeras-receipt"


Level = Literal["full", "sample", "counts"]


@dataclass(frozen=True)
class Receipt:
    """Proof of what a destination held of a run at ``time`` (seconds since the epoch).

    That is all of it, unless ``not_sent`` names something. ``level`` says how the history was
    compared, ``rows_compared`` how many of its rows were; the rest is compared at every level.
    ``replaced`` holds what the user put in the place of what was recorded.
    """

    server: str
    entity: str | None
    project: str
    run_id: str
    held_by: str
    url: str
    fingerprint: str
    state: str
    rows: int
    artifacts: list[dict[str, str]]
    time: float
    wandb: str
    wandbkeras: str
    not_compared: list[str]
    files: int = 0
    run_storage_id: str = ""
    level: Level = "full"
    rows_compared: int = 0
    history_digest: str = ""
    summary_digest: str = ""
    config_digest: str = ""
    file_md5s: dict[str, str] = field(default_factory=dict)
    not_sent: list[str] = field(default_factory=list)
    replaced: dict[str, Any] = field(default_factory=dict)
    # How many alerts were sent so far: no server says which it has been told.
    alerts: int = 0

    @property
    def destination(self) -> Destination:
        return Destination(self.server, self.entity, self.project, self.run_id)

    @property
    def is_whole(self) -> bool:
        """Whether it proves for the whole run."""
        return not self.not_sent


def fingerprint(run: StoredRun) -> str:
    """Return a digest that changes whenever there is something new to send.

    It costs no reading of rows: a manifest names its parts by their SHA-256, and a journal only
    grows. The state is part of it, because a run whose heartbeat stops has changed.
    """
    digest = hashlib.sha256()
    layout = run.layout
    digest.update(read_file(layout.info, document.MAX_BYTES, layout.root))
    for attempt in layout.attempt_numbers():
        for writer in layout.writer_numbers(attempt):
            with contextlib.suppress(FileNotFoundError):  # before its first sealing
                manifest = layout.manifest(attempt, writer)
                digest.update(read_file(manifest, document.MAX_BYTES, layout.root))
            for segment in layout.segment_numbers(attempt, writer):
                with contextlib.suppress(FileNotFoundError):  # sealed since it was listed
                    path = layout.journal(attempt, writer, segment)
                    digest.update(f"{path.name} {path.lstat().st_size}\n".encode())
            for segment in layout.console_numbers(attempt, writer):
                with contextlib.suppress(FileNotFoundError):
                    path = layout.console(attempt, writer, segment)
                    digest.update(f"{path.name} {path.lstat().st_size}\n".encode())
    # Last, because it reads the records: they may be more by now, never fewer.
    digest.update(f"{run.state}\n".encode())
    return digest.hexdigest()


def receipts_directory(run: StoredRun, state_directory: Path | None) -> Path:
    """Return where the run's receipts lie: in the run, or elsewhere if that can't be written."""
    if state_directory is None:
        return run.layout.receipts
    return state_directory / run_directory_name(run.info.id, run.info.created)


def read_receipt(
    directory: Path, destination: Destination, choice: Choice | None = None
) -> Receipt | None:
    """Return the receipt for a destination; None if there is none, or none that is sound.

    A damaged receipt proves nothing; syncing again writes a new one. Each part that a ``choice``
    makes of a run has a receipt of its own.
    """
    return receipts_by_name(directory).get(receipt_name(destination, choice))


def read_receipts(directory: Path) -> list[Receipt]:
    """Return every sound receipt in a directory."""
    return list(receipts_by_name(directory).values())


def receipts_by_name(directory: Path) -> dict[str, Receipt]:
    """Return every sound receipt in a directory by the name of its file."""
    found = {}
    for path in sorted(directory.glob("*.json")):
        with contextlib.suppress(DamagedError, OSError):
            receipt = _receipt(document.read(path))
            if receipt is not None:
                found[path.name] = receipt
    return found


def write_receipt(
    directory: Path, destination: Destination, receipt: Receipt, choice: Choice | None = None
) -> None:
    """Write the receipt atomically and durably."""
    disk = Disk()
    make_directories(disk, directory)
    members = {"format": RECEIPT_FORMAT, "version": FORMAT_VERSION, **asdict(receipt)}
    document.write(disk, directory / receipt_name(destination, choice), members)


def receipt_name(destination: Destination, choice: Choice | None = None) -> str:
    """Return the name of the file that holds the receipt of a run, or of a part of it."""
    return f"{destination.stem}{choice.suffix if choice else ''}.json"


def _receipt(members: dict[str, Any]) -> Receipt | None:
    if (members.get("format"), members.get("version")) != (RECEIPT_FORMAT, FORMAT_VERSION):
        return None
    try:
        return convert(members, Receipt)
    except ValueError:
        return None


def sync_state(run: StoredRun, state_directory: Path | None = None) -> str:
    """Return whether the run has arrived somewhere: ``yes``, ``no``, or ``in part``.

    In part if it has grown since, or if something of it was not sent.
    """
    receipts = read_receipts(receipts_directory(run, state_directory))
    if not receipts:
        return "no"
    mark = fingerprint(run)
    whole = any(receipt.fingerprint == mark and receipt.is_whole for receipt in receipts)
    return "yes" if whole else "in part"
