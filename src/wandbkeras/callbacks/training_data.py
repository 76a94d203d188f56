"""Batches of training data that are read again in each epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from wandbkeras.errors import UsageError

BATCH_SIZE = 32  # Keras's own default
_EXPECTED = (
    "expected (x, y) or (x, y, sample_weight) of arrays or dicts or lists of arrays, a "
    "tf.data.Dataset, a PyDataset or a DataLoader"
)


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
        if hasattr(data, "__next__"):
            raise UsageError(
                f"training_data: received {type(data).__name__}, which can be read only once; "
                f"{_EXPECTED}"
            )
        self._data = data
        if not _is_stream(data):
            self._data, self._rows = _arrays(data)
        elif limit is None and _is_endless(data):
            raise UsageError(
                "training_data: received an endless dataset; expected gradient_batches too"
            )

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        for batch in itertools.islice(self._batches(), self._limit):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            yield _mapped(_tensor, x), _mapped(_tensor, y), _mapped(_tensor, sample_weight)

    def _batches(self) -> Iterable[Any]:
        data = self._data
        if self._rows is not None:
            starts = range(0, self._rows, BATCH_SIZE)
            return (_mapped(lambda leaf, i=i: leaf[i : i + BATCH_SIZE], data) for i in starts)
        if isinstance(data, keras.utils.PyDataset):
            indices = itertools.count() if data.num_batches is None else range(data.num_batches)
            return map(data.__getitem__, indices)
        stream: Iterable[Any] = data
        return stream


def _is_stream(data: Any) -> bool:
    """Whether ``data`` yields batches: a dataset or a loader, not arrays."""
    if isinstance(data, keras.utils.PyDataset):
        return True
    is_arrays = isinstance(data, (list, tuple, Mapping, str, bytes)) or hasattr(data, "shape")
    return not is_arrays and hasattr(data, "__iter__")


def _is_endless(data: Any) -> bool:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    cardinality = getattr(data, "cardinality", None)  # of a tf.data.Dataset; -1: endless
    return cardinality is not None and int(cardinality()) == -1


def _arrays(data: Any) -> tuple[Any, int]:
    """Return x, y and weights that can be sliced, and how many rows they have."""
    try:
        parts = keras.utils.unpack_x_y_sample_weight(data)
        parts = _mapped(lambda leaf: leaf.to_numpy() if hasattr(leaf, "to_numpy") else leaf, parts)
        rows = {int(leaf.shape[0]) for leaf in keras.tree.flatten(parts) if leaf is not None}
    except (ValueError, AttributeError, IndexError) as error:
        raise UsageError(f"training_data: received {_described(data)}; {_EXPECTED}") from error
    if len(rows) != 1:
        received = ", ".join(map(str, sorted(rows))) or "no"
        raise UsageError(
            f"training_data: received arrays of {received} rows; expected as many in each"
        )
    return parts, rows.pop()


def _mapped(function: Any, structure: Any) -> Any:
    return keras.tree.map_structure(lambda v: None if v is None else function(v), structure)


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


def _described(data: Any) -> str:
    if isinstance(data, (list, tuple)):
        return f"a {type(data).__name__} of {', '.join(type(part).__name__ for part in data)}"
    return type(data).__name__
