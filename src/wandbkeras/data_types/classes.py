"""The names of classes, by their integer ids."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from wandbkeras.errors import UsageError


class Classes:
    """Class ids and their names, as ``wandb.Classes``.

    Args:
        classes: names by id, names in the order of their ids from 0, or wandb's list of mappings
            with ``id`` and ``name``.

    >>> Classes(["cat", "dog"]).labels
    {0: 'cat', 1: 'dog'}
    >>> Classes([{"id": 7, "name": "road"}]).labels
    {7: 'road'}
    """

    def __init__(self, classes: Classes | Mapping[int, str] | Iterable[Any]) -> None:
        self.labels: dict[int, str] = _labels(classes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Classes) and list(self.labels.items()) == list(
            other.labels.items()
        )

    def __hash__(self) -> int:
        return hash(tuple(self.labels.items()))

    def __repr__(self) -> str:
        return f"Classes({self.labels!r})"


def classes_of(classes: Any) -> Classes | None:
    """Return what makes classes as such; None stays None."""
    return classes if classes is None or isinstance(classes, Classes) else Classes(classes)


def _labels(classes: Any) -> dict[int, str]:
    if isinstance(classes, Classes):
        return dict(classes.labels)
    classes = getattr(classes, "_class_set", classes)  # wandb.Classes
    if isinstance(classes, Mapping):
        pairs = list(classes.items())
    elif isinstance(classes, str) or not isinstance(classes, Iterable):
        raise UsageError(f"Classes: received {classes!r:.80}; expected names by id, or names")
    else:
        pairs = [_pair(number, item) for number, item in enumerate(classes)]
    labels = {_id(number): _name(name) for number, name in pairs}
    if len(labels) != len(pairs):
        raise UsageError("Classes: received an id twice")
    return labels


def _pair(number: int, item: Any) -> tuple[Any, Any]:
    if not isinstance(item, Mapping):
        return number, item
    try:
        return item["id"], item["name"]
    except KeyError as error:
        raise UsageError(f"Classes: received {item!r:.80}; expected an id and a name") from error


def _id(number: Any) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise UsageError(f"Classes: received the id {number!r:.80}; expected an integer") from None


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise UsageError(f"Classes: received the name {name!r:.80}; expected a string")
    return name
