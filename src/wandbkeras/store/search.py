"""Finding the next sound frame behind damage, however much of it there is.

A frame may begin at any byte of the damage, and the length that is read there may announce
megabytes: a checksum for each would take hours. CRC-32 is linear, so that of any stretch follows
from those of all bytes before its begin and before its end, and these take one pass. A place at
which a frame may begin, one byte in some hundreds of garbage, costs about two microseconds.
"""

from __future__ import annotations

import functools
import zlib

import numpy as np
import numpy.typing as npt

# A file that was made to be searched for ever is given up. Measured in bytes of the passes: so many
# take the time in which a byte is looked at, and a place at which a frame may begin.
_WORK = 1 << 32
_BYTE_WORK = 1 << 4
_PLACE_WORK = 1 << 12
_FIRST_WINDOW, _LARGEST_WINDOW = 1 << 12, 1 << 20
_HEAD_SIZE = 8

_Checksums = npt.NDArray[np.uint32]
_Offsets = npt.NDArray[np.int64]


class FrameSearch:
    """Searches ``data``, a segment, for frames whose payload has ``longest`` bytes at most."""

    def __init__(self, data: bytes, longest: int) -> None:
        self._data = data
        self._bytes = np.frombuffer(data, np.uint8)
        self._longest = longest
        self._work = _WORK

    def first(self, start: int) -> int | None:
        """Return the first offset from ``start`` on at which there is a sound frame."""
        window, end = _FIRST_WINDOW, len(self._data) - _HEAD_SIZE
        while start < end:
            stop = min(start + window, end)
            begins, ends = self._candidates(start, stop)
            self._work -= (stop - start) * _BYTE_WORK + len(begins) * _PLACE_WORK
            self._work -= int(ends.max(initial=start)) - start
            if self._work < 0:
                return None
            if len(begins):
                sound = begins[self._are_sound(begins, ends)]
                if len(sound):
                    return int(sound[0])
            start, window = stop, min(2 * window, _LARGEST_WINDOW)
        return None

    def _candidates(self, start: int, stop: int) -> tuple[_Offsets, _Offsets]:
        """Return where frames may begin, and where each would end, by the length that is there."""
        begins = np.arange(start, stop)
        lengths = self._integers(begins).astype(np.int64)
        ends = begins + _HEAD_SIZE + lengths
        may = (lengths > 0) & (lengths <= self._longest) & (ends <= len(self._data))
        return begins[may], ends[may]

    def _integers(self, offsets: _Offsets) -> _Checksums:
        """Return the four bytes at each offset as an integer, little-endian."""
        integers = np.zeros(len(offsets), np.uint32)
        for byte in range(4):
            integers |= self._bytes[offsets + byte].astype(np.uint32) << np.uint32(8 * byte)
        return integers

    def _are_sound(self, begins: _Offsets, ends: _Offsets) -> npt.NDArray[np.bool_]:
        """Return which of the frames have the checksum that they say.

        It is that of the length's four bytes, followed by the payload.
        """
        payloads = begins + _HEAD_SIZE
        to_payload, to_end = np.split(self._up_to(np.concatenate([payloads, ends])), 2)
        lengths = [zlib.crc32(self._data[at : at + 4]) for at in begins.tolist()]
        before = to_payload ^ np.array(lengths, np.uint32)
        checksums = _shifted(before, ends - payloads) ^ to_end
        found: npt.NDArray[np.bool_] = checksums == self._integers(begins + 4)
        return found

    def _up_to(self, offsets: _Offsets) -> _Checksums:
        """Return the CRC-32 of the bytes before each offset, from the first offset on."""
        places, order = np.unique(offsets, return_inverse=True)
        data, at, checksum = memoryview(self._data), int(places[0]), 0
        checksums = np.empty(len(places), np.uint32)
        for number, place in enumerate(places.tolist()):
            checksum = zlib.crc32(data[at:place], checksum)
            checksums[number], at = checksum, place
        return checksums[order]


def _shifted(checksums: _Checksums, sizes: _Offsets) -> _Checksums:
    """Return what each checksum adds to that of ``sizes`` bytes that follow.

    So ``crc32(a + b) == shifted(crc32(a), len(b)) ^ crc32(b)``.
    """
    for bit in range(int(sizes.max()).bit_length()):
        chosen = (sizes >> bit) & 1 == 1
        some = checksums[chosen]
        table = _shift_table(bit)
        checksums[chosen] = (
            table[0][some & 255]
            ^ table[1][(some >> np.uint32(8)) & 255]
            ^ table[2][(some >> np.uint32(16)) & 255]
            ^ table[3][some >> np.uint32(24)]
        )
    return checksums


@functools.cache
def _shift_table(bit: int) -> _Checksums:
    """Return what each value of each byte of a checksum becomes, ``1 << bit`` bytes later."""
    if bit:
        half = _shift_table(bit - 1)
        columns = _shifted_twice(half)
    else:
        columns = [zlib.crc32(b"\0", 1 << row) ^ zlib.crc32(b"\0") for row in range(32)]
    table = np.zeros((4, 256), np.uint32)
    values = np.arange(256)
    for row, column in enumerate(columns):
        table[row // 8][(values >> row % 8) & 1 == 1] ^= np.uint32(column)
    return table


def _shifted_twice(table: _Checksums) -> list[int]:
    """Return what each bit of a checksum becomes when it is shifted by ``table`` twice."""

    def shifted(value: int) -> int:
        found = 0
        for byte in range(4):
            found ^= int(table[byte][(value >> 8 * byte) & 255])
        return found

    return [shifted(shifted(1 << row)) for row in range(32)]
