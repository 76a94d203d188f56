"""A table that is written batch by batch while a run is being recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wandbkeras.data_types.table_columns import RowKey
from wandbkeras.errors import UsageError

if TYPE_CHECKING:
    from wandbkeras.recording.table_columns import TableColumns
    from wandbkeras.store.schema import TableFile
    from wandbkeras.store.table_writer import TableWriter, WrittenTable

_WAITING_ROWS = 256  # of what is added row by row, as many make a batch


class OpenTable:
    """A table of a run, open until it is logged; made by ``Run.open_table``.

    Memory is needed for the rows of the last batches, however many went before. A disk that takes
    no more ends the table, not the training: it counts as not recorded when it is logged.

    ``columns`` is None on a disabled run, which takes everything and records nothing.
    """

    def __init__(
        self,
        key: str,
        names: Sequence[str],
        columns: TableColumns | None = None,
        new_writer: Callable[[Any], TableWriter] | None = None,
    ) -> None:
        self.key = key
        self.columns = list(names)
        self.file: TableFile | None = None  # once it is logged
        self.is_open = True
        self._columns = columns
        self._new_writer = new_writer
        self._writer: TableWriter | None = None
        self._rows = 0
        self._waiting: list[Sequence[Any]] = []
        self._error: OSError | None = None

    def add_batch(self, batch: Mapping[str, Any]) -> None:
        """Add rows: for each column an array, a tensor or a list with an entry for each row.

        UsageError if the batch does not fit the columns, which the first batch settled: nothing of
        it is added.
        """
        self._check_open()
        self._add_waiting()
        self._add(batch)

    def add_data(self, *row: Any) -> None:
        """Add a row: a value for each column."""
        self._check_open()
        if len(row) != len(self.columns):
            raise UsageError(
                f"table {self.key!r}: received {len(row)} values; expected {len(self.columns)}, "
                f"for the columns {self.columns}"
            )
        self._waiting.append(row)
        if len(self._waiting) == _WAITING_ROWS:
            self._add_waiting()

    def get_index(self) -> list[RowKey]:
        """Return the numbers of the rows, which link to them in a column of another table."""
        return [RowKey(number, self) for number in range(len(self))]

    def finish(self) -> WrittenTable | None:
        """End the table; it is durable but for its name. OSError if the disk did not take it.

        None on a disabled run.
        """
        self._check_open()
        self._add_waiting()
        if self._columns is None:
            self.is_open = False
            return None
        if self._rows == 0:
            self._add({name: [] for name in self.columns})
        self.is_open = False
        if self._error is not None:
            raise self._error
        assert self._writer is not None
        try:
            return self._writer.finish(self._columns.describe())
        except OSError:
            self._writer.discard()
            raise

    def discard(self) -> None:
        """Do without the table: nothing of it stays. Does nothing once it is logged."""
        if self.is_open and self._writer is not None:
            self._writer.discard()
        self.is_open = False

    def detach(self) -> None:
        """Write nothing more in this process, a forked one: the table is its parent's."""
        if self._writer is not None:
            self._writer.detach()
        self._columns = self._writer = None

    def __len__(self) -> int:
        return self._rows + len(self._waiting)

    def __enter__(self) -> OpenTable:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.discard()

    def __repr__(self) -> str:
        return f"<OpenTable {self.key!r} {self.columns}, {len(self)} rows>"

    def _check_open(self) -> None:
        if not self.is_open:
            raise UsageError(f"table {self.key!r}: it is closed: a table is logged once")

    def _add_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            columns = zip(*waiting, strict=True)
            self._add(dict(zip(self.columns, map(list, columns), strict=True)))

    def _add(self, batch: Mapping[str, Any]) -> None:
        if self._columns is None:
            self._rows += max((len(values) for values in batch.values()), default=0)
            return
        table = self._columns.table(self._columns.checked(batch))
        self._rows += len(table)
        if self._error is not None:
            return
        try:
            if self._writer is None:
                assert self._new_writer is not None
                self._writer = self._new_writer(self._columns.schema(table))
            self._writer.write(table)
        except OSError as error:
            self._error = error
            if self._writer is not None:
                self._writer.discard()
