"""The files of a run as a reader asks for them; the first that is damaged is an error.

:class:`wandbkeras.store.salvage.Salvage` answers the same questions from what is sound.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from wandbkeras.errors import DamagedError, NotFoundError, StoreError, WandbkerasError
from wandbkeras.store.cleaned import cleaned_blobs
from wandbkeras.store.console import read_console
from wandbkeras.store.damage import Damage
from wandbkeras.store.journal_reader import read_journal
from wandbkeras.store.layout import Layout
from wandbkeras.store.manifest import Manifest, read_manifest
from wandbkeras.store.parquet import Part, file_sha256
from wandbkeras.store.part_reader import load_part, read_part
from wandbkeras.store.plain_files import files_below
from wandbkeras.store.schema import ArtifactVersion, RunInfo, read_artifact, read_info
from wandbkeras.store.state import EVENT


class Source:
    """Reads the files of the run at ``layout``; DamagedError if one isn't as it was written."""

    def __init__(self, layout: Layout) -> None:
        if not is_run(layout.root):
            raise NotFoundError(
                f"{layout.root}: not a run (no run.json): expected a directory that "
                "wandbkeras.init made"
            )
        layout.check_directories()
        self.layout = layout
        self.damage: list[Damage] = []

    def writers(self) -> list[tuple[int, int]]:
        """Return attempt and number of every writer that left anything, in order."""
        found = {
            (attempt, writer)
            for attempt in self.layout.attempt_numbers()
            for writer in self.layout.writer_numbers(attempt)
        }
        # Whoever sealed anything sealed an event, so a lost manifest shows by this.
        return sorted(found.union(self.layout.sealed_writers("events")))

    def info(self) -> RunInfo:
        """Return what ``run.json`` says."""
        try:
            return read_info(self.layout.info)
        except FileNotFoundError as error:
            raise DamagedError(f"{self.layout.info}: missing") from error

    def manifest(self, attempt: int, writer: int) -> Manifest:
        """Return the writer's manifest, an empty one before its first sealing."""
        while True:
            manifest = read_manifest(self.layout, attempt, writer)
            if manifest.seals or not self._is_missing(attempt, writer):
                return manifest
            path = self.layout.manifest(attempt, writer)
            if not path.exists():
                raise DamagedError(f"{path}: missing, there are parts that it named")

    def part(self, part: Part, names: Sequence[str] | None = None) -> pa.Table:
        """Return a part's table; FileNotFoundError if it is gone, maybe replaced by its writer."""
        return read_part(self.layout, part, names)

    def row_groups(
        self, part: Part, names: Sequence[str] | None = None
    ) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """Return a part's columns, and its table a row group at a time."""
        loaded = load_part(self.layout, part, names)
        return loaded.schema, loaded.row_groups()

    def accept(self, damage: Sequence[Damage]) -> None:
        """Take notice of the damage in a writer's journal: whoever reads strictly stops at it."""
        if damage:
            more = f" (and {len(damage) - 1} other places)" if len(damage) > 1 else ""
            raise DamagedError(f"{self.layout.root / damage[0].path}: {damage[0].what}{more}")

    def console(self, attempt: int, writer: int) -> pa.Table:
        """Return what a writer's process printed, as far as that is not sealed."""
        found = read_console(self.layout, attempt, writer)
        self.accept(found.damage)
        return found.table

    def missing(self, path: Path) -> None:
        """Take notice that a part is gone for good."""
        raise DamagedError(f"{path}: missing, a manifest names it")

    def artifact(self, name: str) -> ArtifactVersion | None:
        """Return the artifact version that an event names."""
        path = self.layout.listed_artifact(name)
        try:
            return read_artifact(path)
        except FileNotFoundError as error:
            raise DamagedError(f"{path}: missing, an event names it") from error

    def blob(self, sha256: str) -> Path:
        """Return the path of a blob whose bytes are what its name says."""
        path = self.layout.blob(sha256)
        if not path.exists() and sha256 in cleaned_blobs(self.layout):
            raise StoreError(
                f"{path}: was removed by `wandbkeras clean` once it had arrived: download it there"
            )
        if not path.is_file() or self.layout.has_link(path):
            raise DamagedError(f"{path}: the blob is missing")
        if file_sha256(path, self.layout.root) != sha256:
            raise DamagedError(f"{path}: the SHA-256 does not match: bytes were changed")
        return path

    def _is_missing(self, attempt: int, writer: int) -> bool:
        """Whether a writer without a manifest must have had one: its first segment is sealed."""
        if self.layout.journal(attempt, writer, 0).exists():
            return False
        return bool(self.layout.sealed_parts(attempt, writer))


def is_run(path: Path) -> bool:
    """Whether a directory is a run, maybe one that has lost its ``run.json``."""
    # Asked of each of a store's runs, which may be thousands: paths as text are made faster.
    has_info = os.path.isfile(f"{path}/run.json")  # noqa: PTH113
    return has_info or ((path / "attempts").is_dir() and not is_unborn(path))


def is_unborn(path: Path) -> bool:
    """Whether nothing is recorded in a directory: at most a run was being begun there."""
    files = (Path(file) for file in files_below(path) if not file.name.endswith(".tmp"))
    return all(file.suffix == ".wbk" and _only_begins(file, path) for file in files)


def _only_begins(segment: Path, root: Path) -> bool:
    try:
        records = read_journal(segment, root).records
    except WandbkerasError:
        return False
    return all(record[:2] == [EVENT, "attempt"] for record in records)
