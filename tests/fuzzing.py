"""What a fuzzer puts into a run, and how its reading is judged.

Each target is a file of a sound run. What is put in its place gets the checksums that make it look
as written: whoever writes a file makes its checksum, too. Used by ``tests/test_fuzz.py`` and, with
coverage to guide it, by ``scripts/fuzz``.
"""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests import audited, hostile
from tests.damage import record
from wandbkeras.errors import WandbkerasError
from wandbkeras.store.journal import MAGIC
from wandbkeras.store.layout import Layout
from wandbkeras.store.repair import repair_run
from wandbkeras.store.verify import verify_run

NAME = "run-20261123_054500-k3j9x2ab"
RECEIPT = "sync/server.json"
_HEAD = 8
_MEMBER = b',\n  "checksum"'


@dataclass(frozen=True)
class Target:
    """A file of the run: what it holds at first, and how a content gets there, made to look sound.

    ``seeds`` are contents to begin from.
    """

    file: str
    put: Callable[[Layout, bytes], None]
    seeds: Callable[[bytes], Iterable[bytes]] = lambda content: [content]


class Run:
    """A sound run in ``folder``, one file of which is replaced at a time."""

    def __init__(self, folder: Path) -> None:
        self._sound = record(folder / "sound" / NAME)
        self.layout = Layout(folder / "fuzzed" / NAME)

    def seeds(self, name: str) -> list[bytes]:
        """Return contents of the target to begin from."""
        target = TARGETS[name]
        return list(target.seeds((self._sound.root / target.file).read_bytes()))

    def judge(self, name: str, content: bytes) -> None:
        """Read a run with this content in every way; an exception that isn't ours comes out.

        If it can be repaired, it is sound afterwards.
        """
        shutil.rmtree(self.layout.root.parent, ignore_errors=True)
        shutil.copytree(self._sound.root, self.layout.root)
        TARGETS[name].put(self.layout, content)
        for reading in (audited.strictly, audited.leniently, audited.verified):
            try:
                reading(self.layout.root)
            except WandbkerasError:
                continue
        try:
            repaired = repair_run(self.layout.root)
        except WandbkerasError:
            return
        if repaired.damage:
            assert verify_run(self.layout.root).damage == []
            audited.strictly(self.layout.root)


def _put(file: str, layout: Layout, content: bytes) -> None:
    """Put bytes in the place of a file as they are."""
    (layout.root / file).write_bytes(content)


def _put_document(file: str, layout: Layout, content: bytes) -> None:
    """Put JSON text, of which the end and the checksum are not taken as they are."""
    body = content.partition(_MEMBER)[0]
    checksum = b',\n  "checksum": "crc32:%08x"' % zlib.crc32(body + b"\n}\n")
    (layout.root / file).write_bytes(body + checksum + b"\n}\n")


def _put_journal(layout: Layout, content: bytes) -> None:
    """Put a segment, whose frames get the lengths and the checksums that they must have."""
    (layout.root / hostile.JOURNAL).write_bytes(MAGIC + b"".join(map(frame, payloads(content))))


def payloads(segment: bytes) -> Iterator[bytes]:
    """Yield what the lengths in a segment say that the payloads are; the last may be shorter."""
    at = len(MAGIC)
    while at + _HEAD < len(segment):
        size = max(1, int.from_bytes(segment[at : at + 4], "little"))
        yield segment[at + _HEAD : at + _HEAD + size]
        at += _HEAD + size


def frame(payload: bytes) -> bytes:
    """Return the frame of a payload."""
    size = len(payload).to_bytes(4, "little")
    return size + zlib.crc32(payload, zlib.crc32(size)).to_bytes(4, "little") + payload


def _put_part(stream: str, layout: Layout, content: bytes) -> None:
    """Put a part, and its size and checksums into the manifest."""
    hostile.with_part(stream, content)(layout, layout.root.parent)


def _plain(content: bytes) -> Iterator[bytes]:
    """Yield a part as it is, and without compression, where a changed byte is a changed value."""
    yield content
    table = pq.read_table(pa.BufferReader(content))
    for version in ("1.0", "2.0"):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="none", data_page_version=version)
        yield sink.getvalue().to_pybytes()


_DOCUMENTS = {
    "run": hostile.INFO,
    "manifest": hostile.MANIFEST,
    "artifact": hostile.ARTIFACT,
    "receipt": RECEIPT,
}
TARGETS: dict[str, Target] = {
    "bytes": Target(hostile.JOURNAL, partial(_put, hostile.JOURNAL)),
    "journal": Target(hostile.JOURNAL, _put_journal),
    **{name: Target(file, partial(_put_document, file)) for name, file in _DOCUMENTS.items()},
    **{s: Target(file, partial(_put_part, s), _plain) for s, file in hostile.PARTS.items()},
}


def digest(content: bytes) -> str:
    """Return a short name for a content."""
    return hashlib.sha256(content).hexdigest()[:12]
