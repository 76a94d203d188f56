"""What ``fit`` takes that yields batches: datasets, loaders, generators."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import keras

BATCH_SIZE = 32  # Keras's own, for what is no stream
EXPECTED = (
    "expected (x, y) or (x, y, sample_weight) of arrays or dicts or lists of arrays, a "
    "tf.data.Dataset, a PyDataset or a DataLoader"
)


def is_iterator(data: Any) -> bool:
    """Whether reading ``data`` uses it up."""
    return hasattr(data, "__next__")


def is_stream(data: Any) -> bool:
    """Whether ``data`` is iterated for batches: a dataset or a loader, not arrays."""
    if isinstance(data, keras.utils.PyDataset):  # iterable itself only in newer versions
        return True
    is_arrays = isinstance(data, (list, tuple, Mapping, str, bytes)) or hasattr(data, "shape")
    return not is_arrays and hasattr(data, "__iter__")


def is_endless(stream: Any) -> bool:
    """Whether a stream says that it has no last batch."""
    if isinstance(stream, keras.utils.PyDataset):
        return stream.num_batches is None
    cardinality = getattr(stream, "cardinality", None)  # of a tf.data.Dataset; -1: endless
    return cardinality is not None and int(cardinality()) == -1


def batches_in(stream: Any) -> Iterable[Any]:
    """Return the batches of a stream from the first on, as it yields them."""
    if isinstance(stream, keras.utils.PyDataset):
        count = stream.num_batches
        return map(stream.__getitem__, itertools.count() if count is None else range(count))
    batches: Iterable[Any] = stream
    return batches


def described(data: Any) -> str:
    """Return what ``data`` is, for a message."""
    if isinstance(data, (list, tuple)):
        return f"a {type(data).__name__} of {', '.join(type(part).__name__ for part in data)}"
    return type(data).__name__
