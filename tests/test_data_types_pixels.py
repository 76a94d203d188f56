"""Pixels become bytes by one rule for a set of images, and what does not fit is counted."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wandbkeras.data_types.pixels import as_array, as_image, in_mode, scale_of, to_bytes
from wandbkeras.errors import UsageError

NAN, INF = float("nan"), float("inf")


def byte_list(values: list[float], dtype: Any = np.float32, scale: Any = None) -> list[int]:
    array = np.array([values], dtype)
    found: list[int] = to_bytes(array, scale or scale_of([array])).data[0].tolist()
    return found


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        pytest.param([0, 0.25, 0.5, 1], np.float32, [0, 64, 128, 255], id="floats from 0 to 1"),
        pytest.param([0, 0.25, 0.5, 1], np.float16, [0, 64, 128, 255], id="half precision"),
        pytest.param([-1, -0.5, 0, 1], np.float32, [0, 64, 128, 255], id="floats from -1 to 1"),
        pytest.param([-0.5, 0, 0.5], np.float64, [64, 128, 191], id="within -1 to 1: 0 is grey"),
        pytest.param([-3, 0, 1], np.float32, [0, 191, 255], id="others below 0: least to greatest"),
        pytest.param([0, 1, 127.4, 127.6, 255], np.float32, [0, 1, 127, 128, 255], id="to 255"),
        pytest.param([0, 0.5, 2], np.float32, [0, 0, 2], id="above 1 they are 0 to 255"),
        pytest.param([0, 1], np.uint8, [0, 1], id="bytes are as they are"),
        pytest.param([0, 1, 255], np.int64, [0, 1, 255], id="integers are as they are"),
        pytest.param([0, 1], np.bool_, [0, 255], id="bools are black and white"),
        pytest.param([0.5, 0.5], np.float32, [128, 128], id="constant"),
        pytest.param([-4, -4], np.float32, [128, 128], id="constant below 0"),
        pytest.param([0, 1], ml_dtypes.bfloat16, [0, 255], id="bfloat16"),
    ],
)
def test_values_become_bytes_by_the_rule(
    values: list[float], dtype: Any, expected: list[int]
) -> None:
    """The table of docs/recording.md, which no version of wandb follows."""
    assert byte_list(values, np.float32 if dtype is ml_dtypes.bfloat16 else dtype) == expected
    assert as_array(np.array(values, dtype)).dtype.kind in "biuf"


def test_the_rule_is_that_of_the_whole_set() -> None:
    """A dark image beside a bright one stays dark, and one with negative values moves them all."""
    dark, bright = np.full((1, 1), 0.1), np.full((1, 1), 200.0)
    assert scale_of([dark]) == "unit"
    assert scale_of([dark, bright]) == "byte"
    assert to_bytes(dark, scale_of([dark, bright])).data.item() == 0
    assert scale_of([dark, -bright]) == (-200.0, 0.1)


def test_only_floats_decide() -> None:
    """Integers and bools have their meaning; without floats there is nothing to decide."""
    assert scale_of([np.array([[1, 255]], np.uint8), np.array([[True]])]) is None
    assert scale_of([np.array([[200]], np.uint8), np.array([[0.5]])]) == "unit"
    assert scale_of([]) is None


def test_what_is_no_number_becomes_black_and_is_counted() -> None:
    """NaN is 0; infinities are the ends; neither says anything of the rule."""
    array = np.array([[NAN, INF, -INF, 1.0]])
    assert scale_of([array]) == "unit"
    found = to_bytes(array, "unit")
    assert found.data.tolist() == [[0, 255, 0, 255]]
    assert (found.nan, found.clipped) == (1, 2)


def test_what_lies_outside_is_clipped_and_counted() -> None:
    """Nothing wraps: 256 is white, not black."""
    found = to_bytes(np.array([[-1, 0, 255, 256, 65535]], np.int32), None)
    assert (found.data.tolist(), found.clipped) == ([[0, 0, 255, 255, 255]], 3)
    assert to_bytes(np.array([[0, 300]], np.uint16), None).data.tolist() == [[0, 255]]
    assert to_bytes(np.array([[2.0]]), "unit").clipped == 1


def test_a_scale_at_the_ends_of_a_double_does_not_overflow() -> None:
    """The difference of the two ends is more than a double holds."""
    array = np.array([[-1.7e308, 0.0, 1.7e308]])
    assert to_bytes(array, scale_of([array])).data.tolist() == [[0, 128, 255]]


@given(arrays.arrays(np.float32, (2, 3), elements=st.floats(width=32)))
def test_any_floats_become_bytes(array: Any) -> None:
    """Whatever they are, there is a byte for each, and no warning."""
    with np.errstate(all="raise", under="ignore"):
        found = to_bytes(array, scale_of([array]))
    assert (found.data.dtype, found.data.shape) == (np.uint8, array.shape)
    assert found.nan == np.isnan(array).sum()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 5), (4, 5)),
        ((4, 5, 1), (4, 5)),
        ((4, 5, 3), (4, 5, 3)),
        ((4, 5, 4), (4, 5, 4)),
        ((1, 8, 3), (1, 8, 3)),  # which wandb takes for a grey image of 8 x 3
        ((1, 4, 5), (4, 5)),
        ((1, 1), (1, 1)),
    ],
)
def test_the_channels_come_last(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """A channel of its own is dropped, and nothing else is taken for one."""
    assert as_image(np.zeros(shape), "Image").shape == expected


class _Tensor:
    """What of a Torch tensor is asked for; tests of the backends use real ones."""

    itemsize = 4

    def __init__(self, array: Any) -> None:
        self._array = array

    def detach(self) -> _Tensor:
        return self

    cpu = detach

    def is_floating_point(self) -> bool:
        return True

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._array


def test_a_tensor_may_have_its_channels_first() -> None:
    """As Torch has images; where both could be meant, they come last."""
    assert as_image(_Tensor(np.zeros((3, 4, 5))), "Image").shape == (4, 5, 3)
    assert as_image(_Tensor(np.zeros((3, 4, 3))), "Image").shape == (3, 4, 3)


@pytest.mark.parametrize("shape", [(4,), (4, 5, 2), (4, 5, 6), (1, 4, 5, 3), (0, 3), (4, 0, 3)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    """The line says which shape was received and which is expected."""
    with pytest.raises(UsageError, match=r"Image: received the shape \("):
        as_image(np.zeros(shape), "Image")
    with pytest.raises(UsageError, match="expected bools or numbers"):
        as_image(np.zeros((2, 2), complex), "Image")


def test_a_mode_adds_and_drops_channels() -> None:
    """As Pillow converts: grey by ITU-R 601, opaque alpha."""
    red = np.array([[[255, 0, 0]]], np.uint8)
    assert in_mode(red, "L").tolist() == [[76]]
    assert in_mode(red, "RGBA").tolist() == [[[255, 0, 0, 255]]]
    assert in_mode(in_mode(red, "RGBA"), "RGB").tolist() == red.tolist()
    assert in_mode(np.array([[7]], np.uint8), "RGB").tolist() == [[[7, 7, 7]]]
    assert in_mode(red, None) is in_mode(red, "RGB") is red
