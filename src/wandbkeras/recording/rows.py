"""What ``log`` is given, as the row that the store takes: every call passes here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandbkeras.errors import UnsupportedValueError
from wandbkeras.recording.logged_tables import LoggedTable, logged_table, may_be_table
from wandbkeras.recording.values import INTEGERS, checked_key, depth_below, plain_value
from wandbkeras.store.checks import MAX_VALUE_DEPTH, RESERVED, is_instant


class RowWithTables(dict[str, Any]):
    """The plain values of a row, and the tables that are still to be written."""

    tables: dict[str, LoggedTable]


class Rows:
    """Makes plain rows of what is logged, one after the other.

    Most rows of a training are numbers under the names of the row before. Those names are not
    checked again.
    """

    def __init__(self) -> None:
        self._checked: list[str] = []

    def plain(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metrics of ``data`` as :func:`plain_row` does; it may have a ``_timestamp``.

        The other names of columns that the store writes itself are refused.
        """
        if type(data) is dict and list(data) == self._checked:
            for value in data.values():
                if type(value) is not float and (type(value) is not int or value not in INTEGERS):
                    break
            else:
                return dict(data)
        row = plain_row(data)
        if taken := sorted(RESERVED & row.keys() - {"_timestamp"}):
            raise UnsupportedValueError(
                f"log: {taken[0]!r} is the store's own name: choose another"
            )
        self._checked = list(row)
        return row


def plain_row(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of ``data`` as plain values, nested names joined by dots.

    Tables and images come out apart: then it is a :class:`RowWithTables`.

    >>> plain_row({"loss": 0.5, "val": {"acc": 1}})
    {'loss': 0.5, 'val.acc': 1}
    """
    if not isinstance(data, Mapping):
        raise UnsupportedValueError(f"log: received {type(data).__name__}; expected a dict")
    row: dict[str, Any] = {}
    tables: dict[str, LoggedTable] = {}
    for key, value in data.items():
        kind = type(value)
        if type(key) is str and key.isascii() and (kind is float or kind is bool or value is None):
            row[key] = value
        else:
            _add(row, tables, checked_key(key), value)
    if tables:
        row = RowWithTables(row)
        row.tables = tables
    return row


def take_timestamp(row: dict[str, Any]) -> float:
    """Take the user's own ``_timestamp`` out of a row."""
    timestamp = row.pop("_timestamp")
    if not is_instant(timestamp):
        raise UnsupportedValueError(
            f"log: received _timestamp {timestamp!r}; expected seconds since the epoch"
        )
    return float(timestamp)


def _add(
    row: dict[str, Any],
    tables: dict[str, LoggedTable],
    key: str,
    value: Any,
    depth: int = MAX_VALUE_DEPTH,
) -> None:
    if isinstance(value, Mapping):
        inner = depth_below(depth, key)
        for name, item in value.items():
            _add(row, tables, f"{key}.{checked_key(name)}", item, inner)
    elif may_be_table(value) and (table := logged_table(value)) is not None:
        tables[key] = table
    else:
        row[key] = plain_value(value, key)
