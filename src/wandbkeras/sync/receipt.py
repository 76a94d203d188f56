"""Receipts: what was verified where, written last.

A receipt proves for one state of the run: its ``fingerprint`` is over the bytes that describe the
run, so a run that has grown has no receipt until it is synced again.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.checks import convert
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.layout import read_file, run_directory_name
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import FORMAT_VERSION
from wandbkeras.sync.destination import Destination

RECEIPT_FORMAT = "wandbkeras-receipt"


@dataclass(frozen=True)
class Receipt:
    """Proof that a destination held all of a run at ``time`` (seconds since the epoch)."""

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
    # Last, because it reads the records: they may be more by now, never fewer.
    digest.update(f"{run.state}\n".encode())
    return digest.hexdigest()


def receipts_directory(run: StoredRun, state_directory: Path | None) -> Path:
    """Return where the run's receipts lie: in the run, or elsewhere if that can't be written."""
    if state_directory is None:
        return run.layout.receipts
    return state_directory / run_directory_name(run.info.id, run.info.created)


def read_receipt(directory: Path, destination: Destination) -> Receipt | None:
    """Return the receipt for a destination; None if there is none, or none that is sound.

    A damaged receipt proves nothing; syncing again writes a new one.
    """
    try:
        members = document.read(directory / destination.file_name)
    except (FileNotFoundError, NotADirectoryError, DamagedError):
        return None
    return _receipt(members)


def read_receipts(directory: Path) -> list[Receipt]:
    """Return every sound receipt in a directory."""
    found = []
    for path in sorted(directory.glob("*.json")) if directory.is_dir() else ():
        try:
            receipt = _receipt(document.read(path))
        except DamagedError:
            continue
        if receipt is not None:
            found.append(receipt)
    return found


def write_receipt(directory: Path, destination: Destination, receipt: Receipt) -> None:
    """Write the receipt atomically and durably."""
    disk = Disk()
    make_directories(disk, directory)
    members = {"format": RECEIPT_FORMAT, "version": FORMAT_VERSION, **asdict(receipt)}
    document.write(disk, directory / destination.file_name, members)


def _receipt(members: dict[str, Any]) -> Receipt | None:
    if (members.get("format"), members.get("version")) != (RECEIPT_FORMAT, FORMAT_VERSION):
        return None
    try:
        return convert(members, Receipt)
    except ValueError:
        return None


def sync_state(run: StoredRun, state_directory: Path | None = None) -> str:
    """Return whether the run has arrived somewhere: ``yes``, ``no``, or ``in part`` if it grew."""
    receipts = read_receipts(receipts_directory(run, state_directory))
    if not receipts:
        return "no"
    mark = fingerprint(run)
    return "yes" if any(receipt.fingerprint == mark for receipt in receipts) else "in part"
