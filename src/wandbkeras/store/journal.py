"""The journal: an append-only file of checksummed frames.

A frame is in the operating system's hands when :meth:`JournalWriter.append` returns: killing the
process loses nothing. A frame that a full disk took only in part is cut off again, so a journal
never has a hole. Reading yields every whole frame and says where bytes are damaged or missing.

The bytes are specified in ``docs/format.md``, section "Journal".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from wandbkeras.errors import DamagedError, NewerFormatError
from wandbkeras.store.disk import Disk, write_all

MAGIC = b"\x89wbk\r\n\x1a\n"
FORMAT_VERSION = 1
# Nothing we write comes near; a length beyond it is damage, not a record.
MAX_FRAME_BYTES = 1 << 30

_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def encode_frame(record: Any) -> bytes:
    """Return the frame of ``record``: length, CRC-32 of length and payload, payload.

    >>> encode_frame(["event"]).hex()
    '0700000000a45ebf91a56576656e74'
    """
    payload = _encode(record)
    length = _LENGTH.pack(len(payload))
    return length + _LENGTH.pack(zlib.crc32(payload, zlib.crc32(length))) + payload


@dataclass(frozen=True)
class Damage:
    """Bytes of a file that are not what was written."""

    path: Path
    offset: int
    size: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.size} bytes at offset {self.offset}: {self.reason}"


@dataclass
class Journal:
    """What reading one journal segment found.

    ``records`` are the decoded payloads after the header; ``torn`` counts the bytes of a last
    frame that was being written when the process ended; ``damage`` is anything else.
    """

    path: Path
    header: dict[str, Any]
    records: list[list[Any]] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    torn: int = 0


class JournalWriter:
    """Appends frames to one new segment file."""

    def __init__(self, disk: Disk, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.size = 0
        self.synced = 0
        self._disk = disk
        self._fd = disk.create(path)
        self._overhang = False
        first = MAGIC + encode_frame({"format": FORMAT_VERSION, **header})
        try:
            write_all(disk, self._fd, first)
            disk.sync_directory(path.parent)
        except OSError:
            self.close()
            disk.remove(path)
            raise
        self.size = len(first)

    def append(self, frame: bytes) -> None:
        """Append one frame; OSError if the disk did not take all of it (then none of it stays)."""
        if self._overhang:
            self._cut()
        try:
            taken = self._disk.write(self._fd, frame)
            if taken != len(frame):
                write_all(self._disk, self._fd, frame[taken:])
        except OSError:
            self._overhang = True
            self._cut()
            raise
        self.size += len(frame)

    def sync(self) -> None:
        """Return when everything appended so far survives a power cut."""
        size = self.size
        if size != self.synced:
            self._disk.sync(self._fd)
            self.synced = size

    def close(self) -> None:
        self._disk.close(self._fd)

    def _cut(self) -> None:
        """Cut off what a failed write left; some file systems refuse that too while full."""
        self._disk.cut(self._fd, self.size)
        self._overhang = False


def read_journal(path: Path) -> Journal:
    """Read a segment; DamagedError if its header is unreadable, NewerFormatError if it is newer."""
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):  # killed while the file was being made
            return Journal(path, header={}, torn=len(data))
        raise DamagedError(f"{path}: not a wandbkeras journal (it does not begin with {MAGIC!r})")
    frames = _Frames(path, data)
    payloads = iter(frames)
    header = next(payloads, None)
    if header is None and not frames.damage:  # or while its header was being written
        return Journal(path, header={}, torn=len(data))
    if not isinstance(header, dict) or frames.damage:
        raise DamagedError(f"{path}: the journal's header frame is damaged")
    if header.get("format") != FORMAT_VERSION:
        raise NewerFormatError(
            f"{path}: journal format {header.get('format')!r}, this wandbkeras reads "
            f"{FORMAT_VERSION}: use a newer wandbkeras"
        )
    journal = Journal(path, header)
    for payload in payloads:
        if isinstance(payload, list) and payload:
            journal.records.append(payload)
        else:
            journal.damage.append(Damage(path, frames.offset, 0, "a frame that is no record"))
    journal.damage.extend(frames.damage)
    journal.torn = frames.torn
    return journal


class _Frames:
    """Iterates over the payloads of ``data``, stepping over damage and noting it."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.data = data
        self.offset = len(MAGIC)
        self.damage: list[Damage] = []
        self.torn = 0

    def __iter__(self) -> Iterator[Any]:
        while self.offset < len(self.data):
            payload = self._frame_at(self.offset)
            if payload is None:
                if not self._skip_to_next():
                    return
                continue
            self.offset += _HEAD.size + len(payload)
            try:
                yield _decode(payload)
            except (msgspec.DecodeError, RecursionError) as error:
                start = self.offset - len(payload)
                self.damage.append(Damage(self.path, start, len(payload), f"not msgpack: {error}"))

    def _frame_at(self, offset: int) -> memoryview | None:
        """Return the payload of the whole, sound frame at ``offset``, else None."""
        start = offset + _HEAD.size
        if start > len(self.data):
            return None
        length, checksum = _HEAD.unpack_from(self.data, offset)
        if not 0 < length <= min(MAX_FRAME_BYTES, len(self.data) - start):
            return None
        payload = memoryview(self.data)[start : start + length]
        head = self.data[offset : offset + _LENGTH.size]
        return payload if zlib.crc32(payload, zlib.crc32(head)) == checksum else None

    def _skip_to_next(self) -> bool:
        """Move to the next sound frame and note the damage before it; False if there is none."""
        start = self.offset
        for offset in range(start + 1, len(self.data)):
            if self._frame_at(offset) is not None:
                reason = "no sound frame (checksum or length does not match)"
                self.damage.append(Damage(self.path, start, offset - start, reason))
                self.offset = offset
                return True
        # Nothing sound follows: the last write did not finish, or the file was cut.
        self.torn = len(self.data) - start
        self.offset = len(self.data)
        return False
