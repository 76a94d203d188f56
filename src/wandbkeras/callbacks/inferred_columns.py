"""Columns that an evaluation table gets from the shapes of its data, as in wandb's callback.

What is inferred from one row, without the rows' number:

===================================  ==========================================================
shape                                columns ``<slot>:…``
===================================  ==========================================================
``(classes,)``, there are labels     ``max_class``; ``score`` unless it is one-hot
``(1,)`` of integers, or ``()``      ``class`` with labels, else ``val`` (of ``(1,)``)
``(n,)``                             ``node`` up to ten; ``argmax``; ``argmin`` unless one-hot
``(h, w)``, ``(h, w, channels)``     ``image``; with labels, over an image, a mask
``(frames, h, w, channels)``         ``video``, as an animated PNG file
===================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wandbkeras.callbacks.animation import encode_apng
from wandbkeras.callbacks.mask_colors import class_numbers
from wandbkeras.callbacks.pictures import CHANNELS
from wandbkeras.data_types import ClassColumn, Classes, Image, ImageColumn
from wandbkeras.data_types.pixels import Array, scale_of, to_bytes

_FEW = 10  # numbers that are worth a column of their own
_NO_CLASS = 255  # of a pixel whose values are no class: a label without a name


@dataclass(frozen=True)
class InferredColumn:
    """A column that is computed from a slot.

    Attributes:
        slot: the slot's name.
        name: ``<slot>:<what>``.
        kind: of the column, as a table takes it.
        values: makes the column of the slot's values and of the inputs, both of the same rows.
    """

    slot: str
    name: str
    kind: Any
    values: Callable[[Array, Mapping[str, Array]], Any]


def inferred_columns(
    slot: str, values: Array, labels: Sequence[str] = (), inputs: Mapping[str, Array] | None = None
) -> list[InferredColumn]:
    """Return the columns that the first rows of a slot suggest.

    Args:
        slot: the slot's name.
        values: some rows of it; what depends on values is decided by the first.
        labels: the names of the classes, if the slot may be about classes.
        inputs: the inputs of the same rows, if the slot may be a mask of one of them.
    """
    shape = values.shape[1:]
    found: _Found = []
    if values.dtype.kind not in "biuf":
        return []  # texts
    if len(shape) == 1 and labels and shape[0] == len(labels):
        found = _of_scores(values, labels)
    elif values.dtype.kind in "biu" and shape in ((), (1,)):
        found = _of_classes(shape, labels)
    elif len(shape) == 1:
        found = _of_vectors(values)
    elif len(shape) in (2, 3):
        found = _of_pictures(values, labels, inputs or {})
    elif len(shape) == 4:
        found = _of_videos(values)
    return [
        InferredColumn(slot, f"{slot}:{name}", kind, function) for name, kind, function in found
    ]


_Found = list[tuple[str, Any, Callable[[Array, Mapping[str, Array]], Any]]]


def _of_scores(values: Array, labels: Sequence[str]) -> _Found:
    found: _Found = [("max_class", ClassColumn(Classes(labels)), lambda v, _: v.argmax(axis=1))]
    if not _is_one_hot(values[0]):
        found.append(
            (
                "score",
                object,
                lambda v, _: [dict(zip(labels, row, strict=True)) for row in v.tolist()],
            )
        )
    return found


def _of_classes(shape: tuple[int, ...], labels: Sequence[str]) -> _Found:
    if labels:
        return [("class", ClassColumn(Classes(labels)), lambda v, _: v.reshape(-1))]
    return [("val", None, lambda v, _: v.reshape(-1))] if shape else []


def _of_vectors(values: Array) -> _Found:
    found: _Found = [("node", None, lambda v, _: v)] if values.shape[1] <= _FEW else []
    found.append(("argmax", int, lambda v, _: v.argmax(axis=1)))
    if not _is_one_hot(values[0]):
        found.append(("argmin", int, lambda v, _: v.argmin(axis=1)))
    return found


def _of_pictures(values: Array, labels: Sequence[str], inputs: Mapping[str, Array]) -> _Found:
    base = _base_of_mask(values, labels, inputs)
    if base is not None:
        classes = Classes(labels)
        return [
            ("image", ImageColumn(classes=classes), lambda v, i: _overlays(i[base], v, classes))
        ]
    if values.ndim == 4 and values.shape[-1] not in CHANNELS:
        return []
    return [("image", ImageColumn(), lambda v, _: v)]


def _of_videos(values: Array) -> _Found:
    channels_last = values.shape[-1] in CHANNELS
    if not channels_last and values.shape[2] not in CHANNELS:  # where wandb's videos have them
        return []
    scale = scale_of([values])

    def videos(values: Array, inputs: Mapping[str, Array]) -> list[Image]:
        frames = values if channels_last else np.moveaxis(values, 2, -1)
        return [Image(encode_apng(to_bytes(video, scale).data)) for video in frames]

    return [("video", ImageColumn(), videos)]


def _base_of_mask(masks: Array, labels: Sequence[str], inputs: Mapping[str, Array]) -> str | None:
    """Return the input that these are masks of: an image of their size, if there are labels."""
    has_classes = masks.ndim == 3 or masks.shape[-1] in (1, len(labels))
    if not labels or not has_classes:
        return None
    for name, images in inputs.items():
        is_image = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in CHANNELS)
        if is_image and images.shape[1:3] == masks.shape[1:3]:
            return name
    return None


def _overlays(images: Array, masks: Array, classes: Classes) -> list[Image]:
    numbers = class_numbers(masks)
    numbers = np.where(numbers < 0, _NO_CLASS, numbers)
    return [
        Image(image, masks={"masks": {"mask_data": mask, "class_labels": classes}})
        for image, mask in zip(images, numbers, strict=True)
    ]


def _is_one_hot(example: Array) -> bool:
    return set(np.unique(example).tolist()) == {0, 1}
