"""The validation data of the ``fit`` that is going on, found without patching Keras.

Two private places are looked at, neither is changed: the local names of ``fit`` itself, and the
iterator that ``fit`` keeps for its evaluations. Where a version of Keras has neither, nothing is
found.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import keras

_KERAS = ("keras.", "tf_keras.")
_DEPTH = 50  # frames between a hook and `fit`; three of Keras's own and what users put around them
# Where the data adapters of Keras keep what they were given; a generator's has the batches that
# Keras has looked at already.
_KEPT_BY_ADAPTERS = ("_inputs", "_dataset", "py_dataset", "_dataloader", "_first_batches")


@dataclass(frozen=True)
class FitData:
    """What ``fit`` validates with.

    Attributes:
        data: as it was given: ``(x, y, sample_weight)`` or a dataset.
        steps: the batches of an evaluation, None: all.
        batch_size: the rows of a batch of arrays, None: Keras's default.
        peeked: whether ``data`` is a list of the few batches of a generator that Keras has read.
    """

    data: Any
    steps: int | None = None
    batch_size: int | None = None
    peeked: bool = False


def from_frame(model: keras.Model) -> FitData | None:
    """Return what the ``fit`` of this model, further up the stack, validates with."""
    found = _frame_of_fit(model)
    if found is None or found.get("validation_data") is None:
        return None
    data = found["validation_data"]
    if found.get("val_y") is not None:
        data = (found["val_x"], found["val_y"])
    return FitData(
        data,
        found.get("validation_steps"),
        found.get("validation_batch_size") or found.get("batch_size"),
    )


def training_arrays(model: keras.Model) -> FitData | None:
    """Return the arrays that the ``fit`` of this model, further up the stack, trains on.

    None for a dataset, a loader or a generator: who reads it may change what training gets of it.
    """
    found = _frame_of_fit(model) or {}
    if found.get("x") is None or found.get("y") is None:
        return None
    return FitData((found["x"], found["y"]))


def from_evaluation(model: keras.Model) -> FitData | None:
    """Return what Keras's own iterator, of an evaluation that goes on within ``fit``, reads."""
    iterator = getattr(model, "_eval_epoch_iterator", None)
    adapter = getattr(iterator, "data_adapter", None)
    for name in _KEPT_BY_ADAPTERS:
        data = getattr(adapter, name, None)
        if data is not None:
            steps = getattr(iterator, "steps_per_epoch", None)
            size = getattr(adapter, "batch_size", None)
            return FitData(data, steps, size, peeked=name == "_first_batches")
    return None


def _frame_of_fit(model: keras.Model) -> Mapping[str, Any] | None:
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_DEPTH):
        if frame is None:
            break
        module = str(frame.f_globals.get("__name__"))
        if frame.f_code.co_name == "fit" and module.startswith(_KERAS):
            names = frame.f_locals
            if names.get("self") is model:
                return names
        frame = frame.f_back
    return None
