"""Counting in bins: NumPy's own counts, value by value, and what is known beside them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wandbkeras.binning import Binned, binned

Array = np.ndarray[Any, Any]
CHUNK = 1 << 16  # so many values are counted at a time


def checked(values: Array, bins: int = 64) -> Binned:
    """Count, and compare with ``numpy.histogram`` where that one succeeds."""
    found = binned(values, bins)
    finite = values[np.isfinite(values)]
    assert found.counts.sum() == finite.size
    assert found.edges.shape == (bins + 1,)
    assert (np.diff(found.edges) >= 0).all()
    try:
        with np.errstate(all="ignore"):
            counts, edges = np.histogram(finite, bins=bins)
    except ValueError:  # a range too wide or too narrow for the bins
        return found
    if np.isfinite(edges).all():
        np.testing.assert_array_equal(found.counts, counts)
        np.testing.assert_array_equal(found.edges, edges)
    return found


@st.composite
def narrow_or_wide(draw: st.DrawFn) -> Array:
    """Numbers in a range that is drawn first: from a few floats wide to all of them."""
    kind = draw(st.sampled_from([np.float32, np.float64]))
    low = draw(st.floats(-1e30, 1e30) | st.floats(-10, 10))
    width = draw(st.floats(0, 1e30) | st.floats(0, 1e-3))
    parts = draw(arrays.arrays(np.float64, st.integers(1, 80), elements=st.floats(0, 1)))
    return (low + parts * width).astype(kind)


@given(
    arrays.arrays(st.sampled_from([np.float32, np.float64]), st.integers(0, 80)) | narrow_or_wide(),
    st.integers(1, 512),
)
def test_the_counts_are_those_of_numpy(values: Array, bins: int) -> None:
    """Denormal, huge, narrow and constant numbers, and any beside NaN and infinities."""
    checked(values, bins)


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
    st.integers(1, 512),
    st.sampled_from([np.float32, np.float64]),
)
def test_values_at_an_edge_are_in_the_bin_of_numpy(
    low: float, width: float, bins: int, kind: Any
) -> None:
    """Each edge, and the floats next to it, where a rounding decides."""
    edges = np.linspace(low, low + width, bins + 1, dtype=kind)
    beside = [np.nextafter(edges, kind(sign * math.inf)) for sign in (-1, 1)]
    inside = np.clip(np.concatenate([edges, *beside]), edges[0], edges[-1])
    checked(inside, bins)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [1, 63, 64, 65, 255, 256, 512])
@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_chunks_add_up(size: int, bins: int, kind: Any) -> None:
    """Any number of values and of bins, odd or even, is counted as by NumPy."""
    values = np.random.default_rng(size + bins).normal(3, 0.1, size).astype(kind)
    found = checked(values, bins)
    exact = values.astype(np.float64)
    assert found.stats["mean"] == pytest.approx(exact.mean(), rel=1e-6)
    assert found.stats["std"] == pytest.approx(exact.std(), rel=1e-5)
    assert (found.stats["min"], found.stats["max"]) == (exact.min(), exact.max())


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda x: np.where(np.arange(x.size) == 5, 1e6, x), id="one far away"),
        pytest.param(lambda x: np.maximum(x, 0), id="half of them zero"),
        pytest.param(lambda x: 1e6 + x, id="far from zero"),
        pytest.param(lambda x: x * 1e-30, id="tiny"),
        pytest.param(lambda x: x * 1e30, id="huge"),
        pytest.param(lambda x: np.sort(x), id="sorted"),
        pytest.param(lambda x: np.round(x), id="whole numbers"),
        pytest.param(lambda x: np.full_like(x, 0.1), id="all the same"),
    ],
)
def test_the_moments_of_large_arrays_are_exact_enough(make: Any) -> None:
    """Mean and deviation are found to six digits of the deviation, whatever the values are."""
    values = make(np.random.default_rng(1).normal(size=200_001)).astype(np.float32)
    stats = checked(values).stats
    exact = values.astype(np.float64)
    assert stats["std"] == pytest.approx(exact.std(), rel=2e-5, abs=1e-12)
    assert abs(stats["mean"] - exact.mean()) <= 2e-6 * exact.std() + 1e-7 * abs(exact.mean())
    assert stats["zero"] == (values == 0).sum()


def test_what_is_not_finite_is_counted_beside() -> None:
    """NaN and infinities are in no bin; the statistics are of the finite values."""
    values = np.repeat(np.array([np.nan, np.inf, -np.inf, 0.0, 2.0]), [1, 2, 3, 4, 5])
    found = checked(values, 2)
    assert found.counts.tolist() == [4, 5]
    assert found.stats == {
        "count": 15, "nan": 1, "posinf": 2, "neginf": 3, "zero": 4, "min": 0.0, "max": 2.0,
        "mean": pytest.approx(10 / 9), "std": pytest.approx(np.std([0.0] * 4 + [2.0] * 5)),
    }  # fmt: skip


def test_where_nothing_is_finite_all_bins_are_empty() -> None:
    """The bins reach from 0 to 1, as NumPy's of an empty array."""
    found = binned(np.array([np.nan, np.inf], np.float32), 2)
    assert (found.counts.tolist(), found.edges.tolist()) == ([0, 0], [0.0, 0.5, 1.0])
    assert found.stats == {"count": 2, "nan": 1, "posinf": 1, "neginf": 0, "zero": 0}
