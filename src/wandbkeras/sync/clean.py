"""Freeing the disk of runs that have arrived: the only part of the package that deletes them.

It asks nothing of the network, and deletes only what the receipt of a whole sync proves and whose
fingerprint is still that of the receipt. ``run.json`` and the receipts stay, in ``cleaned/`` of the
store. It can be interrupted at any moment: before a run is moved there nothing of it is gone, and
what is left over then goes with the next call.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from wandbkeras.errors import LockedError, UsageError
from wandbkeras.store.blobs import remove_blob
from wandbkeras.store.cleaned import write_cleaned
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.plain_files import files_below
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.selection import age_s
from wandbkeras.sync.lock import Locks
from wandbkeras.sync.receipt import Receipt, fingerprint, read_receipts, receipts_directory

CLEANED_DIRECTORY = "cleaned"
# What stays of a run that is removed.
_KEPT = frozenset({"run.json", "sync"})
# What a whole sync proves beside that. Anything else in a run, as the damaged originals that
# `repair` keeps, is nowhere else.
_PROVEN = _KEPT | {"cleaned.json", "attempts", "artifacts", "blobs"} | {
    "history", "histograms", "events", "console", "tables",
}  # fmt: skip


@dataclass(frozen=True)
class Cleaning:
    """What became of a run: ``freed`` bytes, or ``kept`` with the reason.

    Bytes that another run of the store shares are not freed and not counted.
    """

    path: Path
    run_id: str
    freed: int = 0
    kept: str | None = None
    url: str | None = None


def clean_run(
    path: Path,
    *,
    keep_history: bool = False,
    older_than_s: float = 0.0,
    state_directory: Path | None = None,
    dry_run: bool = False,
) -> Cleaning:
    """Remove a run, with ``keep_history`` only its blobs, if a receipt proves all of it.

    ``older_than_s`` counts from the run's last record. A run that is kept is left as it is.
    """
    run = StoredRun(path.resolve(), strict=True)
    directory = receipts_directory(run, state_directory)
    if age_s(run) < older_than_s:
        return Cleaning(path, run.info.id, kept="its last record is not old enough")
    receipt = _proof(run, directory)
    if isinstance(receipt, str):
        return Cleaning(path, run.info.id, kept=receipt)
    freed = _freed(run, keep_history=keep_history)
    if not dry_run:
        locks = Locks()
        try:
            locks.acquire(directory)
            if fingerprint(StoredRun(run.path)) != receipt.fingerprint:
                return Cleaning(path, run.info.id, kept="it has just gone on")
            if keep_history:
                _remove_blobs(run)
            else:
                _remove(run)
        except LockedError as error:
            return Cleaning(path, run.info.id, kept=str(error))
        finally:
            locks.close()
    return Cleaning(path, run.info.id, freed, url=receipt.url)


def finish_cleaning(store: Path, *, dry_run: bool = False) -> int:
    """Remove what an interrupted call left of runs that it had proven; return the bytes freed."""
    freed = 0
    cleaned = store / CLEANED_DIRECTORY
    for directory in sorted(cleaned.glob("run-*")) if _is_directory(cleaned) else ():
        if _is_directory(directory):
            freed += sum(_own_bytes(file) for file in _doomed(directory))
            if not dry_run:
                _empty(directory)
    return freed


def _proof(run: StoredRun, directory: Path) -> Receipt | str:
    """Return the receipt that proves all of the run, or the reason why none does."""
    if run.damage:
        return "it is damaged"
    if run.state == "running":
        return "it is running"
    if unknown := {entry.name for entry in run.path.iterdir()} - _PROVEN:
        return f"it holds {', '.join(sorted(unknown))}, which is not sent"
    receipts = read_receipts(directory)
    if not receipts:
        return "no receipt: it has not been synced"
    mark = fingerprint(run)
    current = [receipt for receipt in receipts if receipt.fingerprint == mark]
    if not current:
        return "it has grown since it was synced"
    whole = [receipt for receipt in current if receipt.is_whole]
    if not whole:
        return f"not all of it was sent: {'; '.join(current[0].not_sent)}"
    read = [receipt for receipt in whole if receipt.level != "counts" or not receipt.rows]
    return read[0] if read else "its rows were only counted: sync it with --check --verify full"


def _freed(run: StoredRun, *, keep_history: bool) -> int:
    files = [Path(entry.path) for entry in files_below(run.layout.blobs)]
    return sum(map(_own_bytes, files if keep_history else _doomed(run.path)))


def _doomed(directory: Path) -> list[Path]:
    """Return the files of a run that go when it is removed."""
    files = [Path(entry.path) for entry in files_below(directory)]
    return [file for file in files if file.relative_to(directory).parts[0] not in _KEPT]


def _own_bytes(file: Path) -> int:
    """Return the bytes that removing a file frees: none while it has another name."""
    status = file.lstat()
    return status.st_size if status.st_nlink == 1 else 0


def _remove(run: StoredRun) -> None:
    """Move the run out of the store's sight, and remove all but who it was and what proves it."""
    cleaned = run.path.parent / CLEANED_DIRECTORY
    make_directories(Disk(), cleaned)
    target = cleaned / run.path.name
    if not _is_directory(cleaned) or target.exists():
        raise UsageError(f"{target}: is in the way: move it elsewhere")
    Disk().replace(run.path, target)
    Disk().sync_directory(cleaned)
    _empty(target)


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.name in _KEPT:
            continue
        if _is_directory(entry):
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove_blobs(run: StoredRun) -> None:
    """Remove the contents of artifacts and files; what they were stays in the run."""
    blobs = [Path(entry.path).name for entry in files_below(run.layout.blobs)]
    named = {blob for version in run.artifacts for blob in version.blobs}
    named |= {file.sha256 for file in run.files.values()}
    removed = [blob for blob in blobs if blob in named]
    write_cleaned(Disk(), run.layout, removed)
    for blob in removed:
        remove_blob(Disk(), run.layout, blob)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
