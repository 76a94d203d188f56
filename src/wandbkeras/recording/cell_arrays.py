"""Plain cells and arrays of numbers as Arrow arrays, without losing a value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wandbkeras.data_types.pixels import Array, as_array
from wandbkeras.errors import UsageError
from wandbkeras.recording.values import plain_value
from wandbkeras.store.table_schema import Kind, TableColumn, field_of

Parts = list[tuple[pa.Field, pa.Array]]
_EXACT_IN_DOUBLE = 2**53
# The types of Python's values that a kind of column holds, and the kinds of NumPy's dtypes.
_PYTHON: Mapping[str, frozenset[type]] = {
    "null": frozenset(),
    "bool": frozenset({bool}),
    "integer": frozenset({int}),
    "class": frozenset({int}),
    "row": frozenset({int}),
    "number": frozenset({int, float}),
    "string": frozenset({str}),
}
_KINDS_OF_TYPES: Mapping[frozenset[type], Kind] = {
    frozenset(): "null",
    frozenset({bool}): "bool",
    frozenset({int}): "integer",
    frozenset({float}): "number",
    frozenset({str}): "string",
}
_KINDS_OF_DTYPES: Mapping[str, Kind] = {"b": "bool", "i": "integer", "u": "integer", "f": "number"}
_NUMPY = {"bool": "b", "integer": "iu", "class": "iu", "row": "iu", "number": "iuf"}


class PlainCells:
    """A column of bools, integers, numbers, strings, class ids, row numbers or JSON."""

    def __init__(self, column: TableColumn) -> None:
        self.column = column
        self._field = field_of(column.name, column.kind)

    def parts(self, values: Sequence[Any]) -> Parts:
        if isinstance(values, np.ndarray) and values.ndim == 1 and self.column.kind != "json":
            array = self._of_array(values)
        else:
            array = self._of_values([cell_value(value, self.column.name) for value in values])
        if array.null_count and not self.column.optional:
            self.column = replace(self.column, optional=True)
        return [(self._field, array)]

    def _of_array(self, values: Array) -> pa.Array:
        kind = self.column.kind
        if values.dtype.kind not in _NUMPY.get(kind, ""):
            raise self._unfit(f"an array of {values.dtype}")
        if kind == "number" and values.dtype.kind in "iu":
            self._check_exact(values.min(initial=0), values.max(initial=0))
        if values.dtype == np.uint64 and values.max(initial=0) >= 2**63:
            raise self._unfit(f"{values.max()}, which does not fit 64 bits with a sign")
        dtype = {"bool": np.bool_, "number": np.float64}.get(kind, np.int64)
        return pa.array(values.astype(dtype), self._field.type)

    def _of_values(self, cells: list[Any]) -> pa.Array:
        kind = self.column.kind
        if kind == "json":
            texts = [None if c is None else json.dumps(c, ensure_ascii=False) for c in cells]
            return pa.array(texts, pa.string())
        types = set(map(type, cells)) - {type(None)}
        if strange := types - _PYTHON[kind]:
            value = next(cell for cell in cells if type(cell) in strange)
            raise self._unfit(f"{value!r:.80}")
        if kind == "number" and int in types:
            integers = [cell for cell in cells if type(cell) is int]
            self._check_exact(min(integers), max(integers))
        return pa.array(cells, self._field.type)

    def _check_exact(self, low: int, high: int) -> None:
        if max(-int(low), int(high)) > _EXACT_IN_DOUBLE:
            raise self._unfit("an integer beyond 2**53")

    def _unfit(self, what: str) -> UsageError:
        return UsageError(
            f"column {self.column.name!r}: received {what} in a column of the kind "
            f"{self.column.kind}; give its kind when the table is made: float, str, object, …"
        )


class ArrayCells:
    """A column of arrays of one shape."""

    def __init__(self, column: TableColumn, first: Array) -> None:
        self.column = column
        self._shape = first.shape[1:]
        self._dtype = first.dtype

    def parts(self, values: Sequence[Any]) -> Parts:
        array = array_of(values)
        is_nothing = array is None and all(value is None for value in values)
        if is_nothing:
            array = np.zeros((len(values), *self._shape), self._dtype)
        if array is None or array.shape[1:] != self._shape or not self._holds(array.dtype):
            given = "cells of other kinds" if array is None else f"{array.dtype}{array.shape[1:]}"
            raise UsageError(
                f"column {self.column.name!r}: received {given} in a column of arrays "
                f"{self._dtype}{self._shape}; give its kind when the table is made: object"
            )
        missing = [value is None for value in values]
        if any(missing) and not self.column.optional:
            self.column = replace(self.column, optional=True)
        stored = pa.array(array.astype(self._dtype).reshape(-1))
        for size in reversed(self._shape[1:]):
            stored = pa.FixedSizeListArray.from_arrays(stored, size)
        mask = pa.array(missing, pa.bool_()) if any(missing) else None
        stored = pa.FixedSizeListArray.from_arrays(stored, self._shape[0], mask=mask)
        return [(pa.field(self.column.name, stored.type), stored)]

    def _holds(self, dtype: np.dtype[Any]) -> bool:
        return bool(np.can_cast(dtype, self._dtype, "safe"))


def array_of(values: Sequence[Any]) -> Array | None:
    """Return cells that are all arrays, or lists, of numbers of one shape; else None.

    A cell that holds nothing is zeros.
    """
    if isinstance(values, np.ndarray):
        return _storable(values) if values.ndim > 1 else None
    given = [value for value in values if value is not None]
    if not given or not all(_is_arraylike(value) for value in given):
        return None
    arrays = [array for array in map(_array, given) if array is not None]
    if len(arrays) != len(given) or not _are_alike(arrays):
        return None
    found = iter(arrays)
    empty = np.zeros_like(arrays[0])
    return _storable(np.stack([empty if value is None else next(found) for value in values]))


def _are_alike(arrays: Sequence[Array]) -> bool:
    """Whether arrays have one shape, and numbers that one dtype holds exactly."""
    if len({array.shape for array in arrays}) > 1:
        return False
    kinds = {array.dtype.kind for array in arrays}
    if "f" in kinds and kinds <= set("fiu"):
        return all(np.abs(a).max() <= _EXACT_IN_DOUBLE for a in arrays if a.dtype.kind != "f")
    return kinds == {"b"} or kinds <= set("iu")


def kind_of(values: Sequence[Any], name: str) -> Kind:
    """Return the kind of plain cells of the column ``name``."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return _KINDS_OF_DTYPES[values.dtype.kind]
    cells = [cell_value(value, name) for value in values]
    types = set(map(type, cells)) - {type(None)}
    if types == {int, float}:
        low, high = (f(c for c in cells if type(c) is int) for f in (min, max))
        return "number" if max(-low, high) <= _EXACT_IN_DOUBLE else "json"
    return _KINDS_OF_TYPES.get(frozenset(types), "json")


def cell_value(value: Any, name: str) -> Any:
    """Return a cell as plain data: as a metric's value, but that arrays of any size are lists."""
    if isinstance(value, Mapping):
        return {str(key): cell_value(item, name) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [cell_value(item, name) for item in value]
    if getattr(value, "ndim", 0) and hasattr(value, "__array__"):
        return cell_value(as_array(value).tolist(), name)
    return plain_value(value, name)


def _is_arraylike(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        # One type, so that no integer becomes a number on its way.
        kinds = set(map(type, value))
        return len(kinds) == 1 and kinds <= {int, float, bool}
    return bool(getattr(value, "ndim", 0)) and hasattr(value, "__array__")


def _array(value: Any) -> Array | None:
    try:
        array = as_array(value)
    except (ValueError, OverflowError):
        return None
    return array if array.dtype.kind in "biuf" and array.size else None


def _storable(array: Array) -> Array | None:
    """Return an array of a dtype that a file holds."""
    if array.dtype.kind not in "biuf" or not array.size:
        return None
    if array.dtype.kind == "f":
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
