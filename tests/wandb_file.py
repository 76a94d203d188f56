"""A strict reader of W&B's transaction log, from LevelDB's description of its log format."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

FILE_HEADER = bytes.fromhex("3a 57 26 42 e1 be 00")  # ":W&B", 0xBEE1 little endian, version 0
BLOCK = 32 * 1024
CHUNK_HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
FOLLOWERS = {None: (FULL, FIRST), FIRST: (MIDDLE, LAST), MIDDLE: (MIDDLE, LAST)}


def read_records(path: Path) -> list[bytes]:
    """The records of a file in which no byte is other than it must be."""
    data = path.read_bytes()
    assert data[: len(FILE_HEADER)] == FILE_HEADER
    records: list[bytes] = []
    parts: list[bytes] = []
    before: int | None = None
    at = len(FILE_HEADER)
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < CHUNK_HEADER.size:
            assert data[at : at + left] == bytes(left), "the end of a block is not zero"
            at += left
            continue
        checksum, length, kind = CHUNK_HEADER.unpack_from(data, at)
        at += CHUNK_HEADER.size
        chunk = data[at : at + length]
        assert len(chunk) == length <= left - CHUNK_HEADER.size, "a chunk leaves its block"
        assert zlib.crc32(bytes([kind]) + chunk) == checksum
        assert kind in FOLLOWERS[before], f"a chunk of type {kind} after {before}"
        assert length == left - CHUNK_HEADER.size or kind in (FULL, LAST), "a gap in a record"
        at += length
        parts.append(chunk)
        before = kind
        if kind in (FULL, LAST):
            records.append(b"".join(parts))
            parts, before = [], None
    assert not parts, "the last record has no end"
    return records
