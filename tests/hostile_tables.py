"""Tables as a stranger might make them: each case puts one in the place of a sound run's.

The digests are right: whoever writes a table says its SHA-256, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.hostile import (
    ARRAY,
    ARTIFACT,
    HUGE,
    HUGE_ARRAY,
    JSON_COLUMN,
    Change,
    _device,
    _elsewhere,
    _link,
    _pipe,
    _relative_link,
    changed,
    claiming,
    history,
    parquet,
    with_part,
)
from wandbkeras.store.layout import Layout

FOLDER = "tables/table"
TABLE = f"{FOLDER}/00000005-001-000-0000.parquet"
FORGED = f"{FOLDER}/00000003-001-000-0007.parquet"
OTHER = "tables/model-data-4c7a9460"
FORMAT = {b"wandbkeras.version": b"1", b"wandbkeras.json": b"[]"}


def value(data: bytes, **change: Any) -> dict[str, Any]:
    """What names a table of these bytes."""
    digest = hashlib.sha256(data).hexdigest()
    found = {"path": FORGED, "sha256": digest, "size": len(data), "rows": 1, **change}
    return {"_type": "table/parquet", **found}


def in_a_row(data: bytes | Callable[[], bytes], text: str | None = None, **change: Any) -> Change:
    """Put a table of these bytes there, and name it in a row, by ``text`` if that is given."""

    def make(layout: Layout, outside: Path) -> None:
        content = data() if callable(data) else data
        (layout.root / FORGED).write_bytes(content)
        named = json.dumps(value(content, **change)) if text is None else text
        cells = pa.array([named, *[None] * 5], pa.string())
        table = history().append_column(JSON_COLUMN, cells)
        with_part("history", parquet(table))(layout, outside)

    return make


def in_an_artifact(name: Any = "data", **change: Any) -> Change:
    """Name a table in the artifact's manifest."""
    return changed(ARTIFACT, tables={name: {**value(b"x"), **change}})


def table(columns: Any, rows: int = 1, /, **cells: Any) -> bytes:
    """The file of a table: what its description says, and what is in it."""
    fields = {n: c if isinstance(c, pa.Array) else pa.array([c] * rows) for n, c in cells.items()}
    description = (
        columns if isinstance(columns, str) else json.dumps({"version": 1, "columns": columns})
    )
    metadata = {**FORMAT, b"wandbkeras.table": description.encode()}
    is_json = '"json"' in description
    schema = pa.schema(
        [JSON_COLUMN.with_name(n) if is_json else pa.field(n, a.type) for n, a in fields.items()]
    )
    return parquet(
        pa.Table.from_arrays(list(fields.values()), schema=schema.with_metadata(metadata))
    )


def claimed(column: pa.Array, kind: str, field_type: pa.DataType) -> bytes:
    """A table of one column, whose Arrow schema says that it is of another type."""
    description = {"version": 1, "columns": [{"name": "x", "kind": kind}]}
    metadata = {**FORMAT, b"wandbkeras.table": json.dumps(description).encode()}
    made = pa.table({"x": column}).replace_schema_metadata(metadata)
    return claiming(made, pa.field("x", field_type))


def missing_arrays(kind: pa.DataType, rows: int = 1) -> bytes:
    """A table of arrays all of which are missing: their type says what they take."""
    return claimed(pa.array([None] * rows, ARRAY), "array", kind)


def with_rows(given: int, said: int) -> bytes:
    """A table of ``given`` rows that says it has another number: one of its footer's is changed."""
    data = table([INTEGER], given, x=7)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    head, number, rest = data[footer:].partition(bytes([0x16, 2 * given]))  # as Thrift has them
    assert number
    return data[:footer] + head + bytes([0x16, 2 * said]) + rest


def image(data: bytes = b"no image", kind: str = "images/parquet") -> Change:
    struct = pa.array([{"bytes": data, "path": None}], IMAGE)
    return in_a_row(table([{"name": "i", "kind": "image"}], i=struct), _type=kind)


def long_text() -> bytes:
    """A megabyte of text, and ten thousand cells that hold it."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["0" * (1 << 20)])
    return claimed(text, "string", pa.string())


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
INTEGER = {"name": "x", "kind": "integer"}
_ROW = {"name": "x", "kind": "row"}

PATHS = (
    "/etc/passwd",
    "../x",
    "tables/../x.parquet",
    f"{FOLDER}/../../run.json",
    f"{TABLE}\n",
    f"{FOLDER}/x.parquet",
    "history/001-000-000.parquet",
    "tables//x",
    5,
    None,
)

CASES: dict[str, tuple[Change, str]] = {
    **{f"a row's table {p!r:.40}": (in_a_row(b"x", path=p), "history") for p in PATHS},
    **{f"an artifact's table {p!r:.40}": (in_an_artifact(path=p), ARTIFACT) for p in PATHS},
    **{f"a table named {n!r}": (in_an_artifact(n), ARTIFACT) for n in ("../x", "/x", "", ".")},
    "a table's size that is negative": (in_a_row(b"x", size=-1), "history"),
    "a table's rows that are text": (in_a_row(b"x", rows="1"), "history"),
    "a table of nothing": (in_a_row(b"x", text='{"_type": "table/parquet"}'), "history"),
    "used that is a text": (changed(ARTIFACT, used="yes"), ARTIFACT),
    "tables that are a list": (changed(ARTIFACT, tables=[1]), ARTIFACT),
    "no Parquet for a table": (in_a_row(b"PAR1" + bytes(50) + b"PAR1"), FORGED),
    "an empty table": (in_a_row(b""), FORGED),
    "a table of a long text": (in_a_row(long_text, rows=10_000), "inflate"),
    "arrays of 16 gigabytes that are missing": (in_a_row(missing_arrays(HUGE_ARRAY)), "inflate"),
    "a tensor of 16 gigabytes that is missing, in a table": (
        in_a_row(missing_arrays(pa.fixed_shape_tensor(pa.float64(), [HUGE]))),
        FORGED,
    ),
    "a thousand missing arrays of 8 megabytes": (
        in_a_row(missing_arrays(pa.list_(pa.float64(), 1 << 20), 1000), rows=1000),
        "inflate",
    ),
    "a table that hides rows": (in_a_row(lambda: with_rows(3, 1)), "rows or more, not 1"),
    "a table that lacks rows": (in_a_row(lambda: with_rows(3, 5), rows=5), "not 5"),
    "a table of more rows": (in_a_row(table([INTEGER], x=1), rows=2), "1 rows, not 2"),
    "a table without a description": (in_a_row(parquet(pa.table({"x": [1]}))), "does not say"),
    **{
        f"a table described as {what}": (in_a_row(table(columns, x=1)), FORGED)
        for what, columns in {
            "no JSON": "{",
            "a list": "[]",
            "deep JSON": '{"version": 1, "columns": ' + "[" * 500 + "]" * 500 + "}",
            "a later version": '{"version": 2, "columns": []}',
            "another column": [{"name": "y", "kind": "integer"}],
            "no column": [],
            "twice the column": [INTEGER, INTEGER],
            "an unknown kind": [{"name": "x", "kind": "video"}],
            "another kind": [{"name": "x", "kind": "string"}],
            "an array": [{"name": "x", "kind": "array"}],
            "an image": [{"name": "x", "kind": "image"}],
            "rows of nothing": [_ROW],
            "rows of a file": [{**_ROW, "table": "/etc/passwd"}],
            "rows of ..": [{**_ROW, "table": "tables/../../x.parquet"}],
            "captions of a number": [{**INTEGER, "caption": "x"}],
            "a huge label": [{"name": "x", "kind": "class", "labels": [[2**70, "a"]]}],
            "a text that is none": '{"version": 1, "columns": [{"name": "\\ud800"}]}',
        }.items()
    },
    "a table with JSON that is none": (
        in_a_row(table([{"name": "x", "kind": "json"}], x=pa.array(["{"]))),
        FORGED,
    ),
    "an image that is none": (image(), FORGED),
    "an image of no pixels": (image(b"\x89PNG\r\n\x1a\n" + bytes(8) + bytes(8)), FORGED),
    "an image that is missing": (
        in_a_row(
            table([{"name": "i", "kind": "image"}], i=pa.array([None], IMAGE)),
            _type="images/parquet",
        ),
        FORGED,
    ),
    "images of no column": (in_a_row(table([INTEGER], x=1), _type="images/parquet"), FORGED),
}
for _name in ("tables", FOLDER, OTHER):
    CASES[f"{_name} a link"] = (_elsewhere(_name, _link), _name)
    CASES[f"{_name} a pipe"] = (_elsewhere(_name, _pipe), _name)
for _replace in (_link, _relative_link, _pipe, _device):
    CASES[f"a table: {_replace.__name__}"] = (_elsewhere(TABLE, _replace), TABLE)
