"""Reading a run of which not all is sound: what is sound is read, the rest is noted.

Nothing is passed over in silence: every file, column or row that can't be read is in ``damage``.
What was made to be no part of a run is refused: only bytes that were changed later are damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.errors import DamagedError
from wandbkeras.store import column_kinds, document, part_schema, rebuild
from wandbkeras.store.chunks import Inspection, inspect
from wandbkeras.store.console import read_console
from wandbkeras.store.damage import Damage
from wandbkeras.store.layout import Layout
from wandbkeras.store.manifest import Manifest
from wandbkeras.store.pages import check_memory
from wandbkeras.store.parquet import MAX_PART_BYTES, Part, file_sha256, in_a_line
from wandbkeras.store.plain_files import read_file
from wandbkeras.store.row_groups import RowGroup
from wandbkeras.store.schema import ArtifactVersion, RunInfo
from wandbkeras.store.source import Source


class Salvage(Source):
    """Reads what is sound of the run at ``layout``, noting in ``damage`` what isn't."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._gone: set[Path] = set()
        self._rebuilt: dict[tuple[int, int], rebuild.Rebuilt] = {}

    def info(self) -> RunInfo:
        """Return what ``run.json`` says; if it is damaged, what the writers say of the run."""
        try:
            return super().info()
        except DamagedError as error:
            made = self._is_as_made(self.layout.info)
            info = None if made else rebuild.info(self.layout, self._processes())
            if info is None:
                raise
            self.note_file(self.layout.info, error, rows=0)
            return info

    def manifest(self, attempt: int, writer: int) -> Manifest:
        """Return the writer's manifest; if it is damaged, one made of the parts that are there."""
        try:
            return super().manifest(attempt, writer)
        except DamagedError as error:
            path = self.layout.manifest(attempt, writer)
            if self._is_as_made(path):
                raise
            rebuilt = self._rebuilt.get((attempt, writer))
            if rebuilt is None:
                rebuilt = rebuild.manifest(self.layout, attempt, writer)
                self._rebuilt[attempt, writer] = rebuilt
            self.note_file(path, error, rebuilt.how, rows=0 if rebuilt.is_whole else None)
            for part, reason in rebuilt.unreadable:
                self.note_file(part, reason)
            return rebuilt.fresh_manifest()

    def is_rebuilt(self, attempt: int, writer: int) -> bool:
        return (attempt, writer) in self._rebuilt

    def part(self, part: Part, names: Sequence[str] | None = None) -> pa.Table:
        """Return what is sound of a part; FileNotFoundError as the source that reads strictly."""
        if self.layout.listed_part(part.name) in self._gone:
            table = self._salvaged(part, names, None)
        else:
            try:
                table = super().part(part, names)
            except DamagedError as error:
                table = self._salvaged(part, names, error)
        rebuilt = self._rebuilt.get(_writer_of(part))
        return table if rebuilt is None else rebuilt.without_doubles(part, table)

    def row_groups(
        self, part: Part, names: Sequence[str] | None = None
    ) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """Return the columns of what is sound of a part, and that all at once."""
        table = self.part(part, names)
        return table.schema, iter([table])

    def check(self, part: Part) -> None:
        """Note what is damaged in a part."""
        path = self.layout.listed_part(part.name)
        if path not in self._gone and self._is_as_sealed(path, part):
            return
        if (data := self._bytes(path, part)) is not None:
            with _made_as_a_part(path):
                list(self._row_groups(part, data))

    def accept(self, damage: Sequence[Damage]) -> None:
        """Let whoever asked for the journal tell of its damage: it is in what was read of it."""

    def console(self, attempt: int, writer: int) -> pa.Table:
        """Return what is sound of what a writer's process printed, as far as it is not sealed."""
        found = read_console(self.layout, attempt, writer)
        for damage in found.damage:
            self.note(damage)
        return found.table

    def missing(self, path: Path) -> None:
        self._gone.add(path)

    def artifact(self, name: str) -> ArtifactVersion | None:
        """Return the artifact version that an event names, None if it can't be read."""
        path = self.layout.listed_artifact(name)
        try:
            return super().artifact(name)
        except DamagedError as error:
            if self._is_as_made(path):
                raise
            self.note_file(path, error, rows=0)
            return None

    def note(self, damage: Damage) -> None:
        """Note damage, once; its path is made relative to the run."""
        if damage not in self.damage:
            self.damage.append(damage)

    def note_file(
        self, path: Path, error: DamagedError | str, more: str = "", rows: int | None = None
    ) -> None:
        """Note that a whole file is damaged, or missing."""
        size = path.lstat().st_size if path.exists() else 0
        reason = str(error).removeprefix(f"{path}: ") + (f"; {more}" if more else "")
        self.note(Damage(path.relative_to(self.layout.root), 0, size, reason, rows))

    def _is_as_sealed(self, path: Path, part: Part) -> bool:
        try:
            return file_sha256(path, self.layout.root, limit=MAX_PART_BYTES) == part.sha256
        except DamagedError:  # whoever reads it will say why
            return False

    def _is_as_made(self, path: Path) -> bool:
        """Whether a document is what somebody made it: then what is wrong with it is no damage."""
        try:
            document.read(path, self.layout.root)
        except (DamagedError, FileNotFoundError):
            return False
        return True

    def _processes(self) -> Iterator[dict[str, object]]:
        """Yield what the writers say of themselves, the latest first."""
        for attempt, writer in reversed(self.writers()):
            manifest = self.manifest(attempt, writer)
            yield rebuild.process(self.layout, manifest)

    def _bytes(self, path: Path, part: Part) -> bytes | None:
        """Return a part's bytes; None, noting it, if it is missing or can't be read at all."""
        if path in self._gone:
            size, reason = part.size, f"missing, with {part.rows} rows"
            self.note(Damage(Path(part.name), 0, size, reason, part.rows))
            return None
        try:
            return read_file(path, MAX_PART_BYTES, self.layout.root)
        except FileNotFoundError:
            raise  # a live writer may have replaced it: the caller looks again
        except (OSError, DamagedError) as error:
            self.note_file(path, str(error), f"{part.rows} rows are lost", part.rows)
            return None

    def _salvaged(
        self, part: Part, names: Sequence[str] | None, error: DamagedError | None
    ) -> pa.Table:
        """Return what is sound of a part of which not all is; ``error`` says what isn't."""
        path = self.layout.root / part.name
        data = self._bytes(path, part)
        if data is None:
            return part_schema.SCHEMAS[part.stream].empty_table()
        if error is not None and hashlib.sha256(data).hexdigest() == part.sha256:
            raise error  # it is as somebody made it
        with _made_as_a_part(path):
            return part_schema.checked_table(self._sound(part, data, names), part.stream)

    def _sound(self, part: Part, data: bytes, names: Sequence[str] | None) -> pa.Table:
        groups = [group.read(names) for group in self._row_groups(part, data)]
        sound = [table.replace_schema_metadata(None) for table in groups if len(table)]
        if not sound:
            return part_schema.SCHEMAS[part.stream].empty_table()
        if part.stream == "history":
            return column_kinds.concatenate(sound)
        names = part_schema.SCHEMAS[part.stream].names
        return pa.concat_tables([table.select(names) for table in sound])

    def _row_groups(self, part: Part, data: bytes) -> Iterator[RowGroup]:
        """Yield the row groups of a damaged part, and note what is lost of them."""
        if part.stream not in part_schema.SCHEMAS:
            path = self.layout.root / part.name
            self.note_file(path, "the SHA-256 does not match", rows=part.rows)
            return
        found = inspect(data, size=part.size, footer=part.footer, checksums=part.chunks)
        for offset, size, what in found.outside:
            is_footer = found.metadata is None and offset < part.size
            cost = f"its {part.rows} rows are lost" if is_footer else "nothing is lost"
            rows = part.rows if is_footer else 0
            self.note(Damage(Path(part.name), offset, size, f"{what}: {cost}", rows))
        if found.metadata is None:
            return
        if not found.chunks and not found.outside:  # only a manifest of a stranger says so
            self.note_file(self.layout.root / part.name, "the SHA-256 does not match", rows=0)
        with pq.ParquetFile(pa.BufferReader(data[: part.size])) as file:
            part_schema.check_schema(file.schema_arrow, part.stream)
            check_memory(file, data, {(chunk.group, chunk.column) for chunk in found.chunks})
            for number in range(file.num_row_groups):
                yield self._row_group(part, file, number, found)

    def _row_group(
        self, part: Part, file: pq.ParquetFile, number: int, found: Inspection
    ) -> RowGroup:
        names = file.schema_arrow.names
        chunks = [chunk for chunk in found.chunks if chunk.group == number]
        damaged = frozenset(names[chunk.column] for chunk in chunks)
        group = RowGroup(part.stream, _writer_of(part)[0], file, number, damaged)
        rows = group.rows if group.is_lost else 0
        steps = f", steps {group.steps[0]} to {group.steps[1]}" if group.steps else ""
        for chunk in chunks:
            name = names[chunk.column]
            reason = f"column {name!r} of row group {number}{steps}: {group.fate(name)}"
            self.note(Damage(Path(part.name), chunk.offset, chunk.size, reason, rows))
            rows = 0  # counted once
        return group


@contextmanager
def _made_as_a_part(path: Path) -> Iterator[None]:
    """Map what Arrow says of bytes that are as somebody made them, and no part."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: {in_a_line(error)}") from error


def _writer_of(part: Part) -> tuple[int, int]:
    attempt, writer, _ = Path(part.name).stem.split("-")
    return int(attempt), int(writer)
