"""The validation data as a table, and what the model predicts for its rows, as tables beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wandbkeras.callbacks.arguments import checked_flag
from wandbkeras.callbacks.batches import Batch, Batches
from wandbkeras.callbacks.evaluation_columns import (
    Column,
    Columns,
    ComputedColumns,
    prediction_columns,
    validation_columns,
)
from wandbkeras.callbacks.labels import checked_labels, misfit
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.callbacks.predicting import (
    input_slots,
    output_shapes,
    output_slots,
    predict,
    target_slots,
)
from wandbkeras.callbacks.randomness import untouched_randomness
from wandbkeras.callbacks.row_numbers import RowNumbers
from wandbkeras.callbacks.row_processors import RowProcessor
from wandbkeras.callbacks.validation_data import ValidationData
from wandbkeras.data_types import RowColumn
from wandbkeras.errors import UsageError
from wandbkeras.recording.artifact import Artifact

ARTIFACT = "wb_validation_data"
ARTIFACT_TYPE = "validation_dataset"
VALIDATION = "validation_data"
PREDICTIONS = "validation_predictions"


@dataclass(frozen=True)
class _Validation:
    """The rows that predictions refer to, and the column of their references.

    ``keys`` are the user's own, None where the table is ours.
    """

    batches: Batches
    rows: RowNumbers
    kind: Any
    keys: Sequence[Any] | None = None


class EvaluationTables(Part):
    """Records the validation data once, and tables of predictions that refer to its rows.

    The first is the table ``validation_data`` in an artifact ``wb_validation_data``; the others are
    logged as ``validation_predictions``, in the row of an epoch or, at the end of training, in one
    of their own. Both are written batch by batch: memory does not grow with the rows.

    Args:
        data: the part that finds the validation data; it must come before this one.
        labels: the names of the classes.
        log_evaluation_frequency: after which epochs: those that it divides, from 0; 0: none, only
            the end of training.
        validation_indexes: instead of a validation table, for each row its key in a table of the
            user's, such as ``table.get_index()``.
        validation_row_processor: ``f(number, row) -> dict`` of columns to add to the validation
            table; ``row`` has ``input`` and ``target``, or the names of several.
        prediction_row_processor: the same for predictions; ``row`` has ``output`` and ``val_row``,
            whose ``get_row()`` is the row of the validation table.
        infer_missing_processors: add columns by the shapes of the data, where there is no
            processor: see :mod:`wandbkeras.callbacks.inferred_columns`.

    Raises:
        UsageError: an argument is wrong.
    """

    needs = "model"

    def __init__(
        self,
        data: ValidationData,
        labels: Any = None,
        log_evaluation_frequency: int = 0,
        validation_indexes: Iterable[Any] | None = None,
        validation_row_processor: RowProcessor | None = None,
        prediction_row_processor: RowProcessor | None = None,
        infer_missing_processors: bool = True,
    ) -> None:
        super().__init__()
        frequency = log_evaluation_frequency
        if type(frequency) is not int or frequency < 0:
            raise UsageError(
                f"log_evaluation_frequency: received {frequency!r}; expected a number of epochs, "
                "0 for the end of training only"
            )
        self.data = data
        self.labels = checked_labels(labels)
        self.log_evaluation_frequency = frequency
        self.validation_indexes = _checked_indexes(validation_indexes)
        self.validation_row_processor = _checked_processor(
            "validation_row_processor", validation_row_processor
        )
        self.prediction_row_processor = _checked_processor(
            "prediction_row_processor", prediction_row_processor
        )
        self.infer_missing_processors = checked_flag(
            "infer_missing_processors", infer_missing_processors
        )
        self._validation: _Validation | None = None
        self._has_begun = False
        self._has_trained = False

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._validation = None
        self._has_begun = self._has_trained = False
        self._begin()

    @never_raises
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._begin()

    @never_raises
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._has_trained = True

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._begin()
        is_due = self.log_evaluation_frequency and epoch % self.log_evaluation_frequency == 0
        if is_due and self._validation is not None:
            self.log_epoch(epoch, self._predicted(self._validation))

    @never_raises
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._has_trained and self._validation is not None:
            self.run.log(self._predicted(self._validation))
        self._validation = None

    def _begin(self) -> None:
        """Record the validation data, once a fit, as soon as there are any."""
        batches = self.data.batches
        if self._has_begun or batches is None:
            return
        self._has_begun = True
        if batches.limit is not None:
            self.notice(f"no evaluation tables: {batches.limit}")
            return
        problem = misfit(self.labels, output_shapes(self.model))
        if problem:
            self.notice(problem)
        with untouched_randomness():
            if self.validation_indexes is not None:
                self._validation = self._of_user(batches, self.validation_indexes)
            else:
                self._validation = self._known(batches) or self._written(batches)

    def _predicted(self, validation: _Validation) -> dict[str, Any]:
        """Return the table of what the model predicts now, to be logged."""
        with untouched_randomness():
            table = self._table(PREDICTIONS, self._predictions(validation))
        self._has_trained = False
        return {PREDICTIONS: table}

    def _of_user(self, batches: Batches, keys: Sequence[Any]) -> _Validation:
        rows = _learned(batches)
        if len(rows) != len(keys):
            raise UsageError(
                f"validation_indexes: received {len(keys)} keys; expected one for each of the "
                f"{len(rows)} rows of the validation data"
            )
        return _Validation(batches, rows, None, keys)

    def _known(self, batches: Batches) -> _Validation | None:
        """Return the table that an earlier ``fit`` of this run wrote of the same data, if any."""
        if self.validation_row_processor is not None:
            return None  # what it makes can't be told without asking it
        versions = self.run.artifact_versions(ARTIFACT).values()
        tables = {
            version.metadata.get("digest"): version.tables[VALIDATION]
            for version in versions
            if VALIDATION in version.tables
        }
        if not tables:
            return None
        rows = _learned(batches)
        table = tables.get(self._digest(rows))
        return None if table is None else _Validation(batches, rows, RowColumn(table))

    def _written(self, batches: Batches) -> _Validation | None:
        """Write the validation table; None if the disk did not take it, which the run has said."""
        rows = RowNumbers()
        table = self._table(VALIDATION, self._validation_columns(batches, rows))
        metadata = {"rows": len(rows), "digest": self._digest(rows)}
        artifact = Artifact(ARTIFACT, ARTIFACT_TYPE, metadata=metadata)
        artifact.add(table, VALIDATION)
        self.run.use_artifact(artifact)
        return None if table.file is None else _Validation(batches, rows, RowColumn(table))

    def _digest(self, rows: RowNumbers) -> str:
        """Return what tells validation tables apart."""
        has_processor = self.validation_row_processor is not None
        text = repr((rows.digest, self.labels, self.infer_missing_processors, has_processor))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _validation_columns(self, batches: Batches, rows: RowNumbers) -> Iterator[Columns]:
        computed = ComputedColumns(
            self.labels, self.validation_row_processor, self.infer_missing_processors
        )
        for batch in batches:
            first = len(rows)
            rows.learn(batch)
            yield validation_columns(*self._slots(batch), first, computed)

    def _predictions(self, validation: _Validation) -> Iterator[Columns]:
        computed = ComputedColumns(
            self.labels, self.prediction_row_processor, self.infer_missing_processors
        )
        model = self.model  # once: on JAX each look at it gathers the state of training
        first = size = 0
        for batch in validation.batches:
            size = size or batch.rows
            outputs = output_slots(model, predict(model, batch.x, size))
            is_ordered = validation.batches.ordered
            numbers = (
                np.arange(first, first + batch.rows) if is_ordered else validation.rows.find(batch)
            )
            keys = validation.keys
            references = numbers if keys is None else [keys[n] for n in numbers.tolist()]
            yield prediction_columns(
                *self._slots(batch), outputs, Column(validation.kind, references), first, computed
            )
            first += batch.rows

    def _slots(self, batch: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return inputs and targets by names that are all different."""
        inputs = input_slots(self.model, batch.x)
        targets = target_slots(self.model, batch.y)
        return inputs, {
            f"target_{name}" if name in inputs else name: values for name, values in targets.items()
        }

    def _table(self, key: str, parts: Iterator[Columns]) -> Any:
        """Return a table, still to be logged, of columns that come batch by batch."""
        first = next(parts, None)
        if first is None:
            raise UsageError("validation data: received no rows")
        with self.run.open_table(key, {name: c.kind for name, c in first.items()}) as table:
            table.add_batch({name: column.values for name, column in first.items()})
            for part in parts:
                table.add_batch({name: column.values for name, column in part.items()})
        return table


def _learned(batches: Batches) -> RowNumbers:
    rows = RowNumbers()
    for batch in batches:
        rows.learn(batch)
    return rows


def _checked_indexes(indexes: Iterable[Any] | None) -> list[Any] | None:
    if indexes is None:
        return None
    if isinstance(indexes, (str, bytes, Mapping)) or not isinstance(indexes, Iterable):
        raise UsageError(
            f"validation_indexes: received {type(indexes).__name__}; expected a list of row keys, "
            "such as table.get_index()"
        )
    return list(indexes)


def _checked_processor(name: str, processor: RowProcessor | None) -> RowProcessor | None:
    if processor is not None and not callable(processor):
        raise UsageError(
            f"{name}: received {type(processor).__name__}; expected a function of a number and a "
            "row that returns a dict"
        )
    return processor
