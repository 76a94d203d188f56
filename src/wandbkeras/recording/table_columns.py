"""The columns of a table that is being written: each of the kind that was given, or found.

The kind of a column is found from its first values. A later batch must fit: by then the file has
its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from wandbkeras.data_types import ClassColumn, Image, ImageColumn, RowColumn, RowKey
from wandbkeras.data_types.pixels import as_array
from wandbkeras.errors import UsageError
from wandbkeras.recording.cell_arrays import ArrayCells, PlainCells, array_of, kind_of
from wandbkeras.recording.from_wandb import image_of
from wandbkeras.recording.image_arrays import ImageCells
from wandbkeras.store.schema import TableFile
from wandbkeras.store.table_schema import Kind, TableColumn, file_metadata

Resolve = Callable[[Any], TableFile]
_Cells = ArrayCells | ImageCells | PlainCells
_KINDS: dict[type, Kind] = {
    bool: "bool",
    int: "integer",
    float: "number",
    str: "string",
    object: "json",
}


class TableColumns:
    """Makes Arrow tables of batches.

    ``kinds`` are those given, None where the first values tell; cells of ``required`` columns hold
    something, as far as is known; ``resolve`` finds the table that a ``RowColumn`` means.
    """

    def __init__(
        self, kinds: Mapping[str, Any], resolve: Resolve, required: Iterable[str] = ()
    ) -> None:
        self.names = list(kinds)
        self._kinds = kinds
        self._resolve = resolve
        self._required = frozenset(required)
        self._columns: dict[str, _Cells] = {}
        self._taken = set(self.names)

    def prepare(self, values: Mapping[str, Sequence[Any]]) -> None:
        """Find the kinds of the columns, and the scale of images, from ``values``."""
        self._columns = {name: self._cells(name, values[name]) for name in self.names}

    def checked(self, batch: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
        """Return a batch with a sequence for each column; UsageError if they are not alike."""
        if set(batch) != set(self.names):
            raise UsageError(f"table: received the columns {list(batch)}; expected {self.names}")
        values = {name: _sequence(batch[name], name) for name in self.names}
        lengths = {name: len(column) for name, column in values.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"table: received columns of different lengths: {lengths}")
        return values

    def table(self, values: Mapping[str, Sequence[Any]]) -> pa.Table:
        """Return a batch as :meth:`checked` gave it; UsageError if a column does not fit."""
        if not self._columns:
            self.prepare(values)
        parts = [
            part for name, cells in self._columns.items() for part in cells.parts(values[name])
        ]
        fields, arrays = zip(*parts, strict=True) if parts else ((), ())
        return pa.Table.from_arrays(list(arrays), schema=pa.schema(fields))

    def schema(self, table: pa.Table) -> pa.Schema:
        """Return the schema of a file that holds batches like ``table``."""
        return table.schema.with_metadata(file_metadata(table.schema, self.describe()))

    def describe(self) -> list[TableColumn]:
        """Return what the columns hold, as far as batches were made."""
        return [cells.column for cells in self._columns.values()]

    def _cells(self, name: str, values: Sequence[Any]) -> _Cells:
        kind = self._kinds[name]
        optional = name not in self._required
        if kind is None:
            kind = _special(values)
        if isinstance(kind, ImageColumn):
            return ImageCells(name, kind, values, self._free_name, optional)
        if isinstance(kind, ClassColumn):
            labels = tuple(kind.classes.labels.items())
            return PlainCells(TableColumn(name, "class", optional=False, labels=labels))
        if isinstance(kind, RowColumn):
            table = self._resolve(kind.table).path
            return PlainCells(TableColumn(name, "row", optional=False, table=table))
        if kind is None:
            array = array_of(values)
            if array is not None:
                # As wandb has it: an array is there, a list may be missing.
                are_lists = any(isinstance(value, (list, tuple)) for value in values)
                return ArrayCells(TableColumn(name, "array", optional=are_lists), array)
        found = kind_of(values, name) if kind is None else _KINDS[kind]
        return PlainCells(TableColumn(name, found, optional))

    def _free_name(self, name: str) -> str:
        """Return a name for a column of the file that stands beside those of the table."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _sequence(values: Any, name: str) -> Sequence[Any]:
    if isinstance(values, (list, tuple)):
        return [_taken(value) for value in values]
    if hasattr(values, "__array__") or hasattr(values, "detach"):
        array = as_array(values)
        if not array.ndim:
            raise UsageError(f"column {name!r}: received a scalar; expected a value for each row")
        # Of others than numbers, NumPy's own types say less than Python's.
        return array if array.dtype.kind in "biuf" else list(map(_taken, array.tolist()))  # type: ignore[return-value]
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise UsageError(f"column {name!r}: received {values!r:.80}; expected a value for each row")
    return [_taken(value) for value in values]


def _taken(value: Any) -> Any:
    """Return a cell, an image of wandb's as ours."""
    return image_of(value) or value


def _special(values: Sequence[Any]) -> ImageColumn | RowColumn | None:
    """Return the kind of values that say themselves what they are: images, keys of rows."""
    if isinstance(values, np.ndarray):
        return None
    given = [value for value in values if value is not None]
    if any(isinstance(value, Image) for value in given):
        return ImageColumn()
    tables = [_table_of_key(value) for value in given]
    if not tables or any(table is not tables[0] for table in tables) or tables[0] is None:
        return None
    return RowColumn(tables[0])


def _table_of_key(value: Any) -> Any:
    """Return the table of a row's key, ours or wandb's."""
    if isinstance(value, RowKey):
        return value.table
    return getattr(value, "_table", None) if isinstance(value, int) else None
