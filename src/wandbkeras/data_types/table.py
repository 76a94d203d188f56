"""Tables that are built in memory, row by row, as ``wandb.Table``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wandbkeras.data_types.table_columns import RowKey, checked_kind
from wandbkeras.errors import UsageError

_DEFAULT_COLUMNS = ("Input", "Output", "Expected")  # as in wandb


class Table:
    """Rows and named columns; a cell is anything plain, an array, or an image.

    Args:
        columns: names; or name to kind, where that isn't to be found from the values: ``int``,
            ``float``, ``bool``, ``str``, ``object``, an ``ImageColumn``, a ``ClassColumn`` or a
            ``RowColumn``.
        data: rows, or a dataframe of pandas.
        dataframe: of pandas; its columns are those of the table.

    A table that does not fit into memory is written batch by batch, see ``Run.open_table``.

    >>> table = Table(["name", "score"], [["a", 0.5]])
    >>> table.add_data("b", 1.0)
    >>> table.data, len(table)
    ([['a', 0.5], ['b', 1.0]], 2)
    """

    _log_type = "table"  # as wandb's own has

    def __init__(
        self,
        columns: Iterable[str] | Mapping[str, Any] | None = None,
        data: Any = None,
        dataframe: Any = None,
    ) -> None:
        if dataframe is None and hasattr(data, "iloc"):
            data, dataframe = None, data
        self.kinds: dict[str, Any] = {}
        self.required: set[str] = set()  # columns that were added with a value for each row
        self.data: list[list[Any]] = []
        if dataframe is not None:
            columns, data = _of_dataframe(dataframe)
        self.kinds = checked_columns(_DEFAULT_COLUMNS if columns is None else columns)
        for row in () if data is None else data:
            self.add_data(*row)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.kinds)

    def add_data(self, *row: Any) -> None:
        """Add a row: a value for each column."""
        if len(row) != len(self.kinds):
            raise UsageError(
                f"Table: received {len(row)} values; expected {len(self.kinds)}, for the columns "
                f"{self.columns}"
            )
        self.data.append(list(row))

    def add_column(self, name: str, data: Sequence[Any], kind: Any = None) -> None:
        """Add a column with a value for each row; to a table without columns, the rows too."""
        if name in self.kinds:
            raise UsageError(f"Table: the column {name!r} is there already")
        if self.kinds and len(data) != len(self.data):
            raise UsageError(
                f"Table: received {len(data)} values for the column {name!r}; expected "
                f"{len(self.data)}"
            )
        added = checked_columns({name: kind})
        if not self.kinds:
            self.data = [[] for _ in range(len(data))]
        self.kinds |= added
        self.required.add(name)
        for row, value in zip(self.data, data, strict=True):
            row.append(value)

    def get_column(self, name: str) -> list[Any]:
        """Return the values of a column."""
        if name not in self.kinds:
            raise UsageError(f"Table: no column {name!r}; it has {self.columns}")
        index = self.columns.index(name)
        return [row[index] for row in self.data]

    def get_index(self) -> list[RowKey]:
        """Return the numbers of the rows, which link to them in another table's column."""
        return [RowKey(number, self) for number in range(len(self.data))]

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<Table {self.columns}, {len(self)} rows>"


def checked_columns(columns: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return the kinds of columns by their names; UsageError if a name can't be one."""
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        raise UsageError(f"columns: received {columns!r:.80}; expected names")
    kinds = columns if isinstance(columns, Mapping) else None
    names = [name if isinstance(name, str) else _number(name) for name in columns]
    if len(set(names)) != len(names):
        raise UsageError(f"columns: received {names}: a name occurs twice")
    return {
        name: None if kinds is None else checked_kind(kinds[given], name)
        for name, given in zip(names, columns, strict=True)
    }


def _number(name: Any) -> str:
    """Return the name of a column that was given as a number, as wandb and pandas allow."""
    if isinstance(name, bool) or not hasattr(name, "__index__"):
        raise UsageError(f"columns: received the name {name!r:.80}; expected a string")
    return str(int(name))


def _of_dataframe(frame: Any) -> tuple[list[Any], list[list[Any]]]:
    """Return columns and rows of a dataframe; what is missing is None, a NaN of floats is NaN."""
    missing = frame.isna().to_numpy()
    columns = []
    for index in range(len(frame.columns)):
        series = frame.iloc[:, index]
        cells = series.tolist()
        if series.dtype.kind != "f" or any(not isinstance(cell, float) for cell in cells):
            gone = missing[:, index]
            cells = [None if g else cell for cell, g in zip(cells, gone, strict=True)]
        columns.append(cells)
    return list(frame.columns), [list(row) for row in zip(*columns, strict=True)]
