"""Counts by leading bits: what is exact in them, and how near the drawn histogram comes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.exact_gradients import counts_of
from wandbkeras.callbacks import bit_counts
from wandbkeras.callbacks.bit_counts import BitCounts

Array = np.ndarray[Any, Any]
singles = arrays.arrays(np.float32, st.integers(1, 60))


@given(singles, st.integers(1, 512))
def test_all_but_the_place_within_a_bucket_is_exact(values: Array, bins: int) -> None:
    """Counts add up, the extremes are the values' own, what is not finite is counted beside."""
    finite = values[np.isfinite(values)].astype(np.float64)
    histogram = counts_of(values).to_histogram(bins)
    assert sum(histogram.histogram) == finite.size
    assert min(histogram.histogram) >= 0
    stats = histogram.stats
    assert (stats["count"], stats["zero"]) == (values.size, (values == 0).sum())
    assert stats["nan"] == np.isnan(values).sum()
    assert (stats["posinf"], stats["neginf"]) == (
        (values == np.inf).sum(),
        (values == -np.inf).sum(),
    )
    assert ("min" in stats) == (finite.size > 0)
    if finite.size:
        assert (stats["min"], stats["max"]) == (finite.min(), finite.max())
        assert stats["mean"] == pytest.approx(finite.mean(), rel=1e-6, abs=1e-6 * np.ptp(finite))
        assert stats["std"] == pytest.approx(finite.std(), rel=1e-3, abs=1e-6 * abs(finite).max())


# Without denormal numbers, which the kernels of a backend may take for zeros.
normal = arrays.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_subnormal=False)
)


@given(normal, normal)
def test_counts_of_steps_add_up(first: Array, second: Array) -> None:
    """Those of two arrays together are those of one that has all values."""
    together = BitCounts()
    for values in (first, second):
        found = keras.ops.convert_to_numpy(bit_counts.moments(keras.ops.convert_to_tensor(values)))
        together.add(counts_of(values).counts, found)
    expected = counts_of(np.concatenate([first, second]))
    np.testing.assert_array_equal(together.counts, expected.counts)
    assert (together.low, together.high) == (expected.low, expected.high)
    assert together.total == pytest.approx(
        expected.total, rel=1e-4, abs=1e-5 * expected.squares**0.5
    )
    assert together.squares == pytest.approx(expected.squares, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e20])
def test_the_drawn_histogram_is_near_numpys(scale: float) -> None:
    """Of a hundred thousand values less than one in a hundred is in another bin."""
    values = (np.random.default_rng(3).normal(size=100_000) * scale).astype(np.float32)
    drawn = counts_of(values).to_histogram()
    counts, edges = np.histogram(values.astype(np.float64), bins=64)
    np.testing.assert_allclose(drawn.bins, edges, rtol=1e-6, atol=scale * 1e-6)
    assert np.abs(np.array(drawn.histogram) - counts).sum() / 2 < 0.01 * values.size
    assert drawn.stats["std"] == pytest.approx(values.astype(np.float64).std(), rel=1e-6)


def test_zeros_are_in_the_bin_of_zero() -> None:
    """Many of them, as of a gradient through a rectifier, are no spread of small numbers."""
    values = np.r_[np.zeros(1000), -1.0, 1.0].astype(np.float32)
    counts, _ = np.histogram(values, bins=64)
    assert counts_of(values).to_histogram().histogram == counts.tolist()


def test_equal_values_are_in_one_bin() -> None:
    """The range is widened as NumPy does it."""
    histogram = counts_of(np.full(7, 3.0, np.float32)).to_histogram(2)
    assert (histogram.histogram, histogram.bins) == ([0, 7], [2.5, 3.0, 3.5])
