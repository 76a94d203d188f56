"""Verifying a run: every byte that has a checksum is read and compared, every damage located.

Nothing is changed, and nothing stops at the first damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.errors import WandbkerasError
from wandbkeras.store import document
from wandbkeras.store.journal import Damage, read_journal
from wandbkeras.store.layout import Layout
from wandbkeras.store.parquet import Part, file_sha256
from wandbkeras.store.schema import read_artifact, read_info
from wandbkeras.store.seal import read_manifest


@dataclass
class Verification:
    """What was found: ``damage``; ``torn`` bytes of last frames that a killed process left (which
    is no damage); and how many files and bytes were checked."""

    damage: list[Damage] = field(default_factory=list)
    torn: int = 0
    files: int = 0
    bytes: int = 0


def verify_run(path: Path) -> Verification:
    """Check every file of the run at ``path``."""
    layout = Layout(path)
    found = Verification()
    found.damage += _document_damage(found, layout.info, lambda: read_info(layout.info))
    for attempt in layout.attempt_numbers():
        for writer in layout.writer_numbers(attempt):
            _verify_writer(found, layout, attempt, writer)
    for manifest in sorted(layout.artifacts.glob("*.json")) if layout.artifacts.is_dir() else ():
        _verify_artifact(found, layout, manifest)
    for blob in sorted(layout.blobs.glob("*/*")):
        _verify_blob(found, blob)
    for receipt in sorted(layout.receipts.glob("*.json")):
        found.damage += _document_damage(found, receipt, lambda p=receipt: document.read(p))
    return found


def _verify_writer(found: Verification, layout: Layout, attempt: int, writer: int) -> None:
    path = layout.manifest(attempt, writer)
    named: set[str] = set()
    sealed = 0
    if path.exists():
        try:
            _count(found, path)
            manifest = read_manifest(layout, attempt, writer)
            sealed = manifest.segments
            for part in manifest.parts:
                named.add(part.name)
                found.damage += _part_damage(found, layout, part)
        except WandbkerasError as error:
            found.damage.append(_whole(path, error))
    for number in layout.segment_numbers(attempt, writer):
        if number >= sealed:
            _verify_journal(found, layout.journal(attempt, writer, number))


def _verify_journal(found: Verification, path: Path) -> None:
    try:
        _count(found, path)
        journal = read_journal(path)
        found.damage += journal.damage
        found.torn += journal.torn
    except WandbkerasError as error:
        found.damage.append(_whole(path, error))


def _verify_artifact(found: Verification, layout: Layout, path: Path) -> None:
    try:
        _count(found, path)
        version = read_artifact(path)
    except WandbkerasError as error:
        found.damage.append(_whole(path, error))
        return
    for name, file in version.files.items():
        blob = layout.blob(file.sha256)
        if not blob.is_file():
            found.damage.append(Damage(blob, 0, file.size, f"missing: {name} of {version.name}"))


def _verify_blob(found: Verification, path: Path) -> None:
    if path.name.startswith(".") or path.is_symlink():
        return
    _count(found, path)
    digest = file_sha256(path)
    if digest != path.name:
        size = path.stat().st_size
        found.damage.append(Damage(path, 0, size, f"its SHA-256 is {digest}, not its name"))


def _part_damage(found: Verification, layout: Layout, part: Part) -> Iterator[Damage]:
    path = layout.listed_part(part.name)
    if not path.is_file():
        yield Damage(path, 0, part.size, f"missing: {part.rows} rows")
        return
    _count(found, path)
    if file_sha256(path) == part.sha256:
        return
    located = list(damaged_columns(path))
    yield from located
    if not located:
        size = path.stat().st_size
        yield Damage(path, 0, size, "the SHA-256 does not match: damage outside of the columns")


def damaged_columns(path: Path) -> Iterator[Damage]:
    """Yield each column chunk of a Parquet file that can't be read, by its place in the file."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                meta = file.metadata.row_group(group)
                for index in range(meta.num_columns):
                    column = meta.column(index)
                    name = column.path_in_schema
                    try:
                        file.read_row_group(group, columns=[name])
                    except (OSError, pa.ArrowException) as error:
                        yield Damage(
                            path,
                            column.dictionary_page_offset or column.data_page_offset,
                            column.total_compressed_size,
                            f"column {name!r} of row group {group} ({meta.num_rows} rows): {error}",
                        )
    except (OSError, pa.ArrowException) as error:
        yield Damage(path, 0, path.stat().st_size, f"no Parquet file any more: {error}")


def _document_damage(found: Verification, path: Path, read: object) -> Iterator[Damage]:
    try:
        _count(found, path)
        read()  # type: ignore[operator]
    except WandbkerasError as error:
        yield _whole(path, error)
    except FileNotFoundError:
        yield Damage(path, 0, 0, "missing")


def _whole(path: Path, error: WandbkerasError) -> Damage:
    """Return damage that concerns a whole file, its reason without the path in front of it."""
    size = path.stat().st_size if path.exists() else 0
    return Damage(path, 0, size, str(error).removeprefix(f"{path}: "))


def _count(found: Verification, path: Path) -> None:
    found.files += 1
    found.bytes += path.stat().st_size
