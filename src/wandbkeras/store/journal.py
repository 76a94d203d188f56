"""The journal: an append-only file of checksummed frames.

A frame is in the operating system's hands when :meth:`JournalWriter.append` returns: killing the
process loses nothing. A frame that a full disk took only in part is cut off again, so a journal
never has a hole. It is read by :mod:`wandbkeras.store.journal_reader`.

The bytes are specified in ``docs/format.md``, section "Journal".
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from wandbkeras.errors import UnsupportedValueError
from wandbkeras.store.disk import Disk, write_all
from wandbkeras.store.schema import FORMAT_VERSION

if TYPE_CHECKING:
    pass

MAGIC = b"\x89wbk\r\n\x1a\n"
JOURNAL_FORMAT = "wandbkeras-journal"
# Nothing we write comes near; a length beyond it is damage, not a record. Documented, as the rest,
# in docs/format.md, "Limits".
MAX_FRAME_BYTES = 1 << 26
MAX_SEGMENT_BYTES = 1 << 30
HEAD = struct.Struct("<II")
LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode


def encode_frame(record: Any) -> bytes:
    """Return the frame of ``record``: length, CRC-32 of length and payload, payload.

    >>> encode_frame(["event"]).hex()
    '0700000000a45ebf91a56576656e74'
    """
    try:
        payload = _encode(record)
    except UnicodeEncodeError as error:
        raise UnsupportedValueError(
            f"a string with a lone surrogate is no text: received {error.object!r:.80}"
        ) from error
    if len(payload) > MAX_FRAME_BYTES:
        raise UnsupportedValueError(
            f"a record of {len(payload)} bytes: expected {MAX_FRAME_BYTES} at most"
        )
    size = len(payload)
    return HEAD.pack(size, crc32(payload, crc32(LENGTH.pack(size)))) + payload


class JournalWriter:
    """Appends frames to one new segment file."""

    def __init__(self, disk: Disk, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.size = 0
        self.synced = 0
        self._disk = disk
        self._fd = disk.create(path)
        self._syncing = threading.Lock()
        self._overhang = False
        identity = {"format": JOURNAL_FORMAT, "version": FORMAT_VERSION}
        first = MAGIC + encode_frame({**identity, **header})
        try:
            write_all(disk, self._fd, first)
            disk.sync_directory(path.parent)
        except OSError:
            self.close()
            disk.remove(path)
            raise
        self.size = len(first)

    def append(self, frame: bytes) -> None:
        """Append one frame; OSError if the disk did not take all of it (then none of it stays).

        Nor does the segment take more than a reader would: that it gets so large means that no
        other could be begun for long.
        """
        if self._overhang:
            self._cut()
        size = self.size + len(frame)
        if size > MAX_SEGMENT_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.path))
        try:
            taken = self._disk.write(self._fd, frame)
            if taken != len(frame):
                write_all(self._disk, self._fd, frame[taken:])
        except OSError:
            self._overhang = True
            self._cut()
            raise
        self.size = size

    @property
    def is_large(self) -> bool:
        """Whether it should not go on for long: at twice the size it takes nothing more."""
        return self.size > MAX_SEGMENT_BYTES // 2

    def sync(self) -> None:
        """Return when everything appended so far survives a power cut; closed, it did before."""
        with self._syncing:
            size = self.size
            if size != self.synced:
                self._disk.sync(self._fd)
                self.synced = size

    def close(self) -> None:
        with self._syncing:
            self._disk.close(self._fd)
            self.synced = self.size

    def _cut(self) -> None:
        """Cut off what a failed write left; some file systems refuse that too while full."""
        self._disk.cut(self._fd, self.size)
        self._overhang = False
