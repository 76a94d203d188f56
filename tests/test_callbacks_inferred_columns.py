"""Columns inferred from shapes: the names that wandb's callback gave them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wandbkeras.callbacks.animation import encode_apng
from wandbkeras.callbacks.inferred_columns import inferred_columns
from wandbkeras.data_types import ClassColumn, Image, ImageColumn

TEN = [f"class {i}" for i in range(10)]
SCORES = np.random.default_rng(7).random((4, 10))
INTEGERS = np.array([[3], [0], [9], [12]])
PHOTO = np.random.default_rng(7).random((4, 6, 5, 3))


def columns(values: Any, labels: Any = (), **inputs: Any) -> dict[str, tuple[Any, Any]]:
    """Return the kind and the values of each column, by name."""
    return {
        column.name: (column.kind, column.values(values, inputs))
        for column in inferred_columns("slot", values, labels, inputs)
    }


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        (SCORES, TEN, ["max_class", "score"]),
        (np.eye(10)[:4], TEN, ["max_class"]),
        (SCORES, (), ["node", "argmax", "argmin"]),
        (np.eye(10)[:4], (), ["node", "argmax"]),
        (SCORES, TEN[:3], ["node", "argmax", "argmin"]),
        (np.ones((4, 11)), (), ["argmax", "argmin"]),
        (INTEGERS, TEN, ["class"]),
        (INTEGERS, (), ["val"]),
        (INTEGERS.astype(float), (), ["node", "argmax", "argmin"]),
        (INTEGERS[:, 0], TEN, ["class"]),
        (INTEGERS[:, 0], (), []),
        (SCORES[:, 0], TEN, []),
        (np.array([["a"], ["b"]]), (), []),
        (PHOTO[..., 0], (), ["image"]),
        (PHOTO, (), ["image"]),
        (PHOTO[..., :2], (), []),
        (np.zeros((4, 2, 6, 5, 3)), (), ["video"]),
        (np.zeros((4, 2, 3, 6, 5)), (), ["video"]),
        (np.zeros((4, 2, 6, 5, 2)), (), []),
        (np.zeros((4, 2, 2, 6, 5, 3)), (), []),
    ],
)
def test_a_shape_has_the_columns_of_wandb(values: Any, labels: Any, names: list[str]) -> None:
    """The same names for the same shapes; integers without an axis of their own are classes too."""
    assert list(columns(values, labels)) == [f"slot:{name}" for name in names]


def test_scores_are_linked_to_their_labels() -> None:
    """The best class is a class, the scores are by name."""
    found = columns(SCORES, TEN)
    kind, values = found["slot:max_class"]
    assert isinstance(kind, ClassColumn)
    assert kind.classes.labels == dict(enumerate(TEN))
    np.testing.assert_array_equal(values, SCORES.argmax(1))
    assert found["slot:score"][1][2] == dict(zip(TEN, SCORES[2], strict=True))


def test_integers_are_classes_or_values() -> None:
    """Each row's number; what kind of number, the labels say."""
    for values in (INTEGERS, INTEGERS[:, 0]):
        kind, found = columns(values, TEN)["slot:class"]
        assert isinstance(kind, ClassColumn)
        np.testing.assert_array_equal(found, [3, 0, 9, 12])
    assert columns(INTEGERS)["slot:val"][1].tolist() == [3, 0, 9, 12]


def test_vectors_are_fanned_out() -> None:
    """Up to ten numbers themselves, and where the greatest and the least is."""
    found = columns(SCORES)
    np.testing.assert_array_equal(found["slot:node"][1], SCORES)
    np.testing.assert_array_equal(found["slot:argmax"][1], SCORES.argmax(1))
    np.testing.assert_array_equal(found["slot:argmin"][1], SCORES.argmin(1))


@pytest.mark.parametrize(
    "masks",
    [
        np.arange(120).reshape(4, 6, 5) % 3,
        (np.arange(120).reshape(4, 6, 5, 1) % 3).astype(np.float32),
        np.eye(3)[np.arange(120).reshape(4, 6, 5) % 3],
    ],
)
@pytest.mark.parametrize("base", [PHOTO, PHOTO[..., 0]])
def test_a_mask_lies_over_its_image(masks: Any, base: Any) -> None:
    """Class numbers or scores of the size of an input, with labels, are an overlay with names."""
    found = columns(masks, ["a", "b", "c"], other=np.ones((4, 3)), photo=base)
    kind, images = found["slot:image"]
    assert isinstance(kind, ImageColumn)
    assert all(isinstance(image, Image) for image in images)
    np.testing.assert_array_equal(images[1].pixels, base[1])
    mask = images[1].masks["masks"]
    np.testing.assert_array_equal(mask.data, np.arange(30, 60).reshape(6, 5) % 3)
    assert mask.labels == {0: "a", 1: "b", 2: "c"}


def test_a_pixel_that_is_no_class_has_a_label_without_a_name() -> None:
    """NaN in a predicted mask fails nothing."""
    masks = np.full((4, 6, 5), np.nan)
    images = columns(masks, ["a", "b"], photo=PHOTO)["slot:image"][1]
    assert set(images[0].masks["masks"].data.ravel().tolist()) == {255}


def test_a_video_is_an_animated_image() -> None:
    """Floats become pixels by one rule for all; channels may come before height and width."""
    videos = np.zeros((4, 2, 6, 5, 3), np.float32)
    videos[0, 1, 0, 0] = 1
    expected = encode_apng((videos[0] * 255).astype(np.uint8))
    for values in (videos, np.moveaxis(videos, -1, 2)):
        assert columns(values)["slot:video"][1][0].content == expected


def test_a_picture_of_another_size_is_no_mask() -> None:
    """It is an image of its own."""
    found = columns(np.zeros((4, 3, 3)), TEN, photo=PHOTO)["slot:image"][1]
    assert isinstance(found, np.ndarray)
