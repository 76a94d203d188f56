"""Colours of segmentation masks: the same for predicted scores and for maps of class numbers."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from wandbkeras.data_types.pixels import Array
from wandbkeras.errors import UsageError

_OUTSIDE = (128, 128, 128)  # of class numbers that have no colour, such as 255 for "ignore"


def palette(classes: int) -> Array:
    """Return a colour for each class: black, then equally spaced hues, as wandb's callback.

    >>> palette(3).tolist()
    [[0, 0, 0], [255, 0, 0], [0, 255, 255]]
    """
    hues = [colorsys.hsv_to_rgb(i / (classes - 1), 1.0, 1.0) for i in range(classes - 1)]
    return _bytes([(0.0, 0.0, 0.0), *hues])


def checked_colors(colors: Any) -> Array | None:
    """Return the user's colours as bytes ``(classes, 3)``; UsageError if they are none."""
    if colors is None:
        return None
    try:
        array = np.asarray(colors, dtype=np.float64)
    except (ValueError, TypeError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 3 or not ((array >= 0) & (array <= 1)).all():
        raise UsageError(
            f"class_colors: received {colors!r}; expected red, green and blue between 0 and 1 for "
            "each class"
        )
    return _bytes(array)


def class_numbers(masks: Array) -> Array:
    """Return the class of each pixel, ``(rows, height, width)``, of scores or of class numbers.

    One channel of probabilities is taken for two classes; NaN is −1, no class.

    >>> class_numbers(np.array([[[[0.1, 0.9], [0.8, 0.2]]]])).tolist()
    [[[1, 0]]]
    """
    if masks.ndim == 4 and masks.shape[-1] > 1:
        return np.asarray(np.argmax(masks, axis=-1))
    numbers = masks[..., 0] if masks.ndim == 4 else masks
    return np.asarray(np.rint(np.nan_to_num(numbers, nan=-1)), dtype=np.int64)


def colored(numbers: Array, colors: Array) -> Array:
    """Return the pixels ``(…, 3)`` of class numbers; those without a colour are grey."""
    known = (numbers >= 0) & (numbers < len(colors))
    return np.where(known[..., None], colors[np.where(known, numbers, 0)], _OUTSIDE).astype(
        np.uint8
    )


def _bytes(colors: Any) -> Array:
    return np.rint(np.asarray(colors, dtype=np.float64) * 255).astype(np.uint8)
