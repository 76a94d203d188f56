"""W&B's JSON of a table: the types of its columns and its cells, as W&B's client writes them.

Where the client's own reading loses something, what it loses is lost here too: a NaN in a cell of a
table becomes null. Source: ``Table.to_json`` and ``_dtypes`` of wandb 0.31, and what a run of it
left on a server.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from wandbkeras.store.schema import ArtifactFile
from wandbkeras.store.table_schema import Labels, TableColumn, array_shape
from wandbkeras.sync.media import MadeFile, base64_digest, made_file

# What the client writes into the cells themselves; larger arrays are a file beside.
MAX_EMBEDDING = 150


def column_types(types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of all columns."""
    return {"params": {"type_map": dict(types)}, "wb_type": "typedDict"}


def column_type(column: TableColumn, field: pa.Field, beside: Mapping[str, Any]) -> dict[str, Any]:
    """Return the type of a column.

    ``beside`` names what lies beside the table: the other table of a row number, the classes of a
    class, the file of large arrays. Without it, a row number is a number.
    """
    optional = column.optional
    if column.kind == "row":
        if optional or not beside:
            return _union("number", optional=optional)
        return {"params": dict(beside), "wb_type": "foreignIndex"}
    if column.kind == "class":
        ids = [_constant(number) for number, _ in column.labels]
        members = {"params": {"allowed_types": ids}, "wb_type": "union"}
        return _optional(
            {"params": {**beside, "valid_ids": members}, "wb_type": "classesId"}, optional
        )
    if column.kind == "image":
        return _optional(_image_type(column), optional)
    if column.kind == "array":
        return _array_type(field, optional, beside)
    kinds = {"null": "unknown", "bool": "boolean", "string": "string", "json": "any"}
    return _union(kinds.get(column.kind, "number"), optional=optional or column.kind == "null")


def is_beside(column: TableColumn, field: pa.Field) -> bool:
    """Whether the arrays of a column are a file beside the table, as large ones are."""
    if column.kind != "array" or column.optional:
        return False
    shape = array_shape(field.type) or ()
    return len(shape) > 1 or shape[0] > MAX_EMBEDDING


def class_set(labels: Labels) -> list[dict[str, Any]]:
    """Return classes as W&B has them.

    >>> class_set(((0, "road"),))
    [{'id': 0, 'name': 'road'}]
    """
    return [{"id": number, "name": name} for number, name in labels]


def class_set_name(labels: Labels) -> str:
    """Return the name of the file of an image's classes, as the client makes it of their text."""
    text = str(class_set(labels)).encode()
    return f"media/classes/{hashlib.md5(text, usedforsecurity=False).hexdigest()}_cls.classes.json"


def made_classes(labels: Labels) -> MadeFile:
    """Return the file of classes in an artifact."""
    content = {"_type": "classes", "class_set": class_set(labels)}
    return made_file(json.dumps(content, sort_keys=True).encode())


def class_column_name(file: ArtifactFile, *, first: bool) -> str:
    """Return the name of the file of a column's classes; the client knows only the first."""
    return f"media/cls{'' if first else '_' + file.md5[:8]}.classes.json"


def reference_to(name: str, file: ArtifactFile) -> dict[str, str]:
    """Return what names a file of classes in an artifact."""
    return {"digest": base64_digest(file.md5), "path": name, "type": "classes-file"}


def all_labels(column: TableColumn) -> Labels:
    """Return the classes of images and of all their masks."""
    labels: dict[int, str] = {}
    for mask in column.masks:
        labels |= dict(mask.labels)
    return tuple({**labels, **dict(column.labels)}.items())


def without_nan(value: Any) -> Any:
    """Return a cell as the client writes it to an artifact: null for NaN.

    >>> without_nan([1.0, float("nan")])
    [1.0, None]
    """
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return value


def _array_type(field: pa.Field, optional: bool, beside: Mapping[str, Any]) -> dict[str, Any]:
    shape = array_shape(field.type) or ()
    if beside:
        kind = {"params": {**beside, "shape": list(shape)}, "wb_type": "ndarray"}
        return _optional(kind, optional=True)
    element = field.type
    while pa.types.is_fixed_size_list(element):
        element = element.value_type
    kind = {"wb_type": "boolean" if pa.types.is_boolean(element) else "number"}
    for length in reversed(shape):
        kind = {"params": {"element_type": kind, "length": length}, "wb_type": "list"}
    return _optional(kind, optional)


def _image_type(column: TableColumn) -> dict[str, Any]:
    masks = {mask.name: dict(mask.labels) for mask in column.masks}
    named = {mask: _by_text(labels.items()) for mask, labels in masks.items()}
    parameters = {
        "box_class_maps": _constant({}),
        "box_layers": _constant({}),
        "box_score_keys": _constant([], is_set=True),
        "class_map": _constant(_by_text(all_labels(column))),
        "mask_class_maps": _constant(named),
        "mask_layers": _constant({mask: list(labels) for mask, labels in masks.items()}),
    }
    return {"params": parameters, "wb_type": "image-file"}


def _by_text(labels: Iterable[tuple[int, str]]) -> dict[str, str]:
    return {str(number): name for number, name in labels}


def _constant(value: Any, *, is_set: bool = False) -> dict[str, Any]:
    return {"params": {"is_set": is_set, "val": value}, "wb_type": "const"}


def _union(kind: str, *, optional: bool) -> dict[str, Any]:
    return _optional({"wb_type": kind}, optional)


def _optional(kind: dict[str, Any], optional: bool) -> dict[str, Any]:
    if not optional:
        return kind
    members = sorted((kind, {"wb_type": "none"}), key=_as_text)
    return {"params": {"allowed_types": members}, "wb_type": "union"}


def _as_text(kind: Mapping[str, Any]) -> str:
    """Return a type as the client prints it, by which it sorts.

    >>> _as_text({"params": {"element_type": {"wb_type": "number"}}, "wb_type": "list"})
    'Number[]'
    """
    if kind["wb_type"] == "list":
        return f"{_as_text(kind['params']['element_type'])}[]"
    return str(kind["wb_type"]).capitalize()
