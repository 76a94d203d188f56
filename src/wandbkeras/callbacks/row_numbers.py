"""Which row of the validation data a row is, told by what is in it.

A dataset may come in another order each time it is read. Predictions refer to rows of a table that
was written once, so each row is found again by a fingerprint of its values: eight bytes a row is
all that is kept of them.
"""

from __future__ import annotations

import hashlib

import numpy as np

from wandbkeras.callbacks.arrays import leaves
from wandbkeras.callbacks.batches import Batch
from wandbkeras.data_types.pixels import Array
from wandbkeras.errors import UsageError


class RowNumbers:
    """The numbers of rows, from 0 in the order in which they were first seen.

    >>> rows = RowNumbers()
    >>> rows.learn(Batch(np.array([[1.0], [2.0], [3.0]]), None)).tolist()
    [0, 1, 2]
    >>> rows.find(Batch(np.array([[3.0], [1.0]]), None)).tolist()
    [2, 0]
    """

    def __init__(self) -> None:
        self._learned: list[Array] = []
        self._all: Array = np.empty(0, np.uint64)
        self._order: Array = np.empty(0, np.int64)

    def __len__(self) -> int:
        return sum(map(len, self._learned))

    @property
    def digest(self) -> str:
        """A text that is the same for the same rows in the same order."""
        content = b"".join(part.tobytes() for part in self._learned)
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def learn(self, batch: Batch) -> Array:
        """Return the numbers of rows that come for the first time."""
        first = len(self)
        self._learned.append(_fingerprints(batch))
        return np.arange(first, first + batch.rows)

    def find(self, batch: Batch) -> Array:
        """Return the numbers of rows that were learned; UsageError if one was not."""
        if len(self._all) != len(self):
            self._all = np.concatenate(self._learned)
            self._order = np.argsort(self._all, kind="stable")
        wanted = _fingerprints(batch)
        places = np.searchsorted(self._all, wanted, sorter=self._order)
        numbers = self._order[np.minimum(places, len(self._all) - 1)]
        unknown = int((self._all[numbers] != wanted).sum())
        if unknown:
            raise UsageError(
                f"validation data: {unknown} of {batch.rows} rows are not among the {len(self)} "
                "that were read when training began; expected the same rows each time: leave out "
                "what changes them at random, or pass validation_data=(x, y)"
            )
        return numbers


def _fingerprints(batch: Batch) -> Array:
    """Return 64 bits for each row: equal values give equal ones."""
    parts = [_bytes_of_rows(leaf) for leaf in leaves((batch.x, batch.y))]
    digests = bytearray()
    for row in zip(*parts, strict=True):
        digests += hashlib.blake2b(b"".join(row), digest_size=8).digest()
    return np.frombuffer(digests, np.uint64)


def _bytes_of_rows(leaf: Array) -> list[bytes]:
    if leaf.dtype.kind in "OSU":  # texts, whose bytes would depend on the longest of the batch
        return [repr(row).encode() for row in leaf.tolist()]
    return [row.tobytes() for row in leaf]
