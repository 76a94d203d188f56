"""Pixel values of any kind to bytes, by one rule for all images of a set.

Integers are 0 to 255 as they are, bools are black and white. What floats mean is decided once for
all images that belong together, because a rule for each image alone makes a dark one look like a
bright one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wandbkeras.data_types.image_options import MODES, Scale
from wandbkeras.errors import UsageError

Array = np.ndarray[Any, Any]
# ITU-R 601, as Pillow's conversion to grey.
_GREY = np.array([19595, 38470, 7471], np.uint32)


def scale_of(arrays: Iterable[Any]) -> Scale | None:
    """Return what the floats of a set of images mean; None if there are none.

    All in 0 to 1: ``"unit"``. None below 0, some above 1: ``"byte"``. Some below 0: from −1 to 1 if
    all lie there, else from the least to the greatest. NaN and infinities say nothing.

    >>> scale_of([np.array([0.0, 1.0]), np.array([0.5])])
    'unit'
    >>> scale_of([np.array([-0.5, 0.25])]), scale_of([np.array([0.0, 200.0])])
    ((-1.0, 1.0), 'byte')
    >>> scale_of([np.array([0, 255], np.uint8)])
    """
    low, high, seen = math.inf, -math.inf, False
    for array in map(as_array, arrays):
        if array.dtype.kind != "f":
            continue
        seen = True
        finite = array if np.isfinite(array).all() else array[np.isfinite(array)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if not seen:
        return None
    if low >= 0:
        return "byte" if high > 1 else "unit"
    return (-1.0, 1.0) if low >= -1 and high <= 1 else (low, high)


@dataclass(frozen=True)
class Pixels:
    """Bytes of shape (height, width) or (height, width, 3 or 4), and what did not fit.

    ``nan`` elements became 0, ``clipped`` ones lay below 0 or above 255.
    """

    data: Array
    nan: int = 0
    clipped: int = 0


def to_bytes(array: Array, scale: Scale | None) -> Pixels:
    """Return pixels of ``array``, its floats by ``scale``: rounded, and clipped to 0 to 255."""
    if array.dtype == np.uint8:
        return Pixels(array)
    if array.dtype.kind == "b":
        return Pixels(array.astype(np.uint8) * np.uint8(255))
    if array.dtype.kind != "f":
        outside = (array < 0) | (array > 255)
        return Pixels(np.clip(array, 0, 255).astype(np.uint8), clipped=int(outside.sum()))
    values = _scaled(array, scale)
    nan = int(np.isnan(values).sum())
    if nan:
        values = np.where(np.isnan(values), 0, values)
    np.rint(values, out=values)
    clipped = int(((values < 0) | (values > 255)).sum())
    return Pixels(np.clip(values, 0, 255, out=values).astype(np.uint8), nan, clipped)


def _scaled(array: Array, scale: Scale | None) -> Array:
    # Of halves, 255 times a value is not exact enough.
    values = array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32)
    if scale == "unit":
        values *= 255
    elif isinstance(scale, tuple):
        # Halves: the difference of two doubles may be more than one holds.
        low, high = scale[0] / 2, scale[1] / 2
        if low == high:
            return np.full_like(values, 127.5)
        values = (values / 2 - low) / (high - low) * 255
    return values


def as_array(data: Any) -> Array:
    """Return an array or a backend's tensor as NumPy's; half-precision floats become float32."""
    if hasattr(data, "detach"):  # Torch, perhaps on a GPU, perhaps with a gradient
        data = data.detach().cpu()
        data = data.float() if data.is_floating_point() and data.itemsize < 4 else data
    elif hasattr(data, "numpy") and not isinstance(data, np.ndarray):
        data = data.numpy()
    array = np.asarray(data)
    # Kind V holds the small floats that NumPy itself lacks, as bfloat16.
    if array.dtype.kind == "V" and not array.dtype.names:
        array = array.astype(np.float32)
    return array


def as_image(data: Any, what: str) -> Array:
    """Return ``data`` in the shape (height, width) or (height, width, 3 or 4); UsageError if not.

    A channel of its own is dropped. A Torch tensor may have its channels first.
    """
    array = as_array(data)
    if array.dtype.kind not in "buif":
        raise UsageError(f"{what}: received an array of {array.dtype}; expected bools or numbers")
    if array.ndim == 3:
        last = array.shape[2] in (1, 3, 4)
        if array.shape[0] == 1 and not last:
            array = array[0]
        elif hasattr(data, "detach") and array.shape[0] in (1, 3, 4) and not last:
            array = np.moveaxis(array, 0, 2)
        elif array.shape[2] == 1:
            array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UsageError(
            f"{what}: received the shape {array.shape}; expected (height, width) or (height, "
            "width, channels) with 1, 3 or 4 channels"
        )
    if not array.size:
        raise UsageError(f"{what}: received the shape {array.shape}; an image has pixels")
    return array


def in_mode(data: Array, mode: str | None) -> Array:
    """Return bytes of pixels in another mode, as Pillow's ``convert`` does.

    >>> in_mode(np.array([[[255, 0, 0]]], np.uint8), "L")
    array([[76]], dtype=uint8)
    """
    given = MODES[1 if data.ndim == 2 else data.shape[2]]
    if mode in (None, given):
        return data
    if mode == "L":
        return ((data[:, :, :3] @ _GREY + (1 << 15)) >> 16).astype(np.uint8)
    colours = data[:, :, :3] if data.ndim == 3 else np.repeat(data[:, :, None], 3, axis=2)
    if mode == "RGB":
        return colours
    return np.concatenate([colours, np.full((*data.shape[:2], 1), 255, np.uint8)], axis=2)
