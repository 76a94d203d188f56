"""What a fuzzer puts into a run, and how its reading is judged.

Each target is a file of a sound run. What is put in its place gets the checksums that make it look
as written: whoever writes a file makes its checksum, too. Used by ``tests/test_fuzz.py`` and, with
coverage to guide it, by ``scripts/fuzz``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests import audited, hostile, hostile_tables
from tests.damage import record
from wandbkeras.data_types.png import encode_png
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

    ``seeds`` are contents to begin from, made of what the file holds, or of nothing.
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

    def put(self, name: str, content: bytes) -> None:
        """Make the run anew, with this content."""
        shutil.rmtree(self.layout.root.parent, ignore_errors=True)
        shutil.copytree(self._sound.root, self.layout.root)
        TARGETS[name].put(self.layout, content)

    def judge(self, name: str, content: bytes) -> None:
        """Read a run with this content in every way; an exception that isn't ours comes out.

        If it can be repaired, it is sound afterwards.
        """
        self.put(name, content)
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


def _put_table(layout: Layout, content: bytes) -> None:
    """Put a table, and name it in a row by its SHA-256, its size and its rows."""
    try:
        rows = pq.read_metadata(pa.BufferReader(content)).num_rows
    except (OSError, pa.ArrowException):
        rows = 1
    hostile_tables.in_a_row(content, rows=rows)(layout, layout.root.parent)


def _put_description(layout: Layout, content: bytes) -> None:
    """Put a table of every kind of column, described in these words."""
    _put_table(layout, every_kind(content.decode(errors="replace")))


def _put_name(layout: Layout, content: bytes) -> None:
    """Put a value in a row that names the table of every kind of column."""
    text = content.decode(errors="replace")
    hostile_tables.in_a_row(every_kind(DESCRIPTION), text)(layout, layout.root.parent)


def every_kind(description: str) -> bytes:
    """Return a table of two rows, with a column of each kind; in the second most have nothing."""
    png = encode_png(np.zeros((2, 3), np.uint8))
    image = pa.array([{"bytes": png, "path": "a.png"}, None], hostile_tables.IMAGE)
    table = pa.table(
        {
            "image": image,
            "caption": ["a", None],
            "mask": image,
            "class": pa.array([0, None], pa.int64()),
            "array": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)),
            "row": pa.array([1, None], pa.int64()),
            "json": ['{"a": [1]}', None],
            "null": pa.nulls(2),
            "bool": [True, None],
            "integer": pa.array([1, None], pa.int64()),
            "number": [0.5, None],
            "string": ["x", None],
        }
    )
    at = table.column_names.index("json")
    schema = table.schema.set(at, hostile.JSON_COLUMN.with_name("json"))
    metadata = {**hostile_tables.FORMAT, b"wandbkeras.table": description.encode()}
    return hostile.parquet(table.cast(schema.with_metadata(metadata)))


_LABELS = [[0, "cat"], [1, "dog"]]
_DESCRIBED: dict[str, dict[str, Any]] = {
    "image": {
        "caption": "caption",
        "masks": [{"name": "truth", "column": "mask", "labels": _LABELS}],
        "scale": [0.0, 1.0],
        "clipped": 3,
    },
    "class": {"labels": _LABELS},
    "array": {"optional": False},
    "row": {"table": hostile_tables.TABLE},
    **{kind: {} for kind in ("json", "null", "bool", "integer", "number", "string")},
}
DESCRIPTION = json.dumps(
    {"version": 1, "columns": [{"name": k, "kind": k, **more} for k, more in _DESCRIBED.items()]}
)


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
    "table": Target(hostile_tables.TABLE, _put_table, lambda _: _plain(every_kind(DESCRIPTION))),
    "description": Target(hostile_tables.TABLE, _put_description, lambda _: [DESCRIPTION.encode()]),
    "name": Target(
        hostile_tables.TABLE,
        _put_name,
        lambda _: [json.dumps(hostile_tables.value(every_kind(DESCRIPTION), rows=2)).encode()],
    ),
}


def digest(content: bytes) -> str:
    """Return a short name for a content."""
    return hashlib.sha256(content).hexdigest()[:12]
