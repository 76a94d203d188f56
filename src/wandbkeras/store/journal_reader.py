"""Reading a journal segment: every whole frame, and where bytes are damaged or missing.

The bytes are specified in ``docs/format.md``, section "Journal".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from wandbkeras.errors import DamagedError
from wandbkeras.store.damage import Damage
from wandbkeras.store.journal import (
    HEAD,
    JOURNAL_FORMAT,
    LENGTH,
    MAGIC,
    MAX_FRAME_BYTES,
    MAX_SEGMENT_BYTES,
)
from wandbkeras.store.plain_files import read_file
from wandbkeras.store.schema import check_version

if TYPE_CHECKING:
    from wandbkeras.store.search import FrameSearch

# More is no journal; documented in docs/format.md, "Limits".
MAX_DAMAGE = 1_000
# No file system leaves holes of other sizes after a power cut; most have larger blocks.
_BLOCK = 4096
_HEAD_BYTES, _LENGTH_BYTES = HEAD.size, LENGTH.size
_decode = msgspec.msgpack.Decoder().decode


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
        data, size, decode, unpack = self.data, len(self.data), self._decode, HEAD.unpack_from
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
        length, checksum = HEAD.unpack_from(rest)
        payload = rest[_HEAD_BYTES:]
        # With a damaged length, a frame that is all there looks like one cut short.
        head = LENGTH.pack(len(payload))
        return bool(length > len(payload) and crc32(payload, crc32(head)) != checksum)
