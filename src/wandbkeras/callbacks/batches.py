"""Validation data that are read again and again, batch by batch, whatever they are made of.

Nothing here holds more than a batch of them: arrays are sliced, streams are iterated, and what can
be read only once is kept in a file of the run's directory that has no name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

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
from wandbkeras.data_types.pixels import Array, as_array
from wandbkeras.errors import UsageError


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of some rows, as NumPy arrays in the structure that the model takes.

    ``y`` is None where there are no targets.
    """

    x: Any
    y: Any

    @property
    def rows(self) -> int:
        return row_count((self.x, self.y), "a batch of the validation data")

    def take(self, indices: Any) -> Batch:
        """Return some of the rows."""
        return Batch(*map_leaves(lambda leaf: leaf[indices], (self.x, self.y)))


class Batches:
    """Validation data as batches; each iteration begins anew.

    ``ordered`` says that the rows come in the same order each time. ``limit`` is set where these
    are not all of the validation data: the reason, for people.
    """

    ordered = False
    limit: str | None = None

    def __iter__(self) -> Iterator[Batch]:
        raise NotImplementedError

    def sample(self, rows: int, generator: np.random.Generator) -> Batch:
        """Return up to ``rows`` rows: the first ones, if they can't be chosen from all."""
        taken: list[Batch] = []
        missing = rows
        for batch in self:
            taken.append(batch.take(slice(missing)))
            missing -= batch.rows
            if missing <= 0:
                break
        return joined(taken)


class ArrayBatches(Batches):
    """Slices of arrays: of NumPy, a backend, pandas, or anything that has a shape and slices."""

    ordered = True

    def __init__(self, x: Any, y: Any, batch_size: int, what: str = "validation_data") -> None:
        self._data = (sliceable(x), sliceable(y))
        self._rows = row_count(self._data, what)
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self._rows, self._batch_size):
            yield self._slice(start, start + self._batch_size)

    def sample(self, rows: int, generator: np.random.Generator) -> Batch:
        chosen = np.arange(self._rows)
        if self._rows > rows:
            chosen = np.sort(generator.choice(self._rows, rows, replace=False))
        return joined([self._slice(index, index + 1) for index in chosen.tolist()])

    def _slice(self, start: int, stop: int) -> Batch:
        return Batch(*map_leaves(lambda leaf: as_array(leaf[start:stop]), self._data))


class StreamBatches(Batches):
    """What ``stream()`` yields, at most ``steps`` batches of it."""

    def __init__(
        self, stream: Callable[[], Iterable[Any]], steps: int | None, limit: str | None = None
    ) -> None:
        self.limit = limit
        self._stream = stream
        self._steps = steps

    def __iter__(self) -> Iterator[Batch]:
        return map(batch_of, itertools.islice(iter(self._stream()), self._steps))


class KeptBatches(Batches):
    """Batches of what can be read only once, kept in a file.

    The batches are taken, and nothing beyond them, when this is made.
    """

    ordered = True

    def __init__(self, batches: Iterable[Any], file: IO[bytes], limit: str | None = None) -> None:
        self.limit = limit
        self._file = file
        # Of each batch its structure, with the place in the file for each array.
        self._places = [map_leaves(self._save, (b.x, b.y)) for b in map(batch_of, batches)]
        if not self._places:
            raise UsageError("the generator of validation data is exhausted: it yields no batch")

    def __iter__(self) -> Iterator[Batch]:
        return (Batch(*map_leaves(self._load, places)) for places in self._places)

    def _save(self, array: Array) -> int:
        place = self._file.tell()
        np.save(self._file, _plain_strings(array), allow_pickle=False)
        return place

    def _load(self, place: int) -> Array:
        self._file.seek(place)
        return np.asarray(np.load(self._file, allow_pickle=False))


def batches_of(data: Any, steps: int | None, batch_size: int | None, what: str) -> Batches | None:
    """Return re-readable batches of ``data``; None if that needs to advance somebody's generator.

    Raises:
        UsageError: ``data``, which ``what`` names, is nothing that can be read.
    """
    if is_iterator(data):
        return None
    if is_stream(data):
        if steps is None and is_endless(data):
            raise UsageError(f"{what}: received an endless dataset; expected validation_steps too")
        return StreamBatches(lambda: batches_in(data), steps)
    try:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        return ArrayBatches(x, y, batch_size or BATCH_SIZE, what)
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"{what}: received {described(data)}; {EXPECTED}") from error


def batch_of(data: Any) -> Batch:
    """Return what a dataset yields as a :class:`Batch`."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    return Batch(*map_leaves(as_array, (x, y)))


def joined(batches: list[Batch]) -> Batch:
    """Return the rows of all batches in one; UsageError if there is no batch."""
    if not batches:
        raise UsageError("validation data: received no rows")
    parts = [(batch.x, batch.y) for batch in batches]
    return Batch(*map_leaves(lambda *leaves: np.concatenate(leaves), *parts))


def _plain_strings(array: Array) -> Array:
    """Return an array without objects: strings of TensorFlow come as such."""
    return np.array(array.tolist()) if array.dtype == object else array
