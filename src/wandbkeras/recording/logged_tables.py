"""Which values of a metric are tables: tables, dataframes, images, lists of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wandbkeras.data_types.table import Table
from wandbkeras.data_types.table_columns import ImageColumn
from wandbkeras.recording.from_wandb import image_of, is_image, table_of
from wandbkeras.recording.open_table import OpenTable
from wandbkeras.store.checks import IMAGE, IMAGES, TABLE

if TYPE_CHECKING:
    from wandbkeras.data_types.image import Image

IMAGE_COLUMN = "image"
_MAY_BE_TABLES: dict[type, bool] = {}


@dataclass(frozen=True)
class LoggedTable:
    """A table as it is to be written; ``given`` is what the user has of it, ``kind`` its type."""

    kind: str
    table: Table | OpenTable
    given: Any


def may_be_table(value: Any) -> bool:
    """Whether a value may be a table, by its type: asked of every value that is logged."""
    kind: Any = type(value)
    known = _MAY_BE_TABLES.get(kind)
    if known is None:
        known = _MAY_BE_TABLES[kind] = _may_be_table(kind)
    return known


def _may_be_table(kind: type) -> bool:
    return (
        issubclass(kind, (OpenTable, list, tuple))
        or getattr(kind, "_log_type", None) in ("table", "image-file")
        or hasattr(kind, "iloc")
    )


def logged_table(value: Any) -> LoggedTable | None:
    """Return the table that a value is; None if it is another value."""
    if isinstance(value, OpenTable):
        return LoggedTable(TABLE, value, value)
    if isinstance(value, (list, tuple)):
        images = [image_of(item) for item in value] if _begins_with_image(value) else []
        if not images or None in images:
            return None
        return LoggedTable(IMAGES, _of_images(images), value)
    image = image_of(value)
    if image is not None:
        return LoggedTable(IMAGE, _of_images([image]), value)
    table = table_of(value)
    return None if table is None else LoggedTable(TABLE, table, value)


def _begins_with_image(values: list[Any] | tuple[Any, ...]) -> bool:
    return bool(values) and is_image(values[0])


def _of_images(images: list[Image | None]) -> Table:
    return Table({IMAGE_COLUMN: ImageColumn()}, [[image] for image in images])
