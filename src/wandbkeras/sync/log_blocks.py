"""The container of W&B's transaction log: blocks of chunks, LevelDB's log format with a header.

Blocks have 32 KiB; a chunk is ``crc32 · length · type · data``, a record one chunk or several.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wandbkeras.errors import DamagedError

FILE_HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
BLOCK_BYTES = 32 * 1024
_CHUNK_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# A chunk's checksum is over its type and its data: it goes on from that of the type.
_CHECKSUMS = [zlib.crc32(bytes([kind])) for kind in range(_LAST + 1)]


class BlockWriter:
    """Writes the records of one file, which must be new."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._file.write(FILE_HEADER)
        self.offset = len(FILE_HEADER)

    def write(self, data: bytes) -> None:
        """Append a record."""
        kind, last = _FULL, False
        start = 0
        while not last:
            room = self._room()
            chunk = data[start : start + room]
            start += len(chunk)
            last = start == len(data)
            if not last:
                kind = _FIRST if kind == _FULL else _MIDDLE
            elif kind != _FULL:
                kind = _LAST
            self._write_chunk(kind, chunk)

    def close(self) -> None:
        self._file.close()

    def _room(self) -> int:
        """Return the bytes of data that fit into this block, filling up one that takes none."""
        left = BLOCK_BYTES - self.offset % BLOCK_BYTES
        if left < _CHUNK_HEADER.size:
            self._file.write(bytes(left))
            self.offset += left
            left = BLOCK_BYTES
        return left - _CHUNK_HEADER.size

    def _write_chunk(self, kind: int, data: bytes) -> None:
        checksum = zlib.crc32(data, _CHECKSUMS[kind])
        self._file.write(_CHUNK_HEADER.pack(checksum, len(data), kind) + data)
        self.offset += _CHUNK_HEADER.size + len(data)


@dataclass
class Losses:
    """What of a file could not be read.

    ``torn``: bytes of a last record that its writer did not finish. ``damaged``: places whose bytes
    were changed, each of which may have cost several records, ``bytes`` in all.
    """

    torn: int = 0
    damaged: int = 0
    bytes: int = 0


def read_records(path: Path, losses: Losses) -> Iterator[bytes]:
    """Yield the sound records of a file in their order, noting the rest in ``losses``.

    What follows damage within a block is found by its checksums. DamagedError if the file is none
    of W&B's.
    """
    with path.open("rb") as file:
        header = file.read(len(FILE_HEADER))
        if header and header != FILE_HEADER[: len(header)]:
            raise DamagedError(f"{path}: begins with {header!r}, expected {FILE_HEADER!r} of W&B")
        losses.torn = len(header) if len(header) < len(FILE_HEADER) else 0
        yield from _Reader(file, losses).records()


class _Reader:
    """Puts records together; ``held`` is one that has begun."""

    def __init__(self, file: BinaryIO, losses: Losses) -> None:
        self._file = file
        self._losses = losses
        self._held: list[bytes] = []
        self._is_damaged = False  # since the last sound record

    def records(self) -> Iterator[bytes]:
        room = BLOCK_BYTES - len(FILE_HEADER)
        while block := self._file.read(room):
            is_last = len(block) < room
            yield from self._block(block, is_last=is_last)
            room = BLOCK_BYTES
        if self._held:  # its writer was killed
            self._losses.torn += sum(map(len, self._held))

    def _block(self, block: bytes, *, is_last: bool) -> Iterator[bytes]:
        at = 0
        while at < len(block):
            chunk = _chunk(block, at)
            if chunk is not None:
                kind, data = chunk
                at += _CHUNK_HEADER.size + len(data)
                yield from self._took(kind, data)
            elif not any(block[at:]) and (is_last or len(block) - at < _CHUNK_HEADER.size):
                # The end of a block; or zeros, where a power cut kept data from the disk.
                self._losses.torn += len(block) - at if is_last else 0
                return
            else:
                following = _next_chunk(block, at + 1)
                if following is None and is_last and _is_torn(block, at):
                    self._losses.torn += len(block) - at
                    return
                end = len(block) if following is None else following
                self._lose(end - at)
                at = end

    def _took(self, kind: int, data: bytes) -> Iterator[bytes]:
        if kind in (_FULL, _FIRST):
            if self._held:
                self._lose(sum(map(len, self._held)))
            self._held = []
            self._is_damaged = False
        elif not self._held:  # its beginning is lost
            self._lose(len(data))
            return
        self._held.append(data)
        if kind in (_FULL, _LAST):
            record, self._held = b"".join(self._held), []
            yield record

    def _lose(self, size: int) -> None:
        """Count bytes that are lost; what is lost in a row is one place."""
        self._held = []
        self._losses.damaged += not self._is_damaged
        self._losses.bytes += size
        self._is_damaged = True


def _chunk(block: bytes, at: int) -> tuple[int, bytes] | None:
    """Return type and data of the chunk at an offset; None if there is no sound one."""
    if len(block) - at < _CHUNK_HEADER.size:
        return None
    checksum, length, kind = _CHUNK_HEADER.unpack_from(block, at)
    start = at + _CHUNK_HEADER.size
    if not _FULL <= kind <= _LAST or start + length > len(block):
        return None
    data = block[start : start + length]
    if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
        return None
    return kind, data


def _next_chunk(block: bytes, at: int) -> int | None:
    """Return the offset of the next sound chunk of a block."""
    for start in range(at, len(block) - _CHUNK_HEADER.size + 1):
        if _chunk(block, start) is not None:
            return start
    return None


def _is_torn(block: bytes, at: int) -> bool:
    """Whether a file ends in a chunk at this offset that its writer did not finish."""
    if len(block) - at < _CHUNK_HEADER.size:
        return True
    _, length, kind = _CHUNK_HEADER.unpack_from(block, at)
    return bool(_FULL <= kind <= _LAST and at + _CHUNK_HEADER.size + length > len(block))
