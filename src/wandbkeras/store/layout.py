"""Where things lie in a run directory, and which names are allowed.

A run directory may come from a stranger: every path that is made from a name passes here, and
none leaves the directory.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from wandbkeras.errors import DamagedError, UsageError

RUN_ID_LENGTH = 8
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART_NAME = re.compile(r"[a-z_]{1,32}/\d{3,}-\d{3,}-\d{3,}\.parquet")
_PART_FILE = re.compile(r"(\d{3,})-(\d{3,})-(\d{3,})\.(?:parquet|tmp)")

STREAMS = ("history", "histograms", "events")


def new_run_id() -> str:
    """Return a random base-36 id of eight characters, as wandb makes them.

    >>> len(new_run_id())
    8
    """
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(RUN_ID_LENGTH))


def check_run_id(run_id: str) -> str:
    """Return ``run_id``; UsageError if it can't be a W&B run id and a directory name."""
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"run id {run_id!r}: expected 1 to 64 letters, digits, '-', '_' or '.', not beginning "
            "with '.'"
        )
    return run_id


def run_directory_name(run_id: str, created: float) -> str:
    """Return ``run-YYYYMMDD_HHMMSS-<id>``, the time in UTC.

    >>> run_directory_name("k3j9x2ab", 1795412700.0)
    'run-20261123_054500-k3j9x2ab'
    """
    moment = datetime.fromtimestamp(created, tz=timezone.utc)
    return f"run-{moment:%Y%m%d_%H%M%S}-{run_id}"


@dataclass(frozen=True)
class Layout:
    """The paths of one run directory."""

    root: Path

    @property
    def info(self) -> Path:
        return self.root / "run.json"

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def receipts(self) -> Path:
        return self.root / "sync"

    def attempt(self, attempt: int) -> Path:
        return self.attempts / f"{attempt:03d}"

    def journal(self, attempt: int, writer: int, segment: int) -> Path:
        return self.attempt(attempt) / f"journal-{writer:03d}-{segment:03d}.wbk"

    def manifest(self, attempt: int, writer: int) -> Path:
        """The list of what a writer has sealed, and its state at that moment."""
        return self.attempt(attempt) / f"manifest-{writer:03d}.json"

    def part(self, stream: str, attempt: int, writer: int, number: int) -> Path:
        """The Parquet file of the writer's sealing of this number: no name is used twice."""
        return self.root / stream / f"{attempt:03d}-{writer:03d}-{number:03d}.parquet"

    def damaged(self, file: Path) -> Path:
        """Where a damaged file of this run is kept, once what was sound in it is sealed."""
        return self.root / "damaged" / "-".join(file.relative_to(self.root).parts)

    def artifact(self, attempt: int, writer: int, number: int) -> Path:
        return self.artifacts / f"{attempt:03d}-{writer:03d}-{number:04d}.json"

    def blob(self, sha256: str) -> Path:
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise DamagedError(f"{self.root}: {sha256!r} is not the SHA-256 of a blob")
        return self.blobs / sha256[:2] / sha256

    def attempt_numbers(self) -> list[int]:
        return _numbers(self.attempts, re.compile(r"(\d{3,})"))

    def writer_numbers(self, attempt: int) -> list[int]:
        directory = self.attempt(attempt)
        manifests = _numbers(directory, re.compile(r"manifest-(\d{3,})\.json"))
        journals = _numbers(directory, re.compile(r"journal-(\d{3,})-\d{3,}\.wbk"))
        return sorted({*manifests, *journals})

    def segment_numbers(self, attempt: int, writer: int) -> list[int]:
        return _numbers(self.attempt(attempt), re.compile(rf"journal-{writer:03d}-(\d{{3,}})\.wbk"))

    def part_files(self, stream: str, attempt: int, writer: int) -> list[Path]:
        """Return a writer's files in the stream's directory: named, unnamed and unfinished ones."""
        directory = self.root / stream
        if not directory.is_dir():
            return []
        prefix = (attempt, writer)
        matches = {path: _PART_FILE.fullmatch(path.name) for path in directory.iterdir()}
        return sorted(p for p, m in matches.items() if m and (int(m[1]), int(m[2])) == prefix)

    def listed_part(self, name: str) -> Path:
        """Return the path of a part that a manifest names; DamagedError if it is no part."""
        if not isinstance(name, str) or not _PART_NAME.fullmatch(name):
            raise DamagedError(f"{self.root}: a manifest names {name!r}, which is no part of a run")
        return self.root / name

    def listed_artifact(self, name: str) -> Path:
        """Return the path of an artifact manifest that an event names."""
        if not re.fullmatch(r"\d{3,}-\d{3,}-\d{4,}\.json", name):
            raise DamagedError(f"{self.root}: an event names {name!r}, which is no artifact")
        return self.artifacts / name


def _numbers(directory: Path, pattern: re.Pattern[str]) -> list[int]:
    if not directory.is_dir():
        return []
    matches = (pattern.fullmatch(entry.name) for entry in directory.iterdir())
    return sorted(int(match[1]) for match in matches if match)
