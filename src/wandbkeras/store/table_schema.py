"""What the columns of a stored table hold: the description that its Parquet file carries.

A column of a table is one column of the file, but an image has more: its caption and its masks are
columns of their own beside it. The description says which is which, and what the bytes don't: class
labels, the rule by which floats became pixels, the table that a row number belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
from msgspec import Meta

from wandbkeras.store.checks import Count, parse_json
from wandbkeras.store.parquet import FORMAT_KEY, JSON_KEY
from wandbkeras.store.part_schema import JSON_FIELD, is_json
from wandbkeras.store.schema import FORMAT_VERSION
from wandbkeras.store.table_names import is_table_name

DESCRIPTION_KEY = b"wandbkeras.table"
# By which the `datasets` package knows a column of images.
DATASETS_KEY = b"huggingface"
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_PLAIN = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "string": pa.string(),
    "json": pa.string(),
    "class": pa.int64(),
    "row": pa.int64(),
    "image": IMAGE_TYPE,
}
ELEMENTS = (
    pa.bool_(),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float32(), pa.float64()),
)
_MAX_DIMENSIONS = 8

Kind = Literal[
    "null", "bool", "integer", "number", "string", "json", "array", "class", "row", "image"
]
Labels = tuple[tuple[Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)], str], ...]


class MaskColumn(msgspec.Struct, frozen=True):
    """A mask of the images of a column: ``column`` holds its files, ``labels`` name its classes."""

    name: str
    column: str
    labels: Labels = ()


class TableColumn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column of a table.

    ``optional``: whether a cell may hold nothing. Of images: ``caption`` is the column of their
    captions, ``labels`` are classes of their masks, ``scale`` says how floats became pixels, of
    which ``nan`` were no number and ``clipped`` lay outside. Of a class: ``labels``. Of a row:
    ``table`` is the path of the other table.
    """

    name: str
    kind: Kind
    optional: bool = True
    caption: str | None = None
    masks: tuple[MaskColumn, ...] = ()
    labels: Labels = ()
    table: str | None = None
    scale: str | tuple[float, float] | None = None
    nan: Count = 0
    clipped: Count = 0

    @property
    def stored(self) -> list[str]:
        """The columns of the file that hold it."""
        captions = [] if self.caption is None else [self.caption]
        return [self.name, *captions, *(mask.column for mask in self.masks)]


class _Description(msgspec.Struct, frozen=True):
    version: int
    columns: tuple[TableColumn, ...]


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in order, and the Arrow schema of its file."""

    columns: tuple[TableColumn, ...]
    arrow: pa.Schema


def field_of(name: str, kind: Kind) -> pa.Field:
    """Return the field of a column of the file, other than of arrays."""
    return pa.field(name, _PLAIN[kind], metadata=JSON_FIELD if kind == "json" else None)


def file_metadata(fields: Iterable[pa.Field], columns: Iterable[TableColumn]) -> dict[bytes, bytes]:
    """Return what the file's metadata says from its beginning: version, JSON, images, classes."""
    json_columns = [field.name for field in fields if is_json(field)]
    features: dict[str, Any] = {}
    for column in columns:
        if column.kind == "image":
            images = [column.name, *(mask.column for mask in column.masks)]
            features |= {name: {"_type": "Image"} for name in images}
        elif column.kind == "class" and [i for i, _ in column.labels] == list(
            range(len(column.labels))
        ):
            names = [name for _, name in column.labels]
            features[column.name] = {"names": names, "_type": "ClassLabel"}
    metadata = {
        FORMAT_KEY: str(FORMAT_VERSION).encode(),
        JSON_KEY: json.dumps(json_columns).encode(),
    }
    if features:
        metadata[DATASETS_KEY] = json.dumps({"info": {"features": features}}).encode()
    return metadata


def describe(columns: Iterable[TableColumn]) -> dict[str, str]:
    """Return what the file's metadata says at its end, when all rows are known."""
    description = _Description(FORMAT_VERSION, tuple(columns))
    return {DESCRIPTION_KEY.decode(): msgspec.json.encode(description).decode()}


def read_schema(arrow: pa.Schema, metadata: Mapping[bytes, bytes] | None) -> TableSchema:
    """Return the schema of a table's file; ValueError if it is none."""
    text = (metadata or {}).get(DESCRIPTION_KEY)
    if text is None:
        raise ValueError("no table of a run: it does not say what its columns hold")
    parse_json(text)  # what msgspec takes for granted: depth, text
    try:
        description = msgspec.json.decode(text, type=_Description)
    except msgspec.DecodeError as error:
        raise ValueError(f"its description makes no sense ({error})") from error
    if description.version != FORMAT_VERSION:
        raise ValueError(f"its description is of version {description.version}")
    schema = TableSchema(description.columns, arrow)
    _check(schema)
    return schema


def _check(schema: TableSchema) -> None:
    """Raise ValueError unless description and file have the same columns."""
    names = [name for column in schema.columns for name in column.stored]
    if names != schema.arrow.names or len(set(names)) != len(names):
        raise ValueError("its columns are not those of its description")
    for column in schema.columns:
        for name in column.stored:
            field = schema.arrow.field(name)
            if not _is_of(field, column, name):
                raise ValueError(f"a {column.kind} column {name!r:.80} of type {field.type!s:.80}")
        if (column.table is not None) != (column.kind == "row"):
            raise ValueError(f"a {column.kind} column {column.name!r:.80}, and its other table")
        if column.table is not None and not is_table_name(column.table):
            raise ValueError(f"rows of {column.table!r:.80}, which is no table")
        if column.kind != "image" and (column.caption is not None or column.masks):
            raise ValueError(f"a {column.kind} column {column.name!r:.80} with parts of an image")


def _is_of(field: pa.Field, column: TableColumn, name: str) -> bool:
    if name == column.caption:
        return bool(field.type == pa.string())
    if column.kind == "array":
        return array_shape(field.type) is not None
    return bool(field.type == _PLAIN[column.kind]) and is_json(field) == (column.kind == "json")


def array_shape(kind: pa.DataType) -> tuple[int, ...] | None:
    """Return the shape of each array in a column of this type; None if it holds none."""
    shape: list[int] = []
    while pa.types.is_fixed_size_list(kind) and len(shape) < _MAX_DIMENSIONS:
        shape.append(kind.list_size)
        kind = kind.value_type
    return tuple(shape) if shape and kind in ELEMENTS else None
