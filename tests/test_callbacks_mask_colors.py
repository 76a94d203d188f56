"""Colours of masks: one rule for scores and for maps of class numbers."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest

from wandbkeras.callbacks.mask_colors import checked_colors, class_numbers, colored, palette
from wandbkeras.errors import UsageError


@pytest.mark.parametrize("classes", [1, 2, 3, 21, 256])
def test_the_palette_is_wandbs(classes: int) -> None:
    """Class 0 is black, the others are equally spaced hues, fully saturated."""
    hues = [colorsys.hsv_to_rgb(i / (classes - 1.0), 1.0, 1.0) for i in range(classes - 1)]
    expected = np.rint(np.array([(0, 0, 0), *hues]) * 255)
    np.testing.assert_array_equal(palette(classes), expected)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1)])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_a_map_and_its_scores_have_the_same_colours(shape: tuple[int, ...], kind: Any) -> None:
    """Class numbers of any type, with or without a channel, look like scores of these classes."""
    numbers = np.arange(40).reshape(2, 4, 5) % 3
    scores = np.eye(3)[numbers]
    expected = colored(class_numbers(scores), palette(3))
    found = colored(class_numbers(numbers.reshape(shape).astype(kind)), palette(3))
    np.testing.assert_array_equal(found, expected)
    assert expected.shape == (2, 4, 5, 3)
    assert expected.dtype == np.uint8


def test_a_number_without_a_colour_is_grey() -> None:
    """The label 255 for what is to be ignored, or NaN, fails nothing."""
    numbers = class_numbers(np.array([[[0.0, 255.0, np.nan]]]))
    np.testing.assert_array_equal(
        colored(numbers, palette(2)), [[[[0, 0, 0], [128, 128, 128], [128, 128, 128]]]]
    )


def test_the_users_colours_are_between_0_and_1() -> None:
    """They become bytes, rounded."""
    np.testing.assert_array_equal(
        checked_colors([[0, 0.5, 1], (1, 1, 1)]), [[0, 128, 255], [255, 255, 255]]
    )
    assert checked_colors(None) is None


@pytest.mark.parametrize("colors", [[[255, 0, 0]], [0.5, 0.5, 0.5], "red", [[0, 0]], [[0, 0, 2]]])
def test_other_colours_are_refused(colors: Any) -> None:
    """The message says what was received and expected."""
    with pytest.raises(
        UsageError, match=r"class_colors: received .*; expected red, green and blue"
    ):
        checked_colors(colors)
