"""The journal: an append-only file of checksummed frames.

A frame is in the operating system's hands when :meth:`JournalWriter.append` returns: killing the
process loses nothing. A frame that a full disk took only in part is cut off again, so a journal
never has a hole. Reading yields every whole frame and says where bytes are damaged or missing.

The bytes are specified in ``docs/format.md``, section "Journal".
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from wandbkeras.errors import DamagedError, UnsupportedValueError
from wandbkeras.store.disk import Disk, write_all
from wandbkeras.store.layout import read_file
from wandbkeras.store.schema import FORMAT_VERSION, check_version

if TYPE_CHECKING:
    from wandbkeras.store.search import FrameSearch

MAGIC = b"\x89wbk\r\n\x1a\n"
JOURNAL_FORMAT = "wandbkeras-journal"
# Nothing we write comes near; a length beyond it is damage, not a record. Documented, as the rest,
# in docs/format.md, "Limits".
MAX_FRAME_BYTES = 1 << 26
MAX_SEGMENT_BYTES = 1 << 30
MAX_DAMAGE = 1_000
# No file system leaves holes of other sizes after a power cut; most have larger blocks.
_BLOCK = 4096
_HEAD = struct.Struct("<II")
_HEAD_BYTES = 8
_LENGTH = struct.Struct("<I")
_LENGTH_BYTES = 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


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
    return _HEAD.pack(size, crc32(payload, crc32(_LENGTH.pack(size)))) + payload


@dataclass(frozen=True)
class Damage:
    """Bytes of a file that are not what was written.

    ``rows`` are the rows (of the stream) that are lost with them, None if that can't be told.
    """

    path: Path
    offset: int
    size: int
    reason: str
    rows: int | None = None

    @property
    def what(self) -> str:
        """Where in its file it is, and what it is."""
        return f"{self.size} bytes at offset {self.offset}: {self.reason}"

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass
class Journal:
    """What reading one journal segment found.

    ``records`` are the decoded payloads after the header; ``torn`` counts the bytes of a last
    frame that was being written when the process ended or the power went; ``damage`` is anything
    else.
    """

    path: Path
    header: dict[str, Any]
    records: list[Any] = field(default_factory=list)
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


def read_journal(
    path: Path, root: Path | None = None, decode: Callable[[bytes], Any] = _decode
) -> Journal:
    """Read a segment of the run at ``root``, damage and all; NewerFormatError if it is of a later
    version, DamagedError if it is none at all. ``decode`` may make structs of records."""
    data = read_file(path, MAX_SEGMENT_BYTES, root)
    if MAGIC.startswith(data):  # killed while the file was being made
        return Journal(path, header={}, torn=len(data))
    journal = Journal(path, header={})
    if not data.startswith(MAGIC):
        reason = f"a journal begins with {MAGIC!r}, this begins with {data[: len(MAGIC)]!r}"
        journal.damage.append(Damage(path, 0, len(MAGIC), reason))
    frames = _Frames(path, data, decode)
    records = journal.records
    for payload in frames:
        if isinstance(payload, msgspec.Struct) or (isinstance(payload, list) and payload):
            records.append(payload)
        elif isinstance(payload, dict) and not journal.header:
            journal.header = payload
            _check_header(path, payload)
        else:
            journal.damage.append(Damage(path, frames.offset, 0, "a frame that is no record"))
        if frames.damage and len(journal.damage) + len(frames.damage) > MAX_DAMAGE:
            raise DamagedError(f"{path}: more than {MAX_DAMAGE} damaged places: not a journal")
    journal.damage.extend(frames.damage)
    journal.torn = frames.torn
    if not journal.header and not journal.records:
        # Killed while the header was being written, or something else altogether.
        journal.torn = 0 if journal.damage else len(data)
        if journal.damage:
            journal.damage = [Damage(path, 0, len(data), "not a journal: no sound frame in it")]
    elif journal.damage:
        journal.damage = list(_between_steps(journal.damage, frames.again()))
    return journal


def _between_steps(found: Iterable[Damage], frames: _Frames) -> Iterator[Damage]:
    """Yield the damage, saying after which step of the history it is, and before which."""
    # The second element of an event is a string, that of a row its step.
    rows = [
        (frames.offset, payload[1])
        for payload in frames
        if isinstance(payload, list) and len(payload) > 1 and isinstance(payload[1], int)
    ]
    for damage in found:
        before = next((step for end, step in reversed(rows) if end <= damage.offset), None)
        after = next((step for end, step in rows if end > damage.offset + damage.size), None)
        places = (("after step", before), ("before step", after))
        texts = [damage.reason, *(f"{word} {step}" for word, step in places if step is not None)]
        yield replace(damage, reason=", ".join(texts))


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    check_version(path, header, JOURNAL_FORMAT)


class _Frames:
    """Iterates over the payloads of ``data``, stepping over damage and noting it."""

    def __init__(self, path: Path, data: bytes, decode: Callable[[bytes], Any] = _decode) -> None:
        self.path = path
        self.data = data
        self.offset = len(MAGIC)
        self.damage: list[Damage] = []
        self.torn = 0
        self._decode = decode
        self._search: FrameSearch | None = None
        self._known: dict[int, int | None] = {}  # what the search found

    def __iter__(self) -> Iterator[Any]:
        # Every record that is sealed passes here: no call a frame but those that C answers.
        data, size, decode, unpack = self.data, len(self.data), self._decode, _HEAD.unpack_from
        while (offset := self.offset) < size:
            start = offset + _HEAD_BYTES
            length, checksum = unpack(data, offset) if start <= size else (0, 0)
            end = start + length
            payload = data[start:end] if 0 < length <= MAX_FRAME_BYTES and end <= size else b""
            head = data[offset : offset + _LENGTH_BYTES]
            if not payload or crc32(payload, crc32(head)) != checksum:
                if not self._skip_to_next():
                    return
                continue
            self.offset = end
            try:
                yield decode(payload)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self.damage.append(Damage(self.path, start, length, f"not msgpack: {error}"))

    def _skip_to_next(self) -> bool:
        """Move to the next sound frame and note the damage before it; False if there is none."""
        start = self.offset
        found = self._first_sound(start + 1)
        if found is not None:
            reason = "no sound frame (checksum or length does not match)"
            self.damage.append(Damage(self.path, start, found - start, reason))
            self.offset = found
            return True
        self.offset = len(self.data)
        if self._is_torn(start):
            self.torn = len(self.data) - start
        else:
            reason = "no sound frame up to the end, and not the beginning of one either"
            self.damage.append(Damage(self.path, start, len(self.data) - start, reason))
        return False

    def _first_sound(self, start: int) -> int | None:
        """Return the first offset from ``start`` on at which there is a sound frame."""
        if start not in self._known:
            if self._search is None:
                # Only damage needs it, and numpy takes long to import.
                from wandbkeras.store.search import FrameSearch

                self._search = FrameSearch(self.data, MAX_FRAME_BYTES)
            self._known[start] = self._search.first(start)
        return self._known[start]

    def again(self) -> _Frames:
        """Return another iteration, that searches for nothing that was found before."""
        frames = _Frames(self.path, self.data)
        frames._known = self._known
        return frames

    def _is_torn(self, start: int) -> bool:
        """Whether the end from ``start`` is what a killed process or a power cut leaves.

        That is a frame cut short, or blocks of zeros where the disk did not get the bytes.
        """
        rest = self.data[start:]
        whole_block = -start % _BLOCK
        if not rest.strip(b"\0") or (whole_block < len(rest) and not any(rest[whole_block:])):
            return True
        if len(rest) <= _HEAD_BYTES:
            return True
        length, checksum = _HEAD.unpack_from(rest)
        payload = rest[_HEAD_BYTES:]
        # With a damaged length, a frame that is all there looks like one cut short.
        head = _LENGTH.pack(len(payload))
        return bool(length > len(payload) and crc32(payload, crc32(head)) != checksum)
