"""Names of classes and the captions that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wandbkeras.callbacks.labels import captions, checked_labels, misfit
from wandbkeras.errors import UsageError

ANIMALS = ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ([[0.2], [0.9], [0.5]], ("no", "yes"), ["no", "yes", "no"]),
        ([0.2, 0.9], ("no", "yes"), ["no", "yes"]),
        ([[0.25], [np.nan], [1234567.0]], (), ["0.25", "nan", "1.235e+06"]),
        ([[0.25], [np.nan]], ("no", "yes"), ["no", "nan"]),
        ([[0.1, 0.7, 0.2], [0.9, 0.1, 0.0]], ANIMALS, ["dog", "cat"]),
        ([[0.1, 0.7, 0.2], [np.nan, 0.1, 0.0]], (), ["1", "nan"]),
        ([[0.1, 0.2, 0.3, 0.4]], ANIMALS, ["3"]),
        (np.array([2, 0, 7]), ANIMALS, ["owl", "cat", "7"]),
        (np.array([[1], [0]]), ("no", "yes"), ["yes", "no"]),
        (np.zeros((2, 1, 1, 3)), ANIMALS, ["cat", "cat"]),
    ],
)
def test_a_caption_says_what_its_own_row_is(values: Any, labels: Any, expected: list[str]) -> None:
    """Numbers above the threshold, the greatest score, class numbers; NaN is no class."""
    assert captions({"output": np.asarray(values)}, labels, {}) == expected


def test_several_outputs_are_named() -> None:
    """The caption of a model with two heads has both, each by its own rule."""
    heads = {"animal": np.array([[0.1, 0.9, 0.0]]), "age": np.array([[2.5]])}
    assert captions(heads, ANIMALS, {}) == ["animal: dog, age: 2.5"]


def test_logits_are_compared_with_zero() -> None:
    """An output that is no probability has a threshold of its own."""
    assert captions({"out": np.array([[0.2], [-3.0]])}, ("no", "yes"), {"out": 0.0}) == [
        "yes",
        "no",
    ]


def test_an_image_is_no_label() -> None:
    """Values that are neither numbers nor scores are refused with their shape."""
    with pytest.raises(UsageError, match=r"out: received shape \(2, 4, 3\); expected \(rows,\) or"):
        captions({"out": np.zeros((2, 4, 3))}, (), {})


@pytest.mark.parametrize(
    ("labels", "shapes", "fits"),
    [
        ((), {"output": (None, 7)}, True),
        (ANIMALS, {"output": (None, 3)}, True),
        (ANIMALS, {"output": (None, 4)}, False),
        (ANIMALS, {"output": (None, 1)}, False),
        (("no", "yes"), {"output": (None, 1)}, True),
        (("no", "yes"), {"output": (None,)}, True),
        (ANIMALS, {"a": (None, 4), "b": (None, 3)}, True),
        (ANIMALS, {"mask": (None, 8, 8, 3)}, True),
        (ANIMALS, {"output": (None, None)}, True),
        (ANIMALS, {}, True),
    ],
)
def test_labels_fit_an_output_of_their_number(labels: Any, shapes: Any, fits: bool) -> None:
    """Two also fit a single number; where the model does not know, nothing is said."""
    problem = misfit(labels, shapes)
    assert (problem is None) is fits
    assert fits or "received 3 names" in str(problem)


@pytest.mark.parametrize("labels", ["cat", 3, {"cat": 1}])
def test_labels_are_a_list(labels: Any) -> None:
    """What is no list of names is refused."""
    with pytest.raises(UsageError, match=r"labels: received .*; expected a list of names"):
        checked_labels(labels)
