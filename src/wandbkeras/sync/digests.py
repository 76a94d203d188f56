"""Digests of what a run holds, for its receipt: equal content, equal digest, on every machine.

A digest is the SHA-256 of msgpack, whose floats are exact and whose NaN is one; mappings are in the
order of their keys. That of the history is over its rows one after another, each as the array
``[_step, _timestamp, _runtime, values]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from wandbkeras.store.schema import Row

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def digest_of(value: Mapping[str, Any]) -> str:
    """Return the digest of a summary or a config.

    >>> digest_of({"a": 1.0, "b": 2}) == digest_of({"b": 2, "a": 1.0}) != digest_of({"a": 1.0})
    True
    """
    return hashlib.sha256(_encode(value)).hexdigest()


class HistoryDigest:
    """The digest of the rows that were added; it holds none of them."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, row: Row) -> None:
        self._sha256.update(_encode([row.step, row.timestamp, row.runtime, row.values]))

    def copy(self) -> HistoryDigest:
        """Return one that goes on from here, while this one stays as it is."""
        copied = HistoryDigest()
        copied._sha256 = self._sha256.copy()
        return copied

    def __str__(self) -> str:
        return self._sha256.hexdigest()
