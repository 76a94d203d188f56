"""What a model's inputs and outputs look like: kinds of data, pictures, and which go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from wandbkeras.callbacks.mask_colors import class_numbers, colored, palette
from wandbkeras.data_types import Image
from wandbkeras.data_types.pixels import Array, scale_of
from wandbkeras.errors import UsageError

PICTURES = ("image", "images", "segmentation_mask")
KINDS = (*PICTURES, "label", "auto")
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def guessed_kind(shapes: Mapping[str, Sequence[int]], *, risky: bool) -> str | None:
    """Return the kind of the first slot whose shape tells it: a picture before a label.

    Shapes begin with the rows. With ``risky``, ``(rows, height, width)`` is an image, as wandb's
    callback took it for inputs; it may be a sequence of vectors.

    >>> guessed_kind({"input": (8, 28, 28)}, risky=True)
    'image'
    >>> guessed_kind({"a": (8, 5), "b": (8, 32, 32, 21)}, risky=False)
    'segmentation_mask'
    """
    kinds = [_kind_of(shape, risky) for shape in shapes.values()]
    pictures = [kind for kind in kinds if kind in PICTURES]
    return next(iter([*pictures, *filter(None, kinds)]), None)


def _kind_of(shape: Sequence[int], risky: bool) -> str | None:
    if len(shape) <= 2:
        return "label"
    if len(shape) == 3:
        return "image" if risky else None
    if len(shape) == 4:
        is_image = shape[-1] in CHANNELS or _begins_with_channels(shape)
        return "image" if is_image else "segmentation_mask"
    return None


@dataclass(frozen=True)
class Look:
    """How the pictures of one slot are drawn, decided once for all that are compared.

    Attributes:
        slot: the slot's name.
        kind: one of :data:`PICTURES`.
        colors: of the classes of a mask, ``(classes, 3)`` bytes; None for what has its own values.
        scale: how values become pixels: see :class:`wandbkeras.Image`.
    """

    slot: str
    kind: str
    colors: Array | None = None
    scale: Any = None

    def images(self, values: Array, captions: Sequence[str | None] | None = None) -> list[Image]:
        """Return the picture of each row."""
        captions = captions or [None] * len(values)
        return [
            Image(pixels, caption=caption, scale=self.scale)
            for pixels, caption in zip(self._pixels(values), captions, strict=True)
        ]

    def _pixels(self, values: Array) -> Array:
        pictures = _channels_last(self.slot, values, self.kind)
        if self.colors is None:
            is_mask = self.kind == "segmentation_mask"  # whose 0 and 1 may be integers
            return pictures.astype(np.float32) if is_mask else pictures
        return colored(class_numbers(pictures), self.colors)


def look_of(
    slots: Mapping[str, Array],
    kind: str,
    colors: Array | None = None,
    classes: int = 0,
    references: Mapping[str, Array] | None = None,
) -> Look:
    """Return the look of the first slot that can be a picture.

    Args:
        slots: the values of each slot.
        kind: one of :data:`PICTURES`.
        colors: the user's, for masks; default: :func:`palette`.
        classes: how many classes a map of class numbers has at least.
        references: what the slots should be, and whose values decide how they become pixels.

    Raises:
        UsageError: no slot has the shape of a picture.
    """
    for slot, values in slots.items():
        if values.ndim in (3, 4):
            pictures = _channels_last(slot, values, kind)
            if kind == "segmentation_mask":
                colors = _mask_colors(slot, pictures, colors, classes)
                return Look(slot, kind, colors, "unit" if colors is None else None)
            return Look(slot, kind, scale=_scale((references or slots).get(slot, values)))
    shapes = {slot: values.shape for slot, values in slots.items()}
    raise UsageError(
        f"{kind!r}: received shapes {shapes}; expected (rows, height, width) or (rows, height, "
        "width, channels)"
    )


def _scale(values: Array) -> Any:
    """Return what floats mean beside these values; those beside integers are 0 to 255 as well."""
    return "unit" if values.dtype == bool else scale_of([values]) or "byte"


def _mask_colors(slot: str, masks: Array, colors: Array | None, classes: int) -> Array | None:
    """Return colours for scores of several classes and maps of class numbers, not for greys."""
    if masks.ndim == 4 and masks.shape[-1] > 1:
        classes = masks.shape[-1]
        if colors is not None and len(colors) < classes:
            raise UsageError(
                f"class_colors: received {len(colors)} colours; {slot} has {classes} classes"
            )
        return palette(classes) if colors is None else colors
    if colors is not None:
        return colors
    if _is_probability(masks):
        return None
    return palette(max(classes, int(class_numbers(masks).max()) + 1))


def _is_probability(masks: Array) -> bool:
    """Whether these are masks of one channel with values that are no class numbers."""
    if masks.dtype.kind != "f" or (masks.ndim == 4 and masks.shape[-1] > 1):
        return False
    return bool((masks != np.rint(masks)).any() or (masks <= 1).all())


def _channels_last(slot: str, values: Array, kind: str) -> Array:
    """Return pictures with their channels last, if they have any.

    Channels come first where Keras is set so, or where only the first number can be one of an
    image.
    """
    if values.ndim == 4 and values.shape[-1] != 1:
        is_image = kind != "segmentation_mask"
        first = keras.config.image_data_format() == "channels_first"
        if first or (is_image and _begins_with_channels(values.shape)):
            values = np.moveaxis(values, 1, -1)
        if is_image and values.shape[-1] not in CHANNELS:
            raise UsageError(
                f"{slot}: received images with {values.shape[-1]} channels; expected 1, 3 or 4"
            )
    return values


def _begins_with_channels(shape: Sequence[int]) -> bool:
    return shape[-1] not in CHANNELS and shape[1] in CHANNELS
