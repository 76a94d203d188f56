"""Class labels, however they are given."""

from __future__ import annotations

from typing import Any

import pytest
import wandb

from wandbkeras import Classes
from wandbkeras.errors import UsageError

LABELS = {3: "road", 0: "car"}


@pytest.mark.parametrize(
    "given",
    [
        LABELS,
        [{"id": 3, "name": "road"}, {"id": 0, "name": "car"}],
        wandb.Classes([{"id": 3, "name": "road"}, {"id": 0, "name": "car"}]),
        Classes(LABELS),
    ],
)
def test_labels_by_id_keep_their_order(given: Any) -> None:
    """A dict, wandb's list, wandb's object and our own are the same classes."""
    assert list(Classes(given).labels.items()) == [(3, "road"), (0, "car")]
    assert Classes(given) == Classes(LABELS)


def test_names_have_their_place_as_id() -> None:
    """A list of names counts from 0."""
    assert Classes(["cat", "dog"]) == Classes({0: "cat", 1: "dog"}) != Classes({1: "dog", 0: "cat"})
    assert len({Classes(["cat"]), Classes({0: "cat"})}) == 1


@pytest.mark.parametrize(
    "given",
    ["cat", 3, [1], {"a": "b"}, {0: 1}, [{"id": 0}], [{"id": 0, "name": "a"}] * 2, {0.5: "a"}],
)
def test_what_names_no_classes_is_refused(given: Any) -> None:
    """The line says what was received."""
    with pytest.raises(UsageError, match="Classes: received"):
        Classes(given)
