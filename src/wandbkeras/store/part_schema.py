"""The columns that a part of each stream has, and whether a file has them.

A part may come from a stranger, so its columns are asked for before any of it is read, and what was
read is looked at once more.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

ENCODING = b"wandbkeras.encoding"
JSON_FIELD = {ENCODING: b"json"}
INDEX = {
    "_step": pa.int64(),
    "_timestamp": pa.float64(),
    "_runtime": pa.float64(),
    "_attempt": pa.int32(),
}
NULLS = "_null"
# Of a metric, by the kind of its values.
TYPES = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "json": pa.string(),
}
# What a histogram of raw values knows beside its bins; a ready-made one doesn't.
HISTOGRAM_COUNTS = ("count", "nan", "posinf", "neginf", "zero")
HISTOGRAM_MOMENTS = ("min", "max", "mean", "std")
HISTOGRAM_SCHEMA = pa.schema(
    [
        *(pa.field(name, kind, nullable=False) for name, kind in INDEX.items()),
        pa.field("key", pa.string(), nullable=False),
        pa.field("values", pa.list_(pa.float64()), nullable=False),
        pa.field("bins", pa.list_(pa.float64()), nullable=False),
        *(pa.field(name, pa.int64()) for name in HISTOGRAM_COUNTS),
        *(pa.field(name, pa.float64()) for name in HISTOGRAM_MOMENTS),
    ]
)
EVENT_SCHEMA = pa.schema(
    [
        pa.field("_timestamp", pa.float64(), nullable=False),
        pa.field("_attempt", pa.int32(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("body", pa.string(), nullable=False, metadata=JSON_FIELD),
    ]
)
CONSOLE_SCHEMA = pa.schema(
    [
        pa.field("_timestamp", pa.float64(), nullable=False),
        pa.field("_attempt", pa.int32(), nullable=False),
        pa.field("_writer", pa.int32(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
# The columns that a part of each stream has, empty as it may be.
SCHEMAS = {
    "history": pa.schema([pa.field(name, kind, nullable=False) for name, kind in INDEX.items()]),
    "histograms": HISTOGRAM_SCHEMA,
    "events": EVENT_SCHEMA,
    "console": CONSOLE_SCHEMA,
}


def is_json(field: pa.Field) -> bool:
    metadata: Mapping[bytes, bytes] = field.metadata or {}
    return metadata.get(ENCODING) == b"json"


def check_schema(schema: pa.Schema, stream: str) -> None:
    """Raise ValueError unless a part of the stream may have these columns.

    It is asked before anything is read: of some types one missing value fills the memory.
    """
    expected = SCHEMAS.get(stream)
    if expected is None:
        return
    names = schema.names
    missing, more = set(expected.names).difference(names), set(names).difference(expected.names)
    if len(set(names)) != len(names) or missing or (more and stream != "history"):
        raise ValueError(f"not the columns of the {stream}")
    for field in schema:
        if field.name in expected.names:
            kinds = (expected.field(field.name).type,)
        elif field.name == NULLS:
            kinds = (pa.list_(pa.string()),)
        else:
            kinds = tuple(TYPES.values())
        if field.type not in kinds or (is_json(field) and field.type != pa.string()):
            raise ValueError(f"a column {field.name!r:.80} of type {field.type!s:.80}")


def checked_table(table: pa.Table, stream: str) -> pa.Table:
    """Return a table that was read, its columns those of its stream; ValueError if they aren't."""
    check_schema(table.schema, stream)
    expected = SCHEMAS.get(stream)
    if expected is None:
        return table
    for field in table.schema:
        if pa.types.is_string(field.type) or pa.types.is_list(field.type):
            table[field.name].validate(full=True)  # Parquet holds any bytes as text
    required = [field.name for field in expected if not field.nullable]
    if any(table[name].null_count for name in required):
        raise ValueError("nothing where there must be a value")
    lists = [table[field.name] for field in table.schema if pa.types.is_list(field.type)]
    if any(pc.list_flatten(column).null_count for column in lists):
        raise ValueError("nothing where there must be an element of a list")
    if stream == "histograms":
        edges = pc.subtract(pc.list_value_length(table["bins"]), 1)
        if not pc.all(pc.equal(edges, pc.list_value_length(table["values"])), min_count=0).as_py():
            raise ValueError("histograms whose bins don't match their counts")
    # Whoever wrote it may have put them in another order.
    return table if stream == "history" else table.select(expected.names).cast(expected)
