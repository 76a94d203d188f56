"""The tables of a run being recorded: written first, then named by a row or an artifact."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wandbkeras.data_types.table import Table, checked_columns
from wandbkeras.errors import UsageError
from wandbkeras.recording.logged_tables import LoggedTable
from wandbkeras.recording.open_table import OpenTable
from wandbkeras.recording.values import checked_text
from wandbkeras.store.checks import IMAGES, TABLE
from wandbkeras.store.limits import MAX_IMAGES, MAX_TABLE_ROWS
from wandbkeras.store.schema import TableFile
from wandbkeras.store.writer import RunWriter

if TYPE_CHECKING:
    from wandbkeras.recording.table_columns import TableColumns
    from wandbkeras.store.table_writer import WrittenTable

_BATCH_ROWS = 256  # of a table in memory; as Arrow has it, its images are there a second time


class RunTables:
    """Brings tables into the run of ``writer``, None if it is disabled."""

    def __init__(self, writer: RunWriter | None) -> None:
        self._writer = writer
        self._open: list[OpenTable] = []
        self._files: dict[int, tuple[weakref.ref[Any], TableFile]] = {}
        self._said: set[str] = set()

    def open(self, key: str, columns: Iterable[str] | Mapping[str, Any]) -> OpenTable:
        """Return a table to be written batch by batch."""
        checked_text(key, "open_table: the key")
        kinds = checked_columns(columns)
        if self._writer is None:
            return OpenTable(key, list(kinds))
        table = OpenTable(key, list(kinds), self._columns(kinds), self._writer.files.new_table)
        self._open.append(table)
        return table

    @contextmanager
    def written(self, tables: Mapping[str, LoggedTable]) -> Iterator[Placing]:
        """Write tables, by their keys; those that don't get a place meanwhile are gone after.

        What the disk doesn't take counts as not recorded, one record each.
        """
        assert self._writer is not None
        placing = Placing(self, self._writer)
        try:
            for key, logged in tables.items():
                self._tell_of_limits(key, logged)
                with self._writer.counting(f"table {key!r}"):
                    placing.waiting[key] = (logged, self.write(key, logged.table))
            yield placing
        finally:
            placing.clear()

    def put(self, key: str, logged: LoggedTable, step: int) -> TableFile:
        """Write a table and give it its name; OSError if the disk doesn't take it."""
        assert self._writer is not None
        self._tell_of_limits(key, logged)
        file = self._writer.files.shelf.place(self.write(key, logged.table), key, step)
        self.remember(logged, file)
        return file

    def write(self, key: str, table: Table | OpenTable) -> WrittenTable:
        """Write a table, durable but for its name; OSError if the disk doesn't take it."""
        writer = self._writer
        assert writer is not None
        if isinstance(table, OpenTable):
            if table in self._open:
                self._open.remove(table)
            written = table.finish()
            if written is None:
                raise UsageError(f"table {key!r}: it was opened by another run, or process")
            return written
        columns = self._columns(table.kinds, table.required)
        whole = columns.checked({name: table.get_column(name) for name in table.columns})
        columns.prepare(whole)
        return _write_batches(writer, columns, whole, len(table))

    def remember(self, logged: LoggedTable, file: TableFile) -> None:
        """Know what was logged again when another table links to its rows."""
        if isinstance(logged.table, OpenTable):
            logged.table.file = file
        elif logged.kind == TABLE:
            self._files[id(logged.given)] = (weakref.ref(logged.given), file)

    def resolve(self, table: Any) -> TableFile:
        """Return the file of a table of this run; UsageError if it was not logged."""
        file = getattr(table, "file", table)  # of an open table, of a stored one
        reference, known = self._files.get(id(table), (None, None))
        if reference is not None and reference() is table:
            file = known
        if not isinstance(file, TableFile):
            raise UsageError(
                f"a column of rows: received {table!r:.80}, which was not logged: log the table "
                "that it links to first, or the artifact that holds it"
            )
        assert self._writer is not None
        if not self._writer.layout.listed_table(file.path).is_file():
            raise UsageError(f"a column of rows: {table!r:.80} is no table of this run")
        return file

    def finish(self) -> None:
        """Discard what was never logged, and say so."""
        for table in (table for table in self._open if table.is_open):
            rows = len(table)
            table.discard()
            if rows and self._writer is not None:
                reason = f"opened and never logged, {rows} rows are not recorded"
                self._writer.event("failure", {"where": f"table {table.key}", "reason": reason})
                self._say(table.key, f"table {table.key!r}: {reason}")
        self._open.clear()

    def detach(self) -> None:
        """Write nothing more in this process, a forked one."""
        for table in self._open:
            table.detach()
        self._open.clear()
        self._writer = None

    def _columns(self, kinds: Mapping[str, Any], required: Iterable[str] = ()) -> TableColumns:
        from wandbkeras.recording.table_columns import TableColumns  # and with it pyarrow

        return TableColumns(kinds, self.resolve, required)

    def _tell_of_limits(self, key: str, logged: LoggedTable) -> None:
        rows = len(logged.table)
        if logged.kind == TABLE and rows > MAX_TABLE_ROWS:
            self._say(
                key,
                f"table {key!r}: {rows} rows, W&B shows {MAX_TABLE_ROWS} of a table: all are "
                "recorded, and sync sends the rest as further tables of its artifact",
            )
        elif logged.kind == IMAGES and rows > MAX_IMAGES:
            self._say(
                key,
                f"images {key!r}: {rows} of them, W&B's client sends {MAX_IMAGES} of a step: all "
                "are recorded and sent",
            )

    def _say(self, key: str, text: str) -> None:
        if key not in self._said:
            self._said.add(key)
            print(f"wandbkeras: {text}", file=sys.stderr)  # noqa: T201


class Placing:
    """Tables that are written and have no name yet."""

    def __init__(self, tables: RunTables, writer: RunWriter) -> None:
        self.waiting: dict[str, tuple[LoggedTable, WrittenTable]] = {}
        self._tables = tables
        self._writer = writer
        self._placed: list[TableFile] = []

    def place(self, step: int) -> dict[str, Any]:
        """Give each a name with ``step``; return the values that name them, by their keys.

        Until :meth:`keep` is called they are taken back in the end.
        """
        values: dict[str, Any] = {}
        for key, (logged, written) in self.waiting.items():
            with self._writer.counting(f"table {key!r}"):
                file = self._writer.files.shelf.place(written, key, step)
                self._placed.append(file)
                self._tables.remember(logged, file)
                values[key] = file.to_value(logged.kind)
        self.waiting.clear()
        return values

    def keep(self) -> None:
        """Keep what was placed: something names it."""
        self._placed.clear()

    def clear(self) -> None:
        """Remove what nothing names."""
        for _, written in self.waiting.values():
            self._writer.files.shelf.drop(written)
        self._writer.files.shelf.remove(self._placed)


def _write_batches(
    writer: RunWriter, columns: TableColumns, whole: Mapping[str, Any], rows: int
) -> WrittenTable:
    file = None
    try:
        for start in range(0, max(rows, 1), _BATCH_ROWS):
            batch = {name: values[start : start + _BATCH_ROWS] for name, values in whole.items()}
            table = columns.table(batch)
            file = file or writer.files.new_table(columns.schema(table))
            file.write(table)
        assert file is not None
        return file.finish(columns.describe())
    except BaseException:
        if file is not None:
            file.discard()
        raise
