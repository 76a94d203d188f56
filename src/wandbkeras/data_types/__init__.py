"""Values richer than a number that a run records, as plain data.

Loaded on first use: histograms and images need NumPy, which a run of plain numbers does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandbkeras.data_types.classes import Classes
    from wandbkeras.data_types.histogram import Histogram
    from wandbkeras.data_types.image import Image, Mask
    from wandbkeras.data_types.table import Table
    from wandbkeras.data_types.table_columns import ClassColumn, ImageColumn, RowColumn, RowKey

_HOMES = {
    "ClassColumn": "table_columns",
    "Classes": "classes",
    "Histogram": "histogram",
    "Image": "image",
    "ImageColumn": "table_columns",
    "Mask": "image",
    "RowColumn": "table_columns",
    "RowKey": "table_columns",
    "Table": "table",
}

__all__ = [
    "ClassColumn",
    "Classes",
    "Histogram",
    "Image",
    "ImageColumn",
    "Mask",
    "RowColumn",
    "RowKey",
    "Table",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
