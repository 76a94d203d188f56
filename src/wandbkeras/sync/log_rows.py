"""Rows of the history as records of W&B's transaction log, their bytes put together by hand.

A long run is rows and little else, so this is where a sync spends its own time: as protobuf's
objects, an item and a copy for each value, they take three times as long. The bytes are protobuf's
all the same: the tags of the fields stand below, and the tests read records with W&B's own classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice
from typing import Any

import msgspec

from wandbkeras.store.schema import Row

# The number of a field shifted by three bits, and 2 for bytes of a length, 0 for a varint.
_RECORD_HISTORY = b"\x12"
_HISTORY_ITEM, _HISTORY_STEP, _STEP_NUMBER = b"\x0a", b"\x12", b"\x08"
_ITEM_KEY, _ITEM_VALUE_JSON = b"\x0a", b"\x82\x01"

# Bare NaN and Infinity are W&B's own dialect, as is text that is not escaped.
json_text = json.JSONEncoder(ensure_ascii=False).encode
_encode_numbers = msgspec.json.Encoder().encode
_NUMBERS = frozenset({int, float})
_INDEX = ("_step", "_timestamp", "_runtime")
# So many rows are looked at together.
_GROUP_ROWS = 100


def encode_rows(rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield each row as a ``Record`` without its number.

    Rows in sequence that have the same keys and nothing but numbers, as most have, are encoded
    together, column by column.
    """
    rows, names, heads = iter(rows), (), _heads(())
    while some := list(islice(rows, _GROUP_ROWS)):
        for keys, group in groupby(some, key=lambda row: tuple(row.values)):
            if keys != names:
                names, heads = keys, _heads(keys)
            yield from _encode_alike(list(group), heads)


def _encode_alike(rows: Sequence[Row], heads: Sequence[_Head]) -> Iterator[bytes]:
    """Yield the records of rows that have the same keys, whose ``heads`` are given."""
    values: list[Any] = []
    for row in rows:
        values += (*row.values.values(), row.step, row.timestamp, row.runtime)
    width = len(heads)
    texts = _number_texts(values)
    if texts is None and len(rows) > 1:
        for row in rows:  # one by one: what isn't numbers may be large
            yield from _encode_alike([row], heads)
        return
    if texts is None:
        texts = [json_text(value).encode() for value in values]
    columns = [
        [head[len(text)] + text for text in texts[number::width]]
        for number, head in enumerate(heads)
    ]
    for row, *items in zip(rows, *columns, strict=True):
        step = _STEP_NUMBER + varint(row.step)
        history = b"".join((*items, _HISTORY_STEP, _length(len(step)), step))
        yield b"".join((_RECORD_HISTORY, _length(len(history)), history))


def _heads(names: Iterable[str]) -> list[_Head]:
    return [_Head(name) for name in (*names, *_INDEX)]


class _Head(dict[int, bytes]):
    """What stands before a value of one key, by the length of the value."""

    def __init__(self, name: str) -> None:
        data = name.encode()
        self._key = _ITEM_KEY + varint(len(data)) + data

    def __missing__(self, length: int) -> bytes:
        start = self._key + _ITEM_VALUE_JSON + _length(length)
        head = _HISTORY_ITEM + varint(len(start) + length) + start
        if length < 128:  # numbers; of long texts hardly two are of one length
            self[length] = head
        return head


def _number_texts(values: list[Any]) -> list[bytes] | None:
    """Return finite numbers as JSON, all at once; None if something else is among them.

    >>> _number_texts([0.1, 2**63 - 1]), _number_texts([float("inf")]), _number_texts([True])
    ([b'0.1', b'9223372036854775807'], None, None)
    """
    if not _NUMBERS.issuperset(map(type, values)):
        return None
    text = _encode_numbers(values)
    # null is what it makes of NaN and infinities
    return None if b"n" in text else text[1:-1].split(b",")


def varint(number: int) -> bytes:
    """Return a number as protobuf has it: seven bits a byte, the lowest first.

    >>> varint(0), varint(300), varint(-1)
    (b'\\x00', b'\\xac\\x02', b'\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x01')
    """
    number &= (1 << 64) - 1
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


# There are few different lengths of what is encoded.
_length = lru_cache(maxsize=4096)(varint)
