"""A column of images as Arrow arrays: files, captions and masks, and how they were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from wandbkeras.data_types import Image, ImageColumn
from wandbkeras.data_types.image import Encoded, encode_pixels, is_file
from wandbkeras.data_types.image_options import Scale
from wandbkeras.data_types.pixels import Array, as_image, scale_of
from wandbkeras.errors import UsageError
from wandbkeras.recording.values import checked_text
from wandbkeras.store.table_schema import IMAGE_TYPE, MaskColumn, TableColumn

Part = tuple[pa.Field, pa.Array]


class ImageCells:
    """A column of images; ``first`` are its first values, ``free_name`` finds names beside it.

    The masks that the first images have are those of the column. How floats become pixels is
    decided by the first values that hold any.
    """

    def __init__(
        self,
        name: str,
        kind: ImageColumn,
        first: Sequence[Any],
        free_name: Callable[[str], str],
        optional: bool,
    ) -> None:
        self._name = name
        self._mode = kind.mode
        self._optional = optional
        self._scale = kind.scale
        self._used: set[Scale] = set()
        self._nan = self._clipped = 0
        self._classes = {} if kind.classes is None else dict(kind.classes.labels)
        masks = dict.fromkeys(mask for image in _images(first) for mask in image.masks)
        self._masks = {mask: free_name(f"{name}.masks.{mask}") for mask in masks}
        self._labels: dict[str, dict[int, str]] = {mask: {} for mask in masks}
        self._caption = free_name(f"{name}.caption")
        self._decide(first)

    @property
    def column(self) -> TableColumn:
        return TableColumn(
            self._name,
            "image",
            self._optional,
            caption=self._caption,
            masks=tuple(
                MaskColumn(mask, column, tuple(self._labels[mask].items()))
                for mask, column in self._masks.items()
            ),
            labels=tuple(self._classes.items()),
            scale=next(iter(self._used), None) if len(self._used) < 2 else "various",
            nan=self._nan,
            clipped=self._clipped,
        )

    def parts(self, values: Sequence[Any]) -> list[Part]:
        if not isinstance(values, np.ndarray):
            values = [Image(value) if is_file(value) else value for value in values]
        if self._scale is None:
            self._decide(values)
        images = [value if isinstance(value, Image) else None for value in values]
        for image in _images(values):
            self._note(image)
        captions = [None if i is None or i.caption is None else i.caption for i in images]
        return [
            _files(self._name, [self._encoded(value) for value in values]),
            (pa.field(self._caption, pa.string()), pa.array(captions, pa.string())),
            *(
                _files(column, [_mask(image, mask) for image in images])
                for mask, column in self._masks.items()
            ),
        ]

    def _decide(self, values: Sequence[Any]) -> None:
        """Decide how floats become pixels, if there are any that don't say so themselves."""
        if self._scale is None:
            arrays = [values] if isinstance(values, np.ndarray) else map(_undecided, values)
            self._scale = scale_of(array for array in arrays if array is not None)

    def _note(self, image: Image) -> None:
        """Take the names of an image's classes; a mask that the column lacks is a UsageError."""
        checked_text(image.caption or "", f"column {self._name!r}: a caption")
        if image.classes is not None:
            self._classes |= image.classes.labels
        for name, mask in image.masks.items():
            if name not in self._labels:
                raise UsageError(
                    f"column {self._name!r}: received a mask {name!r:.80}; the first images have "
                    f"the masks {list(self._masks)}, and so has the column"
                )
            self._labels[name] |= mask.labels

    def _encoded(self, value: Any) -> Encoded | None:
        if value is None:
            return None
        if not isinstance(value, Image):
            return self._of_pixels(as_image(value, f"column {self._name!r}"), None, self._mode)
        if value.pixels is None:
            return value.encode()
        return self._of_pixels(value.pixels, value.scale, value.mode or self._mode)

    def _of_pixels(self, pixels: Array, scale: Scale | None, mode: str | None) -> Encoded:
        scale = scale or self._scale
        if pixels.dtype.kind == "f" and scale is not None:
            self._used.add(scale)
        encoded = encode_pixels(pixels, scale, mode)
        self._nan += encoded.nan
        self._clipped += encoded.clipped
        return encoded


def _images(values: Sequence[Any]) -> list[Image]:
    if isinstance(values, np.ndarray):
        return []
    return [value for value in values if isinstance(value, Image)]


def _undecided(value: Any) -> Any:
    """Return the pixels of a value that does not say what its floats mean."""
    if isinstance(value, Image):
        return value.pixels if value.scale is None else None
    return None if is_file(value) else value


def _mask(image: Image | None, name: str) -> Encoded | None:
    mask = None if image is None else image.masks.get(name)
    return None if mask is None else mask.encode()


def _files(name: str, files: Sequence[Encoded | None]) -> Part:
    """Return files as the `datasets` package keeps them: their bytes, and the name of each."""
    contents = pa.array([None if file is None else file.data for file in files], pa.binary())
    names = pa.array([None if file is None else file.name for file in files], pa.string())
    missing = pa.array([file is None for file in files], pa.bool_())
    fields = list(IMAGE_TYPE)
    array = pa.StructArray.from_arrays([contents, names], fields=fields, mask=missing)
    return pa.field(name, IMAGE_TYPE), array
