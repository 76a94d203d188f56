"""Names of classes: what they may be, if they fit a model's outputs, and captions made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wandbkeras.data_types.pixels import Array
from wandbkeras.errors import UsageError

_TWO = 2  # the names of a single number: of false and of true


def checked_labels(labels: Any) -> tuple[str, ...]:
    """Return the names of the classes, by class number; UsageError if they are no list of names."""
    if labels is None:
        return ()
    if isinstance(labels, (str, bytes, Mapping)) or not isinstance(labels, Iterable):
        raise UsageError(f"labels: received {labels!r}; expected a list of names, one a class")
    return tuple(str(label) for label in labels)


def misfit(labels: Sequence[str], outputs: Mapping[str, Sequence[int | None]]) -> str | None:
    """Return, for people, why the labels fit none of the outputs; None if they fit one.

    ``outputs`` are shapes, the first number being the rows. Labels fit as many classes as they are;
    two fit a single number, a probability, as well.

    >>> misfit(["cat", "dog", "owl"], {"out": (None, 10)})
    "labels: received 3 names; the model's outputs have the shapes {'out': (None, 10)}"
    >>> misfit(["no", "yes"], {"out": (None, 1)})
    """
    if not labels or not outputs:
        return None
    for shape in outputs.values():
        size = shape[-1] if len(shape) > 1 else 1
        if size is None or size == len(labels) or (size == 1 and len(labels) == _TWO):
            return None
    shapes = {name: tuple(shape) for name, shape in outputs.items()}
    return f"labels: received {len(labels)} names; the model's outputs have the shapes {shapes}"


def captions(
    values: Mapping[str, Array], labels: Sequence[str], thresholds: Mapping[str, float]
) -> list[str]:
    """Return a caption for each row: what its values say, after the slot's name if there are more.

    Args:
        values: of each slot numbers, ``(rows,)`` or ``(rows, 1)``, or scores, ``(rows, classes)``.
        labels: the names of the classes.
        thresholds: above which a slot's single number means true; 0.5 if it is not given.

    >>> captions({"output": np.array([[0.2], [0.9]])}, ["no", "yes"], {})
    ['no', 'yes']
    >>> captions({"a": np.array([[0.2, 0.8]]), "b": np.array([3.25])}, ["no", "yes", "?"], {})
    ['a: yes, b: 3.25']
    """
    slots = {
        name: _slot_captions(name, array, labels, thresholds.get(name, 0.5))
        for name, array in values.items()
    }
    if len(slots) == 1:
        return next(iter(slots.values()))
    return [
        ", ".join(f"{name}: {text}" for name, text in zip(slots, texts, strict=True))
        for texts in zip(*slots.values(), strict=True)
    ]


def _slot_captions(name: str, array: Array, labels: Sequence[str], threshold: float) -> list[str]:
    rows = array.reshape(len(array), -1)
    if array.ndim > 1 and array.shape[-1] != rows.shape[1]:
        raise UsageError(
            f"{name}: received shape {array.shape}; expected (rows,) or (rows, classes) for a label"
        )
    if rows.shape[1] > 1:
        best = rows.argmax(axis=1).tolist()
        finite = [bool(np.isfinite(row).all()) for row in rows]
        return [_label(i, labels) if ok else "nan" for i, ok in zip(best, finite, strict=True)]
    numbers = rows[:, 0].tolist()
    if array.dtype.kind in "biu":
        return [_label(int(number), labels) for number in numbers]
    if len(labels) == _TWO:
        # NaN is neither true nor false.
        return [labels[number > threshold] if number == number else "nan" for number in numbers]
    return [f"{number:.4g}" for number in numbers]


def _label(number: int, labels: Sequence[str]) -> str:
    return labels[number] if 0 <= number < len(labels) else str(number)
