"""Run directories as a stranger might make them: each case changes a sound run into one.

The checksums are right: whoever writes a file makes its checksum, too.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pickle
import shutil
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.store import document
from wandbkeras.store.chunks import checksums
from wandbkeras.store.journal import JOURNAL_FORMAT, MAGIC, encode_frame
from wandbkeras.store.layout import Layout
from wandbkeras.store.plain_files import MAX_ENTRIES

Change = Callable[[Layout, Path], None]

INFO = "run.json"
JOURNAL = "attempts/000/journal-000-000.wbk"
MANIFEST = "attempts/001/manifest-000.json"
ARTIFACT = "artifacts/001-000-0000.json"
PARTS = {stream: f"{stream}/001-000-000.parquet" for stream in ("history", "histograms", "events")}
DIRECTORIES = (
    "attempts",
    "attempts/000",
    "attempts/001",
    "history",
    "histograms",
    "events",
    "artifacts",
    "blobs",
    "blobs/sha256",
    "sync",
)


def forge(path: Path, members: Mapping[str, Any]) -> None:
    """Write a document of these members, whatever they are."""
    path.write_bytes(document.encode(members))


def forge_text(path: Path, body: str) -> None:
    """Write a document of this JSON text, which ends before the brace."""
    data = body.encode()
    checksum = b',\n  "checksum": "crc32:%08x"' % zlib.crc32(data + b"\n}\n")
    path.write_bytes(data + checksum + b"\n}\n")


def changed(name: str, /, **change: Any) -> Change:
    """Change members of a document."""

    def make(layout: Layout, outside: Path) -> None:
        path = layout.root / name
        forge(path, {**members(path), **change})

    return make


def changed_state(**change: Any) -> Change:
    """Change members of the state in the manifest."""

    def make(layout: Layout, outside: Path) -> None:
        path = layout.root / MANIFEST
        given = members(path)
        forge(path, {**given, "state": {**given["state"], **change}})

    return make


def members(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    del found["checksum"]
    return found


def with_text(name: str, member: str) -> Change:
    """Put a member of this JSON text into a document."""

    def make(layout: Layout, outside: Path) -> None:
        path = layout.root / name
        text = json.dumps(members(path), indent=2).removesuffix("\n}")
        forge_text(path, f"{text},\n  {member}")

    return make


def with_frames(*records: Any) -> Change:
    """Append records to the journal."""
    return with_payloads(*map(msgspec.msgpack.encode, records))


def with_payloads(*payloads: bytes) -> Change:
    def make(layout: Layout, outside: Path) -> None:
        with (layout.root / JOURNAL).open("ab") as file:
            for payload in payloads:
                size = len(payload).to_bytes(4, "little")
                checksum = zlib.crc32(payload, zlib.crc32(size))
                file.write(size + checksum.to_bytes(4, "little") + payload)

    return make


def with_header(**change: Any) -> Change:
    def make(layout: Layout, outside: Path) -> None:
        header = {"format": JOURNAL_FORMAT, "version": 1, **change}
        (layout.root / JOURNAL).write_bytes(MAGIC + encode_frame(header))

    return make


def with_part(stream: str, data: bytes | Callable[[], bytes]) -> Change:
    """Replace a part by these bytes, which the manifest calls sound."""

    def make(layout: Layout, outside: Path) -> None:
        content = data if isinstance(data, bytes) else data()
        path = layout.root / PARTS[stream]
        path.write_bytes(content)
        manifest = members(layout.root / MANIFEST)
        for part in manifest["parts"]:
            if part["name"] == PARTS[stream]:
                part |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                part |= dict(zip(("footer", "chunks"), _checksums(path), strict=True))
        forge(layout.root / MANIFEST, manifest)

    return make


def _checksums(path: Path) -> tuple[str, str]:
    try:
        with path.open("rb") as file:
            return checksums(file)
    except (OSError, ValueError, pa.ArrowException):
        return "", ""


def parquet(table: pa.Table, times: int = 1, **options: Any) -> bytes:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", **options) as writer:
        for _ in range(times):
            writer.write_table(table)
    return sink.getvalue()


def claiming(table: pa.Table, field: pa.Field) -> bytes:
    """Write a table whose Arrow schema says that one of its columns is another ``field``."""
    at = table.column_names.index(field.name)
    claimed = table.schema.set(at, field).serialize().to_pybytes()
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        metadata = {**(table.schema.metadata or {}), b"ARROW:schema": base64.b64encode(claimed)}
        writer.add_key_value_metadata(metadata)
    return sink.getvalue()


def _array_bomb(kind: pa.DataType) -> bytes:
    """One array is missing, and takes as much memory as the others would."""
    return claiming(history(1, a=pa.array([None], ARRAY)), pa.field("a", kind))


ARRAY = pa.list_(pa.float64())
HUGE = 2**31 - 1
HUGE_ARRAY = pa.list_(pa.float64(), HUGE)


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def _pickle(layout: Layout, outside: Path) -> None:
    """Put in a column that older versions of Arrow unpickle."""
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(_Touch(outside / "made")),
    }
    field = pa.field("a", pa.binary(), metadata=extension)
    table = history(1, a=pa.array([b""]))
    with_part("history", claiming(table, field))(layout, outside)


def history(rows: int = 6, /, **columns: Any) -> pa.Table:
    """A table with the index columns of the history, and ``columns``."""
    index: dict[str, Any] = {
        "_step": pa.array(range(3, 3 + rows), pa.int64()),
        "_timestamp": pa.array([1000.0] * rows),
        "_runtime": pa.array([1.0] * rows),
        "_attempt": pa.array([1] * rows, pa.int32()),
    }
    return pa.table({name: column for name, column in (index | columns).items() if column})


def _event_table(body: str, kind: str = "config") -> pa.Table:
    return pa.table(
        {
            "_timestamp": pa.array([1000.0]),
            "_attempt": pa.array([1], pa.int32()),
            "type": [kind],
            "body": [body],
        }
    )


def _histogram_table(values: list[Any], bins: list[Any]) -> pa.Table:
    index = history(1).slice(0, 1)
    table = index.append_column("key", pa.array(["w"]))
    table = table.append_column("values", pa.array([values], pa.list_(pa.float64())))
    table = table.append_column("bins", pa.array([bins], pa.list_(pa.float64())))
    for name in ("count", "nan", "posinf", "neginf", "zero"):
        table = table.append_column(name, pa.nulls(1, pa.int64()))
    for name in ("min", "max", "mean", "std"):
        table = table.append_column(name, pa.nulls(1, pa.float64()))
    return table


def _rows_bomb() -> bytes:
    """Two kilobytes for each million rows, 32 bytes a row once they are read."""
    rows = 1 << 20
    return parquet(history(rows, _step=pa.array([7] * rows)), times=42)


def _pages_bomb() -> bytes:
    """A page of 4 MiB of zeros takes some hundred bytes."""
    return parquet(history(1, s=pa.array(["0" * (4 << 20)])), times=280, use_dictionary=False)


def _dictionary_bomb() -> bytes:
    """A megabyte of text, and ten thousand indices that name it."""
    rows = 10_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["0" * (1 << 20)])
    return parquet(history(rows, s=text), store_schema=False)


def _elsewhere(name: str, replace: Callable[[Path, Path], None]) -> Change:
    """Move what is there out of the run, where it would be read as before, and lead there."""

    def make(layout: Layout, outside: Path) -> None:
        path = layout.root / name
        shutil.move(path, outside / "moved")
        replace(path, outside / "moved")

    return make


def _blob_elsewhere(replace: Callable[[Path, Path], None]) -> Change:
    def make(layout: Layout, outside: Path) -> None:
        (blob,) = layout.blobs.glob("*/*")
        _elsewhere(blob.relative_to(layout.root).as_posix(), replace)(layout, outside)

    return make


def _blob_directory_elsewhere(layout: Layout, outside: Path) -> None:
    (directory,) = layout.blobs.glob("*")
    _elsewhere(directory.relative_to(layout.root).as_posix(), _link)(layout, outside)


def _link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def _relative_link(path: Path, target: Path) -> None:
    path.symlink_to(os.path.relpath(target, path.parent))


def _pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


def _device(path: Path, target: Path) -> None:
    path.symlink_to("/dev/zero")


def _many_entries(layout: Layout, outside: Path) -> None:
    for number in range(MAX_ENTRIES + 1):
        (layout.attempt(0) / f"x{number}").touch()


def _sparse(name: str, size: int) -> Change:
    def make(layout: Layout, outside: Path) -> None:
        os.truncate(layout.root / name, size)

    return make


def _sparse_part(layout: Layout, outside: Path) -> None:
    os.truncate(layout.root / PARTS["history"], 1 << 40)
    manifest = members(layout.root / MANIFEST)
    for part in manifest["parts"]:
        part["size"] = 1 << 40
    forge(layout.root / MANIFEST, manifest)


def _gap(layout: Layout, outside: Path) -> None:
    shutil.copy(layout.root / JOURNAL, layout.journal(0, 0, 99_999))


def _garbage(unit: bytes, size: int) -> Change:
    """Append bytes, each of which may begin a frame, as far as its length goes."""

    def make(layout: Layout, outside: Path) -> None:
        with (layout.root / JOURNAL).open("ab") as file:
            file.write(unit * (size // len(unit)))

    return make


_NESTED = "[" * 60_000 + "]" * 60_000
_DEEP = '{"a":' * 500 + "1" + "}" * 500
_PIECE = ["history", 100, 1000.0, 1.0]

# Refused when the run is opened strictly; each with a part of the line that says why.
CASES: dict[str, tuple[Change, str]] = {
    **{f"id {value!r:.20}": (changed(INFO, id=value), INFO) for value in ("../x", "/etc", "..", 5)},
    **{f"id {value!r:.20}": (changed(INFO, id=value), INFO) for value in (None, "", "a/b", "a\n")},
    **{
        f"project {value!r:.20}": (changed(INFO, project=value), INFO)
        for value in ("../x", "a/b", "", " ", "x" * 129, 5, ["a"], "a#b", "a\\b")
    },
    **{
        f"entity {value!r:.20}": (changed(INFO, entity=value), INFO)
        for value in ("../x", "a b", "", 5, {})
    },
    **{
        f"created {value!r:.20}": (changed(INFO, created=value), INFO)
        for value in ("1", None, -1, 10**18, float("nan"), float("inf"), True)
    },
    "tags that are a text": (changed(INFO, tags="demo"), INFO),
    "tags that are numbers": (changed(INFO, tags=[1]), INFO),
    "an empty tag": (changed(INFO, tags=[""]), INFO),
    "a long name": (changed(INFO, name="x" * 200), INFO),
    "a name that is a number": (changed(INFO, name=5), INFO),
    **{
        f"version {value!r}": (changed(INFO, version=value), "version")
        for value in ("1", 0, -1, True, None, 1.0)
    },
    "another format": (changed(INFO, format="x"), "format"),
    "1e400": (with_text(INFO, '"created": 1e400'), INFO),
    "a number of 5000 digits": (with_text(INFO, f'"x": {"9" * 5000}'), INFO),
    "an integer of 65 bits": (with_text(INFO, f'"x": {2**64}'), INFO),
    "a list 60000 deep": (with_text(INFO, f'"x": {_NESTED}'), INFO),
    "an object 500 deep": (with_text(INFO, f'"x": {_DEEP}'), INFO),
    "a lone surrogate": (with_text(INFO, '"notes": "\\ud800"'), INFO),
    "a lone surrogate in a name": (with_text(INFO, '"\\udc00": 1'), INFO),
    "a document of a terabyte": (_sparse(INFO, 1 << 40), INFO),
    "a list for a document": (lambda layout, _: forge_text(layout.info, "[\n1"), INFO),
    # manifests
    **{
        f"parts {name!r:.30}": (
            changed(
                MANIFEST,
                parts=[
                    {"name": name, "rows": 1, "size": 1, "sha256": "", "footer": "", "chunks": ""}
                ],
            ),
            "no part" if isinstance(name, str) else MANIFEST,
        )
        for name in ("/etc/passwd", "../x", "history/../../x.parquet", "history", "", 5, None)
    },
    **{
        f"manifest {change}": (changed(MANIFEST, **change), MANIFEST)
        for change in (
            {"attempt": "1"},
            {"segments": -1},
            {"segments": "0"},
            {"segments": 2.5},
            {"seals": None},
            {"parts": {}},
            {"parts": [5]},
            {"damage": "x"},
            {"state": []},
            {"state": None},
        )
    },
    **{
        f"damage in {name!r}": (
            changed(MANIFEST, damage=[{"path": name, "offset": 0, "size": 0, "reason": ""}]),
            "a manifest names",
        )
        for name in ("/etc/passwd", "../x", "a/../../x", 5)
    },
    **{
        f"state {change}": (changed_state(**change), MANIFEST)
        for change in (
            {"config": []},
            {"summary": 5},
            {"summary": None},
            {"metrics": {}},
            {"metrics": []},
            {"metrics": {"definitions": [{}], "aggregates": {}, "latest_step": {}}},
            {"metrics": {"definitions": [], "aggregates": {"a": 5}, "latest_step": {}}},
            {"metrics": {"definitions": [], "aggregates": {}, "latest_step": {"a": "x"}}},
            {"artifacts": [5]},
            {"artifacts": "x"},
            {"rows": "6"},
            {"rows": -1},
            {"last_step": -1},
            {"runtime": "1"},
            {"runtime": -1.0},
            {"runtime": 1e300},
            {"runtime": float("nan")},
            {"last_seen": float("inf")},
            {"exit_code": "0"},
            {"exit_code": 2**40},
            {"process": []},
            {"process": {"pid": "1"}},
            {"process": {"from_step": -1}},
            {"process": {"from_step": "0"}},
            {"process": {"host": 5}},
        )
    },
    **{
        f"artifact {name!r}": (changed_state(artifacts=[name]), "no artifact")
        for name in ("../../etc/passwd", "/etc/passwd", "000-000-0000.json/x", "")
    },
    # artifacts
    **{
        f"path {path!r}": (
            changed(ARTIFACT, files={path: {"sha256": "a" * 64, "md5": "a" * 32, "size": 1}}),
            "leave the artifact",
        )
        for path in ("/etc/passwd", "../x", "a/../../x", "", "a//b", "./a", "a\\b", "a\0b", "a\nb")
    },
    **{
        f"file {change}": (
            changed(
                ARTIFACT,
                files={"a": {"sha256": "a" * 64, "md5": "a" * 32, "size": 1, **change}},
            ),
            ARTIFACT,
        )
        for change in (
            {"sha256": "../../../x"},
            {"sha256": "/etc/passwd"},
            {"sha256": "A" * 64},
            {"sha256": 5},
            {"md5": "zz"},
            {"size": -1},
            {"size": "7"},
        )
    },
    **{
        f"artifact manifest {change}": (changed(ARTIFACT, **change), ARTIFACT)
        for change in (
            {"name": "a/b"},
            {"name": ""},
            {"type": "../x"},
            {"aliases": ["a:b"]},
            {"aliases": "latest"},
            {"metadata": []},
            {"files": []},
            {"files": {"a": 5}},
            {"description": 5},
        )
    },
    # journals
    **{
        f"record {record!r:.60}": (with_frames(record), JOURNAL)
        for record in (
            ["history", -1, 1000.0, 1.0, {}],
            ["history", 2**63, 1000.0, 1.0, {}],
            ["history", "7", 1000.0, 1.0, {}],
            ["history", True, 1000.0, 1.0, {}],
            ["history", 7, "now", 1.0, {}],
            ["history", 7, float("nan"), 1.0, {}],
            ["history", 7, 1000.0, float("inf"), {}],
            ["history", 7, 1000.0, 1e30, {}],
            ["history", 7, 1000.0, 1.0, []],
            ["history", 7, 1000.0, 1.0],
            ["history"],
            [*_PIECE, {"_step": 5}],
            [*_PIECE, {"_null": ["x"]}],
            [*_PIECE, {5: 1.0}],
            [*_PIECE, {"a": b"bytes"}],
            [*_PIECE, {"a": 2**64 - 1}],
            [*_PIECE, {"a": [{1: 2}]}],
            [*_PIECE, {"w": {"_type": "histogram"}}],
            [*_PIECE, {"w": {"_type": "histogram", "values": "x", "bins": [0.0]}}],
            [*_PIECE, {"w": {"_type": "histogram", "values": [1], "bins": [0.0]}}],
            [
                *_PIECE,
                {
                    "w": {
                        "_type": "histogram",
                        "values": [1],
                        "bins": [0.0, 1.0],
                        "stats": {"_step": 0},
                    }
                },
            ],
            ["event", "config", 1000.0, {"update": []}],
            ["event", "config", 1000.0, {"remove": "x"}],
            ["event", "config", 1000.0, {"update": {"a": b"bytes"}}],
            ["event", "metric", 1000.0, {}],
            ["event", "metric", 1000.0, {"name": 5}],
            ["event", "metric", 1000.0, {"name": "a", "summary": ["best"]}],
            ["event", "metric", 1000.0, {"name": "a", "goal": "x"}],
            ["event", "artifact", 1000.0, {"manifest": 5}],
            ["event", "file", 1000.0, {"path": "a"}],
            ["event", "dropped", 1000.0, {"rows": "1", "events": 0}],
            ["event", "finish", 1000.0, {"exit_code": "0", "runtime": 1.0}],
            ["event", "finish", 1000.0, {"exit_code": 2**40, "runtime": 1.0}],
            ["event", "attempt", 1000.0, {"from_step": "x"}],
            ["event", "attempt", 1000.0, {"pid": "../1"}],
            ["event", "rollback", 1000.0, {"resume": {"config": 5}}],
            ["event", "heartbeat", 1e300, {}],
            ["event", 5, 1000.0, {}],
        )
    },
    "an artifact event that leads out": (
        with_frames(["event", "artifact", 1000.0, {"manifest": "../../etc/passwd"}]),
        "no artifact",
    ),
    "a file event that leads out": (
        with_frames(
            ["event", "file", 1e3, {"path": "../x", "sha256": "a" * 64, "md5": "a" * 32, "size": 1}]
        ),
        "../x",
    ),
    "a timestamp extension": (
        with_payloads(b"\x95\xa7history\x64\xcb" + bytes(8) + b"\x00\x81\xa1a\xd6\xff" + bytes(4)),
        JOURNAL,
    ),
    "a list 500 deep": (
        with_payloads(b"\x95\xa7history\x64\x00\x00\x81\xa1a" + b"\x91" * 500 + b"\xc0"),
        JOURNAL,
    ),
    "a list a million deep": (
        with_payloads(b"\x95\xa7history\x64\x00\x00\x81\xa1a" + b"\x91" * 1_000_000 + b"\xc0"),
        JOURNAL,
    ),
    "a list of 4 billion": (with_payloads(b"\xdd\xff\xff\xff\xff\x01"), JOURNAL),
    "bytes of 4 gigabytes": (with_payloads(b"\xc6\xff\xff\xff\xff\x01"), JOURNAL),
    "text that is no UTF-8": (with_payloads(b"\x91\xa2\xff\xfe"), JOURNAL),
    "a header whose process is a number": (with_header(process=5), JOURNAL),
    "a header of another format": (with_header(format="x"), JOURNAL),
    "a header of version '1'": (with_header(version="1"), JOURNAL),
    "a journal of a terabyte": (_sparse(JOURNAL, 1 << 40), JOURNAL),
    "a journal of empty frames": (with_payloads(*[b"\xc0"] * 2000), JOURNAL),
    "lengths of a megabyte at every byte": (
        _garbage((1 << 20).to_bytes(4, "little"), 3 << 20),
        JOURNAL,
    ),
    "99998 segments missing": (_gap, "damaged places"),
    "a hundred thousand files": (_many_entries, "entries"),
    # parts
    "no Parquet": (with_part("history", b"PAR1" + bytes(100) + b"PAR1"), PARTS["history"]),
    "an empty part": (with_part("history", b""), PARTS["history"]),
    "a part of a terabyte": (_sparse_part, PARTS["history"]),
    "44 million rows": (with_part("history", _rows_bomb), "inflate"),
    "pages of zeros": (with_part("history", _pages_bomb), "inflate"),
    "a long text 10000 times": (with_part("history", _dictionary_bomb), "inflate"),
    "an array of 16 gigabytes that is missing": (
        with_part("history", partial(_array_bomb, HUGE_ARRAY)),
        PARTS["history"],
    ),
    "a tensor of 16 gigabytes that is missing": (
        with_part("history", partial(_array_bomb, pa.fixed_shape_tensor(pa.float64(), [HUGE]))),
        PARTS["history"],
    ),
    "a column that is a pickle": (_pickle, PARTS["history"]),
    **{
        f"history with {what}": (with_part("history", partial(parquet, table)), PARTS["history"])
        for what, table in {
            "steps that are text": history(_step=pa.array(["1"] * 6)),
            "steps that are missing": history(_step=pa.array([None] * 6, pa.int64())),
            "no steps": history(_step=[]),
            "a struct": history(a=pa.array([{"x": 1}] * 6)),
            "a time": history(a=pa.array([1] * 6, pa.timestamp("ns"))),
            "bytes": history(a=pa.array([b"x"] * 6)),
            "a list of numbers": history(_null=pa.array([[1]] * 6)),
            "a null of no name": history(_null=pa.array([[None]] * 6, pa.list_(pa.string()))),
        }.items()
    },
    "events that aren't JSON": (with_part("events", parquet(_event_table("{"))), "events"),
    "events that are lists": (with_part("events", parquet(_event_table("[]"))), "events"),
    "events that make no sense": (
        with_part("events", parquet(_event_table('{"exit_code": "x"}', "finish"))),
        "events",
    ),
    "histograms without edges": (
        with_part("histograms", parquet(_histogram_table([1.0], []))),
        "histograms",
    ),
    "histograms of nothing": (
        with_part("histograms", parquet(_histogram_table([None], [0.0, 1.0]))),
        "histograms",
    ),
}
JSON_COLUMN = pa.field("a", pa.string(), metadata={b"wandbkeras.encoding": b"json"})
for _what, _text in {"no JSON": "{", "deep JSON": _NESTED, "a huge integer": "9" * 5000}.items():
    _table = history().append_column(JSON_COLUMN, pa.array([_text] * 6))
    CASES[f"history with {_what}"] = (with_part("history", partial(parquet, _table)), "history")
for _name in DIRECTORIES:
    CASES[f"{_name} a link"] = (_elsewhere(_name, _link), _name)
    CASES[f"{_name} a relative link"] = (_elsewhere(_name, _relative_link), _name)
    CASES[f"{_name} a pipe"] = (_elsewhere(_name, _pipe), _name)
for _name in (INFO, JOURNAL, MANIFEST, ARTIFACT, *PARTS.values()):
    CASES[f"{_name} a link"] = (_elsewhere(_name, _link), _name)
    CASES[f"{_name} a relative link"] = (_elsewhere(_name, _relative_link), _name)
    CASES[f"{_name} a pipe"] = (_elsewhere(_name, _pipe), _name)
    CASES[f"{_name} a device"] = (_elsewhere(_name, _device), _name)
for _replace in (_link, _relative_link, _pipe, _device):
    CASES[f"a blob: {_replace.__name__}"] = (_blob_elsewhere(_replace), "blobs/sha256")
CASES["a directory of blobs: a link"] = (_blob_directory_elsewhere, "blobs/sha256")
