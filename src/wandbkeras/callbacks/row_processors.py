"""The user's functions that make columns of rows, called as wandb calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wandbkeras.errors import UsageError

RowProcessor = Callable[[int, dict[str, Any]], Mapping[str, Any]]


class RowNumber(int):
    """The number of a row, from which the row can be had, as from wandb's row index.

    >>> RowNumber.of(3, {"input": 0.5}).get_row()
    {'input': 0.5}
    """

    _row: dict[str, Any]

    @classmethod
    def of(cls, number: int, row: dict[str, Any]) -> RowNumber:
        made = cls(number)
        made._row = row
        return made

    def get_row(self) -> dict[str, Any]:
        return self._row


def rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return columns of equal length as a dict for each row.

    >>> rows_of({"a": [1, 2], "b": [3, 4]})
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
    """
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def processed(
    processor: RowProcessor, numbers: Sequence[int], rows: Sequence[dict[str, Any]]
) -> dict[str, list[Any]]:
    """Return the columns that a processor makes of some rows.

    Raises:
        UsageError: it returns something else than a dict, or not the same names for every row.
    """
    columns: dict[str, list[Any]] = {}
    for number, row in zip(numbers, rows, strict=True):
        made = processor(RowNumber.of(number, row), row)
        if not isinstance(made, Mapping):
            raise UsageError(
                f"row processor: received {type(made).__name__} for row {number}; expected a dict"
            )
        if columns and made.keys() != columns.keys():
            raise UsageError(
                f"row processor: received the columns {list(made)} for row {number}; expected "
                f"{list(columns)}, as for the row before"
            )
        for name, value in made.items():
            columns.setdefault(name, []).append(value)
    return columns
