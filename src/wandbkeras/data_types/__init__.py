"""Values richer than a number that a run records, as plain data."""

from wandbkeras.data_types.classes import Classes
from wandbkeras.data_types.histogram import Histogram
from wandbkeras.data_types.image import Image, Mask
from wandbkeras.data_types.table import Table
from wandbkeras.data_types.table_columns import ClassColumn, ImageColumn, RowColumn, RowKey

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
