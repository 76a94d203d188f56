"""Histogram: counts and edges of numbers, whatever the numbers are."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wandbkeras import Histogram
from wandbkeras.errors import UsageError


@given(st.lists(st.floats(width=32), max_size=60), st.integers(1, 512))
def test_every_finite_value_is_in_one_bin(values: list[float], bins: int) -> None:
    """The counts add up to the finite values, and the rest are counted beside them."""
    histogram = Histogram(values, num_bins=bins)
    finite = [value for value in values if math.isfinite(value)]
    assert sum(histogram.histogram) == len(finite)
    assert len(histogram.bins) == len(histogram.histogram) + 1
    assert np.isfinite(histogram.bins).all()
    stats = histogram.stats
    assert stats["count"] == len(values)
    assert stats["nan"] + stats["posinf"] + stats["neginf"] == len(values) - len(finite)
    assert stats["zero"] == values.count(0.0)
    if finite:
        assert (stats["min"], stats["max"]) == (min(finite), max(finite))


@given(
    arrays.arrays(
        st.sampled_from([np.int8, np.uint8, np.int32, np.uint16, np.int64, bool, np.float16]),
        st.integers(1, 60),
    ),
    st.integers(1, 512),
)
def test_other_kinds_of_numbers_are_counted_as_numpy_does(values: Any, bins: int) -> None:
    """Integers and bools as doubles; half precision as single, in which each half is exact."""
    kind = np.float32 if values.dtype == np.float16 else np.float64
    plain = values.astype(kind)
    plain = plain[np.isfinite(plain)]
    found = Histogram(values, num_bins=bins)
    assert sum(found.histogram) == plain.size
    with contextlib.suppress(ValueError):  # too many bins for so narrow a range
        counts, edges = np.histogram(plain, bins=bins)
        assert found.histogram == counts.tolist()
        assert found.bins == edges.tolist()


def test_a_ready_made_histogram_is_kept_as_given() -> None:
    """``np_histogram`` passes counts and edges through; what they don't tell is not made up."""
    histogram = Histogram(np_histogram=([1, 2, 3], [0.0, 1.0, 2.0, 4.0]))
    assert histogram.to_value() == {
        "_type": "histogram",
        "values": [1, 2, 3],
        "bins": [0.0, 1.0, 2.0, 4.0],
    }


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([1.7e308, -1.7e308], id="a range beyond a double"),
        pytest.param([1.0, 1.0 + 2**-52], id="a range too narrow for the bins"),
        pytest.param(np.array([1, 2], ml_dtypes.bfloat16), id="bfloat16"),
        pytest.param(np.array([1, float("nan")], ml_dtypes.bfloat16), id="a NaN in bfloat16"),
        pytest.param(np.array([60000, 60000], np.float16), id="float16 whose sum overflows"),
        pytest.param(np.array([True, False, True]), id="bools"),
        pytest.param(np.array([2**63 - 1, -(2**63)]), id="the ends of int64"),
        pytest.param(np.zeros((3, 4, 5)), id="three dimensions"),
        pytest.param(np.float32(3), id="a scalar"),
        pytest.param([], id="nothing"),
    ],
)
def test_any_numbers_make_a_histogram(values: Any) -> None:
    """Extreme, narrow, tiny and half-precision numbers are counted like any other."""
    histogram = Histogram(values)
    array = np.asarray(values, np.float64)
    assert sum(histogram.histogram) == np.isfinite(array).sum()
    assert np.isfinite(histogram.bins).all()
    assert histogram.stats["nan"] == np.isnan(array).sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected a sequence or np_histogram"),
        ({"sequence": [1], "np_histogram": ([1], [0, 1])}, "expected a sequence or np_histogram"),
        ({"sequence": [1], "num_bins": 0}, "received num_bins 0; expected 1 to 512"),
        ({"sequence": [1], "num_bins": 513}, "received num_bins 513; expected 1 to 512"),
        ({"sequence": ["a", "b"]}, "expected numbers"),
        ({"sequence": [1 + 2j]}, "expected numbers"),
        ({"sequence": [object()]}, "expected numbers"),
        ({"np_histogram": ([1, 2], [0, 1])}, "received 2 counts and 2 edges"),
        ({"np_histogram": ([], [0])}, "received 0 counts"),
        ({"np_histogram": ([1] * 513, range(514))}, "received 513 counts"),
        ({"np_histogram": ([1], [0, float("inf")])}, "non-finite"),
        ({"np_histogram": ([float("nan")], [0, 1])}, "non-finite"),
    ],
)
def test_what_is_no_histogram_is_refused(arguments: dict[str, Any], message: str) -> None:
    """The one message says what was received and what is expected."""
    with pytest.raises(UsageError, match=message):
        Histogram(**arguments)
