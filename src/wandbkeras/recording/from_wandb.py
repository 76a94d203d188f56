"""Histograms, images, classes and tables, ours or wandb's own, as ours.

They are known by the mark that wandb gives its own, as we give ours: so nothing is imported to ask,
neither wandb nor, with ours, NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wandbkeras.data_types.table import Table
from wandbkeras.data_types.table_columns import ClassColumn, RowColumn
from wandbkeras.errors import UnsupportedValueError

if TYPE_CHECKING:
    from wandbkeras.data_types.histogram import Histogram
    from wandbkeras.data_types.image import Image, Mask

_REMOTE = ("gs://", "s3://", "http://", "https://")


def is_image(value: Any) -> bool:
    """Whether ``value`` is an image, ours or wandb's."""
    return getattr(value, "_log_type", None) == "image-file"


def histogram_of(value: Any) -> Histogram | None:
    """Return a histogram, ours or wandb's, as ours; None if it is none."""
    if getattr(value, "_log_type", None) != "histogram":
        return None
    from wandbkeras.data_types.histogram import Histogram

    if isinstance(value, Histogram):
        return value
    return Histogram(np_histogram=(value.histogram, value.bins))


def image_of(value: Any) -> Image | None:
    """Return an image, ours or wandb's, as ours; None if it is none."""
    if not is_image(value):
        return None
    from wandbkeras.data_types.image import Image

    return value if isinstance(value, Image) else _image(value)


def table_of(value: Any) -> Table | None:
    """Return a table, ours or wandb's, or a dataframe of pandas, as ours; None if it is none."""
    if isinstance(value, Table):
        return value
    if getattr(value, "_log_type", None) == "table":
        return _table(value)
    return Table(dataframe=value) if hasattr(value, "iloc") and hasattr(value, "columns") else None


def _image(image: Any) -> Image:
    path = str(image._path)
    if path.startswith(_REMOTE):
        raise UnsupportedValueError(f"wandb.Image: {path!r:.200} lies elsewhere: pass its file")
    if getattr(image, "_boxes", None):
        raise UnsupportedValueError("wandb.Image: bounding boxes are not recorded: pass masks")
    from wandbkeras.data_types.image import Image

    ours = Image(path, caption=image._caption, classes=image._classes)
    if image._is_tmp:
        ours.file_name = None
    ours.masks = {name: _mask(mask) for name, mask in (image._masks or {}).items()}
    return ours


def _mask(mask: Any) -> Mask:
    from wandbkeras.data_types.image import Mask

    given = getattr(mask, "_val", None)
    if given is not None:
        return Mask(given["mask_data"], given.get("class_labels"))
    return Mask(importlib.import_module("PIL.Image").open(mask._path))


def _table(table: Any) -> Table:
    types = table._column_types.params["type_map"]
    ours = Table({str(name): _kind(types[name]) for name in table.columns}, table.data)
    ours.required = {str(name) for name in table.columns if not _is_optional(types[name])}
    return ours


def _members(kind: Any) -> list[Any]:
    """Return what a type of wandb allows: of a union its members."""
    return list(kind.params["allowed_types"]) if kind.name == "union" else [kind]


def _is_optional(kind: Any) -> bool:
    return any(member.name == "none" for member in _members(kind))


def _kind(kind: Any) -> Any:
    for member in _members(kind):
        if member.name == "classesId":
            return ClassColumn(member.wb_classes_obj_ref)
        if member.name == "foreignIndex":
            return RowColumn(member.params["table"])
    return None
