"""Pictures of what the model makes of some validation data, the same rows each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wandbkeras.callbacks.batches import Batch
from wandbkeras.callbacks.drawing import Drawing, check_types, drawing_of, shapes_of
from wandbkeras.callbacks.labels import checked_labels, misfit
from wandbkeras.callbacks.mask_colors import checked_colors
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.callbacks.pictures import KINDS, guessed_kind
from wandbkeras.callbacks.predicting import (
    input_slots,
    output_shapes,
    output_slots,
    predict,
    target_slots,
    thresholds,
)
from wandbkeras.callbacks.randomness import untouched_randomness
from wandbkeras.callbacks.streams import BATCH_SIZE
from wandbkeras.callbacks.validation_data import ValidationData
from wandbkeras.data_types import Image
from wandbkeras.errors import UsageError

MOST = 100
_SEED = 0  # the same for every run: runs on the same data show the same rows


class Examples(Part):
    """Logs ``examples`` each epoch: inputs, predictions and references of the same few rows.

    An image as input has the predicted label as its caption. Where the output is a picture too,
    each row is three: input, prediction, reference; where the input is a label, it is the caption
    of the other two. Colours, and how values become pixels, are decided once: from the inputs, and
    from the references for the predictions as well.

    Args:
        data: the part that finds the validation data; it must come before this one.
        input_type: ``image``, ``images``, ``segmentation_mask``, ``label``, or ``auto``, which
            guesses from the shape; None: inputs are not shown, unless both types are None: then
            both are ``auto``.
        output_type: the same; None with an ``input_type`` is ``auto``.
        labels: the names of the classes, for captions; two for a single number: of false and true.
        class_colors: red, green and blue between 0 and 1 for each class of a mask.
        predictions: how many rows, at most 100. They are chosen at random, with a seed of their
            own, from arrays; from a dataset they are the first.

    Raises:
        UsageError: an argument is wrong, or no picture can come of the two types.
    """

    needs = "model"

    def __init__(
        self,
        data: ValidationData,
        input_type: str | None = None,
        output_type: str | None = None,
        labels: Any = None,
        class_colors: Any = None,
        predictions: int = 36,
    ) -> None:
        super().__init__()
        for name, kind in (("input_type", input_type), ("output_type", output_type)):
            if kind is not None and kind not in KINDS:
                raise UsageError(f"{name}: received {kind!r}; expected one of {', '.join(KINDS)}")
        if (input_type, output_type) in ((None, "label"), ("label", "label")):
            check_types(input_type, output_type)
        if type(predictions) is not int or predictions < 1:
            raise UsageError(
                f"predictions: received {predictions!r}; expected a number from 1 to {MOST}"
            )
        self.data = data
        self.input_type = "auto" if input_type is output_type is None else input_type
        self.output_type = output_type
        self.labels = checked_labels(labels)
        self.class_colors = checked_colors(class_colors)
        self.predictions = min(predictions, MOST)
        self._has_chosen = False
        self._rows: Batch | None = None
        self._drawing: Drawing | None = None

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._has_chosen = False
        self._rows = self._drawing = None
        self._choose()

    @never_raises
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._choose()

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._choose()
        if self._rows is not None:
            self.log_epoch(epoch, {"examples": self._images(self._rows)})

    def _choose(self) -> None:
        """Choose the rows, once a fit, as soon as there are validation data."""
        batches = self.data.batches
        if self._has_chosen or batches is None:
            return
        self._has_chosen = True
        with untouched_randomness():
            self._rows = batches.sample(self.predictions, np.random.default_rng(_SEED))
        self._check_labels(self._rows, output_shapes(self.model))

    def _images(self, rows: Batch) -> list[Image]:
        model = self.model
        inputs, targets = input_slots(model, rows.x), target_slots(model, rows.y)
        outputs = output_slots(model, predict(model, rows.x, BATCH_SIZE))
        if self._drawing is None:
            if not output_shapes(model):
                self._check_labels(rows, shapes_of(outputs))
            self._drawing = drawing_of(
                inputs,
                outputs,
                targets,
                self.input_type,
                self.output_type,
                self.labels,
                self.class_colors,
            )
        return self._drawing.images(inputs, outputs, targets, self.labels, thresholds(model))

    def _check_labels(self, rows: Batch, outputs: Mapping[str, Any]) -> None:
        """Say if the labels don't fit what they are for: the outputs, or inputs that are labels."""
        inputs = shapes_of(input_slots(self.model, rows.x))
        kind = guessed_kind(inputs, risky=True) if self.input_type == "auto" else self.input_type
        problem = misfit(self.labels, outputs)
        if problem and kind != "label":
            self.notice(problem)
