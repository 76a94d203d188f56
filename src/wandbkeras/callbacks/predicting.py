"""What a model in the middle of its training predicts, with nothing of the training touched."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from wandbkeras.callbacks.arrays import leaves, map_leaves, named_slots, row_count
from wandbkeras.data_types.pixels import Array, as_array
from wandbkeras.errors import UsageError


def input_slots(model: keras.Model, x: Any) -> dict[str, Any]:
    """Return the model's inputs by name: ``input`` for a single one."""
    tensors = keras.tree.flatten(getattr(model, "inputs", None) or [])
    return named_slots(x, "input", [tensor.name for tensor in tensors])


def target_slots(model: keras.Model, y: Any) -> dict[str, Any]:
    """Return the targets by name: ``target`` for a single one, else the names of the outputs."""
    return named_slots(y, "target", getattr(model, "output_names", None) or ())


def output_slots(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """Return the model's outputs by name: ``output`` for a single one."""
    return named_slots(outputs, "output", getattr(model, "output_names", None) or ())


def output_shapes(model: keras.Model) -> dict[str, Sequence[int | None]]:
    """Return the shapes of the outputs by name; nothing where the model doesn't know them yet."""
    tensors = getattr(model, "outputs", None)
    shapes = [tensor.shape for tensor in keras.tree.flatten(tensors)] if tensors else []
    names = getattr(model, "output_names", None) or [f"output_{i}" for i in range(len(shapes))]
    return dict(zip(names if len(shapes) > 1 else ["output"], shapes, strict=False))


def thresholds(model: keras.Model) -> dict[str, float]:
    """Return above what a single number of an output means true, where it isn't a probability.

    A loss that takes logits, as ``BinaryCrossentropy(from_logits=True)``, says so.
    """
    losses = output_slots(model, getattr(model, "loss", None))
    return {name: 0.0 for name, loss in losses.items() if getattr(loss, "from_logits", False)}


def predict(model: keras.Model, x: Any, size: int) -> Any:
    """Return the model's outputs for the rows of ``x``, as NumPy arrays.

    They are predicted ``size`` rows at a time, or as many as the model is made for: the last rows
    are padded, so that a compiled model meets one shape, and the padding is cut off.
    """
    rows = row_count(x, "x")
    size = _fixed_size(model) or size
    parts = []
    with _kept_states(model):
        for start in range(0, rows, size):
            outputs = model.predict_on_batch(x if rows == size else _padded(x, start, size, rows))
            count = min(size, rows - start)
            parts.append(map_leaves(functools.partial(_cut, rows=count), outputs))
    if len(parts) == 1:
        return parts[0]
    return map_leaves(lambda *leaves: np.concatenate(leaves), *parts)


def _fixed_size(model: keras.Model) -> int | None:
    """Return how many rows a batch of the model must have, None if any number will do."""
    tensors = keras.tree.flatten(getattr(model, "inputs", None) or [])
    return next((tensor.shape[0] for tensor in tensors if tensor.shape), None)


def _padded(x: Any, start: int, size: int, rows: int) -> Any:
    """Return ``size`` rows of ``x`` from ``start`` on, the last one again where there are fewer."""
    chosen = np.minimum(np.arange(start, start + size), rows - 1)
    return map_leaves(lambda leaf: leaf[chosen], x)


def _cut(output: Any, rows: int) -> Array:
    # A strategy with replicas predicts the batch on each: the first of them is the answer.
    array = as_array(output)
    if array.ndim == 0 or len(array) < rows:
        raise UsageError(
            f"the model's output has the shape {array.shape}; expected a row for each of its "
            f"{rows} inputs"
        )
    return array[:rows]


@contextmanager
def _kept_states(model: keras.Model) -> Iterator[None]:
    """Put the states of stateful recurrent layers back, and begin without any."""
    flatten = getattr(model, "_flatten_layers", None)  # private: with none, nothing is stateful
    layers = [layer for layer in flatten() if getattr(layer, "stateful", False)] if flatten else []
    states = [state for layer in layers for state in leaves(getattr(layer, "states", None))]
    values = [state.numpy() for state in states]
    for layer in layers:
        layer.reset_state()
    try:
        yield
    finally:
        for state, value in zip(states, values, strict=True):
            state.assign(value)
