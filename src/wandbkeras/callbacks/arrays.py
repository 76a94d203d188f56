"""Nested arrays, of any backend: their leaves, rows and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from wandbkeras.data_types.pixels import as_array
from wandbkeras.errors import UsageError


def map_leaves(function: Callable[..., Any], *structures: Any) -> Any:
    """Return a structure of what ``function`` makes of equally placed leaves; None stays None."""
    return keras.tree.map_structure(
        lambda *values: None if values[0] is None else function(*values), *structures
    )


def leaves(structure: Any) -> list[Any]:
    """Return the leaves of the structure that are not None."""
    return [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]


def row_count(structure: Any, what: str) -> int:
    """Return how many rows all leaves have; UsageError, naming ``what``, if they don't agree."""
    counts = {int(leaf.shape[0]) if len(leaf.shape) else 0 for leaf in leaves(structure)}
    if len(counts) != 1 or 0 in counts:
        shapes = [tuple(leaf.shape) for leaf in leaves(structure)]
        raise UsageError(f"{what}: received shapes {shapes}; expected the same number of rows")
    return counts.pop()


def sliceable(structure: Any) -> Any:
    """Return the structure with leaves that have a shape and slices; nested lists become arrays.

    Raises:
        TypeError: a leaf is no array.
    """
    if structure is None or (hasattr(structure, "shape") and not hasattr(structure, "iloc")):
        return structure
    if isinstance(structure, Mapping):
        return {name: sliceable(value) for name, value in structure.items()}
    if isinstance(structure, (list, tuple)) and any(
        hasattr(value, "shape") or isinstance(value, Mapping) for value in structure
    ):
        return type(structure)(sliceable(value) for value in structure)
    array = as_array(structure)
    if not array.ndim:
        raise TypeError("no array")
    return array


def named_slots(structure: Any, single: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return the leaves by name: those of a dict, ``names`` for a list, ``single`` for one leaf.

    Where a list has not as many leaves as there are names, they are numbered.

    >>> named_slots([1, 2], "input")
    {'input_0': 1, 'input_1': 2}
    >>> named_slots({"left": 1, "right": {"a": 2}}, "input")
    {'left': 1, 'right.a': 2}
    """
    if structure is None:
        return {}
    if isinstance(structure, Mapping):
        return {
            name if key == "" else f"{name}.{key}": leaf
            for name, value in structure.items()
            for key, leaf in named_slots(value, "").items()
        }
    if not isinstance(structure, (list, tuple)):
        return {single: structure}
    flat = keras.tree.flatten(list(structure))
    if len(flat) == 1:
        names = [single]
    elif len(flat) != len(names):
        names = [f"{single}_{i}" if single else str(i) for i in range(len(flat))]
    return {name: leaf for name, leaf in zip(names, flat, strict=True) if leaf is not None}
