"""Where things lie in a run directory, and which names are allowed.

A run directory may come from a stranger: every path that is made from a name passes here, and none
leaves the directory. What lies there is opened by :mod:`wandbkeras.store.plain_files`.
"""

from __future__ import annotations

import errno
import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from wandbkeras.errors import DamagedError, UsageError
from wandbkeras.store.plain_files import REFUSED, entries_of, files_below, plain_size
from wandbkeras.store.table_names import is_table_name, table_file_name, table_folder

RUN_ID_LENGTH = 8
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Of attempts, writers, segments and sealings; and of artifact versions.
_N = r"([0-9]{3}|[1-9][0-9]{3,4})"
_NNNN = r"([0-9]{4}|[1-9][0-9]{4})"
_ATTEMPT = re.compile(_N)
_OF_WRITER = re.compile(rf"(?:manifest-{_N}\.json|journal-{_N}-{_N}\.wbk)")
_SEGMENT = re.compile(rf"journal-{_N}-{_N}\.wbk")
_CONSOLE_SEGMENT = re.compile(rf"console-{_N}-{_N}\.wbk")
_PART_NAME = re.compile(rf"[a-z_]{{1,32}}/{_N}-{_N}-{_N}\.parquet")
_PART_FILE = re.compile(rf"{_N}-{_N}-{_N}\.(?:parquet|tmp)")
_FILE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/){0,3}[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_ARTIFACT_FILE = re.compile(rf"{_N}-{_N}-{_NNNN}\.json")

STREAMS = ("history", "histograms", "events", "console")
_DIRECTORIES = {*STREAMS, "attempts", "artifacts", "blobs", "damaged", "sync", "tables"}
# Of a name; documented in docs/format.md, "Limits".
MAX_NUMBER = 99_999


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


def is_named_for(directory_name: str, run_id: str) -> bool:
    """Whether a directory has the name that a run of this id is given, at whatever time."""
    return directory_name.endswith(f"-{run_id}")


@dataclass(frozen=True)
class Layout:
    """The paths of one run directory."""

    root: Path

    @cached_property
    def info(self) -> Path:
        return self.root / "run.json"

    @cached_property
    def attempts(self) -> Path:
        return self.root / "attempts"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    @property
    def receipts(self) -> Path:
        return self.root / "sync"

    @property
    def cleaned(self) -> Path:
        """The list of the blobs that were removed once they had verifiably arrived elsewhere."""
        return self.root / "cleaned.json"

    def attempt(self, attempt: int) -> Path:
        return self.attempts / _number(attempt)

    def journal(self, attempt: int, writer: int, segment: int) -> Path:
        name = f"journal-{_number(writer)}-{_number(segment)}.wbk"
        return self.attempt(attempt) / name

    def console(self, attempt: int, writer: int, segment: int) -> Path:
        """A segment of what the writer's process printed, until that is sealed."""
        name = f"console-{_number(writer)}-{_number(segment)}.wbk"
        return self.attempt(attempt) / name

    def manifest(self, attempt: int, writer: int) -> Path:
        """The list of what a writer has sealed, and its state at that moment."""
        return self.attempt(attempt) / f"manifest-{_number(writer)}.json"

    def part(self, stream: str, attempt: int, writer: int, number: int) -> Path:
        """The Parquet file of the writer's sealing of this number: no name is used twice."""
        name = f"{_number(attempt)}-{_number(writer)}-{_number(number)}.parquet"
        return self.root / stream / name

    def damaged(self, file: Path, number: int = 0) -> Path:
        """Where a damaged file of this run is kept, once what was sound in it is sealed.

        ``number`` counts those that lay at the same place before.
        """
        name = "-".join(file.relative_to(self.root).parts)
        return self.root / "damaged" / (f"{name}.{number}" if number else name)

    def artifact(self, attempt: int, writer: int, number: int) -> Path:
        name = f"{_number(attempt)}-{_number(writer)}-{_number(number, 4)}.json"
        return self.artifacts / name

    def table(self, key: str, step: int, attempt: int, writer: int, number: int) -> Path:
        """The Parquet file of a table logged under ``key``, the writer's of this number."""
        return self.tables / table_folder(key) / table_file_name(step, attempt, writer, number)

    def blob(self, sha256: str) -> Path:
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise DamagedError(f"{self.root}: {sha256!r:.80} is not the SHA-256 of a blob")
        return self.blobs / sha256[:2] / sha256

    def attempt_numbers(self) -> list[int]:
        return sorted(int(match[1]) for match in self._matches(self.attempts, _ATTEMPT))

    def writer_numbers(self, attempt: int) -> list[int]:
        found = self._matches(self.attempt(attempt), _OF_WRITER)
        return sorted({int(match[1] or match[2]) for match in found})

    def segment_numbers(self, attempt: int, writer: int) -> list[int]:
        found = self._matches(self.attempt(attempt), _SEGMENT)
        return sorted(int(match[2]) for match in found if int(match[1]) == writer)

    def console_numbers(self, attempt: int, writer: int) -> list[int]:
        found = self._matches(self.attempt(attempt), _CONSOLE_SEGMENT)
        return sorted(int(match[2]) for match in found if int(match[1]) == writer)

    def part_files(self, stream: str, attempt: int, writer: int) -> list[Path]:
        """Return a writer's files in the stream's directory: named, unnamed and unfinished ones."""
        directory = self.root / stream
        found = self._matches(directory, _PART_FILE)
        mine = (match for match in found if (int(match[1]), int(match[2])) == (attempt, writer))
        return sorted(directory / match[0] for match in mine)

    def sealed_writers(self, stream: str) -> set[tuple[int, int]]:
        """Return attempt and number of the writers that have parts of the stream."""
        found = self._matches(self.root / stream, _PART_FILE)
        sealed = (match for match in found if match[0].endswith(".parquet"))
        return {(int(match[1]), int(match[2])) for match in sealed}

    def sealed_parts(self, attempt: int, writer: int) -> list[Path]:
        """Return a writer's parts, named or not, those of a stream in the order of sealing."""
        return [
            path
            for stream in STREAMS
            for path in sorted(self.part_files(stream, attempt, writer), key=_sealing)
            if path.suffix == ".parquet"
        ]

    def listed_part(self, name: str) -> Path:
        """Return the path of a part that a manifest names; DamagedError if it is no part."""
        self.check_part_name(name)
        return self.root / name

    def check_part_name(self, name: str) -> None:
        """Raise DamagedError if a manifest names what is no part."""
        if not isinstance(name, str) or not _PART_NAME.fullmatch(name):
            raise DamagedError(f"{self.root}: a manifest names {name!r:.80}, which is no part")

    def listed_artifact(self, name: str) -> Path:
        """Return the path of an artifact manifest that an event names."""
        if not isinstance(name, str) or not _ARTIFACT_FILE.fullmatch(name):
            raise DamagedError(f"{self.root}: an event names {name!r:.80}, which is no artifact")
        return self.artifacts / name

    def listed_table(self, name: str) -> Path:
        """Return the path of a table that a row or an artifact manifest names."""
        if not is_table_name(name):
            raise DamagedError(f"{self.root}: a record names {name!r:.80}, which is no table")
        return self.root / name

    def listed_damage(self, name: str) -> Path:
        """Return the path, within the run, of a file in which a manifest names damage."""
        if not isinstance(name, str) or not _FILE.fullmatch(name):
            raise DamagedError(
                f"{self.root}: a manifest names {name!r:.80}, which is no file of it"
            )
        return Path(name)

    def check_directories(self) -> None:
        """Raise DamagedError if a directory of the run is none: what is written there would leave.

        A run is checked before it is read or goes on, so that neither leads out of it.
        """
        there = self._check_below(self.root, _DIRECTORIES)
        if "blobs" in there:
            self._check_below(self.root / "blobs", {"sha256"})
        if "tables" in there:
            self._check_below(self.tables, None)

    def _check_below(self, directory: Path, names: Collection[str] | None) -> set[str]:
        """Check what has one of ``names``; with None all but what has a temporary name.

        Return the names of what is there.
        """
        there = set()
        with suppress(FileNotFoundError):
            for entry in entries_of(directory, self.root):
                there.add(entry.name)
                meant = not entry.name.endswith(".tmp") if names is None else entry.name in names
                if meant and not entry.is_dir(follow_symlinks=False):
                    raise DamagedError(f"{directory / entry.name}: {REFUSED}")
        return there

    def has_link(self, path: Path) -> bool:
        """Whether ``path``, or a directory on the way to it, is a link, which leads out of the run.

        What is written, moved or removed by such a path would be another's.
        """
        inside = path.relative_to(self.root)
        return any((self.root / name).is_symlink() for name in (inside, *inside.parents[:-1]))

    def size(self) -> int:
        """Return the bytes of the run's plain files."""
        return sum(map(plain_size, files_below(self.root)))

    def records_size(self) -> int:
        """Return the bytes of the run's plain files but for the contents of blobs and tables."""
        values = (*files_below(self.blobs), *files_below(self.tables))
        return self.size() - sum(map(plain_size, values))

    def _matches(self, directory: Path, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """Return the matches of the names in a directory of the run, none if it isn't there."""
        try:
            names = [entry.name for entry in entries_of(directory, self.root)]
        except FileNotFoundError:
            return []
        return [match for name in names if (match := pattern.fullmatch(name))]


def _number(number: int, digits: int = 3) -> str:
    """Return a number as it is in names; OSError for one that no reader would find."""
    if number > MAX_NUMBER:
        text = f"received number {number}; a run has none above {MAX_NUMBER}"
        raise OSError(errno.EOVERFLOW, text)
    return f"{number:0{digits}d}"


def _sealing(part: Path) -> int:
    return int(part.stem.rpartition("-")[2])
