"""What of a run is where: read from its receipts and failure notes, without network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wandbkeras.store.live import LiveState, read_live
from wandbkeras.store.opened import State
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.artifacts import Artifact, needed_bytes
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.failure import Failure, read_failures
from wandbkeras.sync.receipt import Receipt, fingerprint, read_receipts, receipts_directory


@dataclass(frozen=True)
class Pending:
    """What a destination lacks, as far as is known here.

    ``bytes`` are those of the artifacts and files, and of the rows what they take in the store,
    where they are several times smaller than on their way.
    """

    rows: int
    artifacts: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Place:
    """One destination of a run: what was verified there last, and why the last try failed.

    ``arrived``: all of the run as it is now. ``failure`` is None once a later try succeeded.
    """

    destination: Destination
    receipt: Receipt | None
    failure: Failure | None
    arrived: bool
    pending: Pending


@dataclass(frozen=True)
class Status:
    """Where a run is; ``places`` is empty if no sync of it has begun.

    ``pending`` is what no destination has: nothing once all of it is somewhere. ``live`` is what
    its uploader does, None if it never had one.
    """

    path: Path
    run_id: str
    name: str | None
    state: State
    places: tuple[Place, ...]
    pending: Pending
    live: LiveState | None = None

    @property
    def arrived(self) -> bool:
        return any(place.arrived for place in self.places)


def run_status(run: StoredRun, state_directory: Path | None = None) -> Status:
    """Return where a run is."""
    directory = receipts_directory(run, state_directory)
    receipts: dict[Destination, Receipt] = {}
    # The receipt of the whole run says more than one of a part; a later one more than an earlier.
    for receipt in sorted(read_receipts(directory), key=lambda r: (r.is_whole, r.time)):
        receipts[receipt.destination] = receipt
    failures = {failure.destination: failure for failure in read_failures(directory)}
    mark = fingerprint(run)
    places = []
    with Content(run) as content:
        for destination in {**receipts, **failures}:
            held, failure = receipts.get(destination), failures.get(destination)
            arrived = held is not None and held.fingerprint == mark and held.is_whole
            if failure is not None and held is not None and held.time >= failure.time:
                failure = None
            pending = _NOTHING if arrived else _pending(content, held)
            places.append(Place(destination, held, failure, arrived, pending))
        least = min([p.pending for p in places] or [_pending(content, None)], key=_weight)
    live = read_live(run.layout.receipts)
    return Status(run.path, run.info.id, run.info.name, run.state, tuple(places), least, live)


_NOTHING = Pending(0, 0, 0, 0)


def _weight(pending: Pending) -> tuple[int, int, int]:
    return pending.rows, pending.artifacts + pending.files, pending.bytes


def _pending(content: Content, receipt: Receipt | None) -> Pending:
    """Return what is not in the receipt; of rows and artifacts only the end can be missing."""
    count = content.run.row_count
    rows = max(0, count - receipt.rows) if receipt else count
    artifacts = _not_listed(content.artifacts, receipt.artifacts if receipt else ())
    listed = receipt.file_md5s if receipt else {}
    files = {n: file for n, file in content.files.items() if listed.get(n) != file.md5}
    size = needed_bytes(artifacts, files.values())
    if rows:
        size += content.run.layout.records_size() * rows // count
    return Pending(rows, len(artifacts), len(files), size)


def _not_listed(artifacts: Iterable[Artifact], listed: Iterable[dict[str, str]]) -> list[Artifact]:
    """Return the versions beyond those that a receipt lists."""
    held = Counter((version["name"], version["digest"]) for version in listed)
    missing = []
    for artifact in artifacts:
        key = (artifact.version.name, artifact.digest)
        held[key] -= 1
        if held[key] < 0:
            missing.append(artifact)
    return missing
