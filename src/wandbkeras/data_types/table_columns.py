"""What a column of a table holds, where that isn't to be found from its values."""

from __future__ import annotations

from typing import Any

from wandbkeras.data_types.classes import Classes
from wandbkeras.data_types.image_options import Scale, checked_mode, checked_scale
from wandbkeras.errors import UsageError

# Types of Python that name a kind of column; ``object`` is anything that JSON holds.
PLAIN_KINDS = (bool, int, float, str, object)


class ImageColumn:
    """A column of images: arrays of pixels, or :class:`wandbkeras.Image` with captions and masks.

    Args:
        mode: L, RGB or RGBA; default: by the channels.
        classes: names of the classes of their masks.
        scale: what floats mean, see :class:`wandbkeras.Image`; default: decided once for the
            column; of a table that is written batch by batch, by the first batch.
    """

    def __init__(self, mode: str | None = None, classes: Any = None, scale: Any = None) -> None:
        self.mode = checked_mode(mode, "ImageColumn")
        self.classes: Classes | None = None if classes is None else Classes(classes)
        self.scale: Scale | None = checked_scale(scale)


class ClassColumn:
    """A column of integer class ids, which W&B shows by their names."""

    def __init__(self, classes: Any) -> None:
        self.classes = Classes(classes)


class RowColumn:
    """A column of integers that are rows of another table of the run.

    ``table`` was logged before: a :class:`wandbkeras.Table`, what ``Run.open_table`` gave, wandb's
    own, or a :class:`wandbkeras.StoredTable` of an earlier attempt.
    """

    def __init__(self, table: Any) -> None:
        if table is None:
            raise UsageError("RowColumn: received None; expected a table")
        self.table = table


class RowKey(int):
    """The number of a row that knows its table: a column of them is a :class:`RowColumn`."""

    table: Any

    def __new__(cls, number: int, table: Any) -> RowKey:
        key = super().__new__(cls, number)
        key.table = table
        return key


def checked_kind(kind: Any, name: str) -> Any:
    """Return the kind of column ``name``, None if it is to be found; UsageError if it is none."""
    if kind is None or kind in PLAIN_KINDS or isinstance(kind, (ImageColumn, ClassColumn)):
        return kind
    if isinstance(kind, RowColumn):
        return kind
    if kind is ImageColumn:
        return ImageColumn()
    raise UsageError(
        f"column {name!r}: received the kind {kind!r:.80}; expected int, float, bool, str, object, "
        "an ImageColumn, a ClassColumn or a RowColumn"
    )
