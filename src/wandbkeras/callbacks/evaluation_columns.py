"""The columns of the evaluation tables, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wandbkeras.callbacks.inferred_columns import InferredColumn, inferred_columns
from wandbkeras.callbacks.row_processors import RowNumber, RowProcessor, processed, rows_of
from wandbkeras.data_types.pixels import Array

Slots = Mapping[str, Array]


@dataclass(frozen=True)
class Column:
    """Some rows of a column: the kind that a table takes, None to find it, and the values."""

    kind: Any
    values: Any


Columns = dict[str, Column]


class ComputedColumns:
    """Columns made of others, by the user's function or by inference from the first batch.

    Args:
        labels: the names of the classes.
        processor: ``f(number, row) -> dict`` of the columns to add.
        infer: whether columns are inferred where there is no processor.
    """

    def __init__(self, labels: Sequence[str], processor: RowProcessor | None, infer: bool) -> None:
        self._labels = labels
        self._processor = processor
        self._infer = infer
        self._inferred: list[InferredColumn] | None = None

    def of(
        self,
        numbers: Sequence[int],
        rows: Callable[[], list[dict[str, Any]]],
        inputs: Slots,
        classed: Slots,
        plain: Slots,
    ) -> Columns:
        """Return the computed columns of some rows.

        Args:
            numbers: the rows' numbers in their table.
            rows: makes what the processor gets of each.
            inputs: the inputs of the rows, of which masks may be.
            classed: what to infer columns from that may be about classes: targets, outputs.
            plain: what else to infer columns from.
        """
        if self._processor is not None:
            made = processed(self._processor, numbers, rows())
            return {name: Column(None, values) for name, values in made.items()}
        if not self._infer:
            return {}
        if self._inferred is None:
            self._inferred = []
            for slot, values in classed.items():
                self._inferred += inferred_columns(slot, values, self._labels, inputs)
            for slot, values in plain.items():
                self._inferred += inferred_columns(slot, values)
        slots = {**classed, **plain}
        return {
            column.name: Column(column.kind, column.values(slots[column.slot], inputs))
            for column in self._inferred
        }


def validation_columns(
    inputs: Slots, targets: Slots, first: int, computed: ComputedColumns
) -> Columns:
    """Return targets, inputs, and what is computed of them, for rows from number ``first`` on."""
    slots = {**targets, **inputs}
    numbers = range(first, first + len(next(iter(inputs.values()))))
    given = {name: Column(None, values) for name, values in slots.items()}
    return {**given, **computed.of(numbers, lambda: rows_of(slots), inputs, targets, inputs)}


def prediction_columns(
    inputs: Slots,
    targets: Slots,
    outputs: Slots,
    references: Column,
    first: int,
    computed: ComputedColumns,
) -> Columns:
    """Return outputs, the rows of the validation table, and what is computed of the outputs.

    Args:
        inputs, targets, outputs: of the same rows.
        references: the column of the rows' numbers in the validation table.
        first: the number of the first row in this table.
        computed: what adds columns.
    """

    def rows() -> list[dict[str, Any]]:
        validation = rows_of({**targets, **inputs})
        links = [
            key if hasattr(key, "get_row") else RowNumber.of(int(key), row)
            for key, row in zip(references.values, validation, strict=True)
        ]
        return rows_of({**outputs, "val_row": links})

    numbers = range(first, first + len(references.values))
    given = {name: Column(None, values) for name, values in outputs.items()}
    made = computed.of(numbers, rows, inputs, outputs, {})
    return {**given, "val_row": references, **made}
