"""Which pictures show inputs, outputs and targets, and what their pixels are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wandbkeras.callbacks.drawing import Drawing, drawing_of, references
from wandbkeras.callbacks.mask_colors import palette
from wandbkeras.callbacks.pictures import guessed_kind
from wandbkeras.data_types import Image
from wandbkeras.data_types.pixels import to_bytes
from wandbkeras.errors import UsageError

GENERATOR = np.random.default_rng(7)
IMAGES = GENERATOR.random((3, 4, 5, 3)).astype(np.float32)
SCORES = GENERATOR.random((3, 4, 5, 6)).astype(np.float32)
CLASSES = GENERATOR.integers(0, 6, (3, 4, 5, 1))
LABELS = GENERATOR.random((3, 7))


def drawn(
    x: Any, out: Any, y: Any, input_type: str | None, output_type: str | None, **options: Any
) -> tuple[Drawing, list[Image]]:
    slots = ({"input": x}, {"output": out}, {"target": y} if y is not None else {})
    drawing = drawing_of(*slots, input_type, output_type, **options)
    return drawing, drawing.images(*slots, options.get("labels", ()), {})


def pixels(image: Image) -> Any:
    assert image.pixels is not None
    return to_bytes(image.pixels, image.scale).data


@pytest.mark.parametrize(
    ("x", "out", "input_type", "output_type", "columns", "captioned"),
    [
        (IMAGES, LABELS, "image", "label", 1, True),
        (IMAGES, LABELS, "images", None, 1, True),
        (IMAGES, LABELS, "auto", "auto", 1, True),
        (IMAGES, IMAGES, "image", "image", 3, False),
        (IMAGES, SCORES, "image", "segmentation_mask", 3, False),
        (IMAGES, SCORES, "auto", None, 3, False),
        (SCORES, LABELS, "segmentation_mask", "label", 1, True),
        (SCORES, IMAGES, "segmentation_mask", "image", 3, False),
        (LABELS, IMAGES, "label", "image", 2, True),
        (LABELS, SCORES, "label", None, 2, True),
        (LABELS, IMAGES, "auto", "auto", 2, True),
        (LABELS, IMAGES, None, "image", 2, False),
        (IMAGES, GENERATOR.random((3, 4, 5)), "image", None, 1, False),
    ],
)
def test_each_combination_has_the_pictures_of_wandb(
    x: Any, out: Any, input_type: str, output_type: str, columns: int, captioned: bool
) -> None:
    """Input alone with the label as caption; output and reference; or all three, row by row."""
    drawing, images = drawn(x, out, out, input_type, output_type)
    assert len(images) == 3 * columns
    assert all((image.caption is not None) is captioned for image in images)
    if columns == 3:
        assert [image.caption for image in images[1::3]] == [None] * 3
        np.testing.assert_array_equal(pixels(images[1]), pixels(images[2]))
    if columns == 2:
        np.testing.assert_array_equal(pixels(images[0]), pixels(images[1]))
    assert drawing.caption == (None if not captioned else "input" if x is LABELS else "output")


@pytest.mark.parametrize(
    ("x", "out", "types"),
    [
        (LABELS, LABELS, ("auto", "auto")),
        (LABELS, LABELS, ("label", None)),
        (LABELS, GENERATOR.random((3, 4, 5)), ("auto", None)),
    ],
)
def test_a_combination_without_a_picture_is_refused(x: Any, out: Any, types: Any) -> None:
    """The message names both types as they turned out, and what is expected."""
    with pytest.raises(UsageError, match="the input_type is 'label' and the output_type is"):
        drawn(x, out, out, *types)


@pytest.mark.parametrize("reference", [CLASSES, CLASSES[..., 0], np.eye(6)[CLASSES[..., 0]]])
def test_predicted_and_true_masks_have_the_same_colours(reference: Any) -> None:
    """Class numbers and one-hot targets look like scores of the same classes."""
    _, images = drawn(IMAGES, SCORES, reference, "image", "segmentation_mask")
    np.testing.assert_array_equal(pixels(images[1]), palette(6)[SCORES[0].argmax(-1)])
    np.testing.assert_array_equal(pixels(images[2]), palette(6)[CLASSES[0, ..., 0]])


def test_the_users_colours_are_for_all_masks() -> None:
    """Inputs, predictions, references; two colours divide a probability at a half."""
    colors = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    probability = np.array([[[0.2, 0.9]]])
    reference = np.array([[[0, 1]]])
    for out in (probability, probability[..., None]):
        _, images = drawn(
            reference, out, reference, "segmentation_mask", "segmentation_mask", colors=colors
        )
        assert [pixels(image).tolist() for image in images] == [[[[10, 20, 30], [40, 50, 60]]]] * 3


def test_a_probability_is_grey() -> None:
    """Without colours, 0 to 1 is black to white for prediction and reference alike."""
    _, images = drawn(
        LABELS[:1], np.array([[[0.2, 1.0]]]), np.array([[[0, 1]]]), None, "segmentation_mask"
    )
    assert [pixels(image).tolist() for image in images] == [[[51, 255]], [[0, 255]]]


def test_a_mask_as_input_has_a_colour_for_each_label() -> None:
    """The palette is that of all classes, not of those that happen to be in the examples."""
    _, images = drawn(
        np.array([[[0, 1]]]), LABELS[:1], None, "segmentation_mask", "label", labels=("a",) * 7
    )
    np.testing.assert_array_equal(pixels(images[0]), [palette(7)[:2]])


def test_pixels_are_decided_once_by_the_references() -> None:
    """Predictions that leave the range of the targets are cut, not stretched; one set, one rule."""
    dark, bright = np.full((1, 1, 2), 0.1), np.full((1, 1, 2), 1.0)
    targets = np.concatenate([dark, bright])
    drawing, images = drawn(targets, targets * 2 - 0.5, targets, "image", "image")
    assert [pixels(image)[0, 0] for image in images] == [26, 0, 26, 255, 255, 255]
    later = drawing.images(
        {"input": targets}, {"output": targets * 100}, {"target": targets}, (), {}
    )
    assert pixels(later[1])[0, 0] == 255
    assert pixels(later[2])[0, 0] == 26


def test_channels_may_come_first() -> None:
    """Where only the first number can be channels, they are."""
    _, images = drawn(np.moveaxis(IMAGES, -1, 1), LABELS, None, "image", "label")
    np.testing.assert_array_equal(pixels(images[0]), np.rint(IMAGES[0] * 255))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 4)), r"'image': received shapes {'input': \(3, 4\)}; expected"),
        (np.zeros((3, 8, 8, 5)), "input: received images with 5 channels; expected 1, 3 or 4"),
    ],
)
def test_a_shape_that_is_no_picture_is_refused(x: Any, message: str) -> None:
    """The message says what was received and expected."""
    with pytest.raises(UsageError, match=message):
        drawn(x, LABELS, None, "image", "label")


def test_each_class_needs_a_colour() -> None:
    """Fewer colours than the scores have classes are refused."""
    with pytest.raises(UsageError, match="class_colors: received 2 colours; output has 6 classes"):
        drawn(IMAGES, SCORES, None, "image", "segmentation_mask", colors=palette(2))


def test_the_slot_that_is_a_picture_is_shown() -> None:
    """Of several inputs the first image; of several outputs all labels, by name."""
    inputs = {"meta": LABELS, "photo": IMAGES}
    outputs = {"kind": LABELS, "age": np.ones((3, 1))}
    drawing = drawing_of(inputs, outputs, {}, "auto", "auto")
    images = drawing.images(inputs, outputs, {}, (), {})
    assert drawing.input is not None
    assert drawing.input.slot == "photo"
    assert images[0].caption == f"kind: {LABELS[0].argmax()}, age: 1"


def test_targets_belong_to_outputs_by_name_or_place() -> None:
    """Names win; without any in common the order tells, if there are as many."""
    one, two = np.zeros(1), np.ones(1)
    assert references({"a": one, "b": two}, {"b": two, "a": one}) == {"a": one, "b": two}
    assert references({"output": one}, {"target": two}) == {"output": two}
    assert references({"a": one, "b": one}, {"b": two}) == {"b": two}
    assert references({"a": one, "b": one}, {"c": two}) == {}


@pytest.mark.parametrize(
    ("shape", "risky", "kind"),
    [
        ((8,), False, "label"),
        ((8, 10), False, "label"),
        ((8, 28, 28), True, "image"),
        ((8, 28, 28), False, None),
        ((8, 28, 28, 1), False, "image"),
        ((8, 28, 28, 3), False, "image"),
        ((8, 28, 28, 4), False, "image"),
        ((8, 3, 28, 28), False, "image"),
        ((8, 28, 28, 21), False, "segmentation_mask"),
        ((8, 5, 28, 28, 3), True, None),
    ],
)
def test_kinds_are_guessed_as_wandb_guesses(shape: Any, risky: bool, kind: str | None) -> None:
    """By the shape, rows included; three numbers may be images only where that is likely."""
    assert guessed_kind({"slot": shape}, risky=risky) == kind
