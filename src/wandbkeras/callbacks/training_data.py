"""Batches of training data that are read again in each epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from wandbkeras.callbacks.arrays import map_leaves, row_count, sliceable
from wandbkeras.callbacks.streams import (
    BATCH_SIZE,
    EXPECTED,
    batches_in,
    described,
    is_endless,
    is_iterator,
    is_stream,
)
from wandbkeras.errors import UsageError


class TrainingData:
    """Batches ``(x, y, sample_weight)`` of tensors of the backend; each iteration begins anew.

    Arrays are sliced by 32; datasets and loaders have batches of their own. None stands for targets
    or weights that are not given.

    Args:
        data: what ``fit`` takes, but no generator: that can be read only once.
        limit: how many batches at most; None: all.

    Raises:
        UsageError: ``data`` can't be read, or would never end.
    """

    def __init__(self, data: Any, limit: int | None = None) -> None:
        self._limit = limit
        self._rows: int | None = None
        if is_iterator(data):
            raise UsageError(
                f"training_data: received {type(data).__name__}, which can be read only once; "
                f"{EXPECTED}"
            )
        self._data = data
        if not is_stream(data):
            self._data = _arrays(data)
            self._rows = row_count(self._data, "training_data")
        elif limit is None and is_endless(data):
            raise UsageError(
                "training_data: received an endless dataset; expected gradient_batches too"
            )

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        for batch in itertools.islice(self._batches(), self._limit):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            yield map_leaves(_tensor, (x, y, sample_weight))

    def _batches(self) -> Iterable[Any]:
        if self._rows is None:
            return batches_in(self._data)
        starts = range(0, self._rows, BATCH_SIZE)
        return (map_leaves(lambda leaf, i=i: leaf[i : i + BATCH_SIZE], self._data) for i in starts)


def _arrays(data: Any) -> Any:
    """Return x, y and weights that can be sliced."""
    try:
        return tuple(map(sliceable, keras.utils.unpack_x_y_sample_weight(data)))
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"training_data: received {described(data)}; {EXPECTED}") from error


def _tensor(leaf: Any) -> Any:
    """Return a tensor of the backend, of floats in Keras's precision, as ``fit`` makes of arrays.

    Text stays an array: only TensorFlow has tensors of it.
    """
    if keras.ops.is_tensor(leaf):
        return leaf
    array = np.asarray(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf)
    if array.dtype.kind not in "biuf":
        return array
    is_float = array.dtype.kind == "f"
    return keras.ops.convert_to_tensor(array, keras.config.floatx() if is_float else None)
