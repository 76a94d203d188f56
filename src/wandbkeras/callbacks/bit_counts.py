"""Numbers counted by the leading bits of their float32, so that the counts of any steps add up.

The twelve leading bits are the sign, the exponent and three bits of the fraction: eight buckets
from each power of two to the next. No range has to be known beforehand, so one pass inside of the
training step counts all; zeros, infinities and NaN have buckets of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from wandbkeras.binning import Numbers, binned
from wandbkeras.data_types import Histogram

BUCKETS = 1 << 12
LOWER_BITS = 20
MAGNITUDE, INFINITY = 0x7FFFFFFF, 0x7F800000
# No float32 but a NaN begins with these bits: zeros and NaN are counted under them.
ZERO, NAN = 0x7FE, 0x7FF
_POSINF, _NEGINF = 0x7F8, 0xFF8
# The leading bits of all that is not finite.
NOT_FINITE = (*range(_POSINF, BUCKETS // 2), *range(_NEGINF, BUCKETS))
# What the finite buckets of positive numbers begin with; those of negative ones mirror them.
_BOUNDS = (np.arange(_POSINF + 1, dtype=np.uint32) << LOWER_BITS).view(np.float32).astype(float)
_ASCENDING = np.r_[_NEGINF - 1 : BUCKETS // 2 - 1 : -1, 0:_POSINF]
_ASCENDING_BOUNDS = np.r_[-_BOUNDS[:0:-1], _BOUNDS]

# A kernel may multiply by the inverse, and take a denormal one for zero.
_SCALES = (2.0**-125, 2.0**125)


def moments(values: Any) -> Any:
    """Return the smallest, the largest, the scale, and the sums of the ratios and their squares.

    ``values`` is a row of float32 of the backend, and so is the result, of five elements. The
    ratios are the finite values divided by the scale, which is near their largest magnitude: no
    square overflows, none that matters vanishes.
    """
    ops = keras.ops
    finite = ops.isfinite(values)
    low = ops.min(ops.where(finite, values, math.inf))
    high = ops.max(ops.where(finite, values, -math.inf))
    scale = ops.clip(ops.maximum(-low, high), *_SCALES)
    scale = ops.where(low <= high, scale, 1.0)  # no value is finite
    ratios = ops.where(finite, values, 0.0) / scale
    return ops.stack([low, high, scale, ops.sum(ratios), ops.sum(ratios * ratios)])


def _no_counts() -> Numbers:
    return np.zeros(BUCKETS, np.int64)


@dataclass
class BitCounts:
    """The counts of the buckets, and the extremes and sums of the finite values in them.

    >>> ones_and_a_nan = BitCounts(_no_counts(), low=1.0, high=1.0, total=3.0, squares=3.0)
    >>> ones_and_a_nan.counts[[0x3F8, NAN]] = 3, 1
    >>> histogram = ones_and_a_nan.to_histogram(bins=2)
    >>> histogram.histogram, histogram.bins, histogram.stats["nan"]
    ([0, 3], [0.5, 1.0, 1.5], 1)
    """

    counts: Numbers = field(default_factory=_no_counts)
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0

    def add(self, counts: Numbers, found: Numbers) -> None:
        """Add the buckets and the :func:`moments` of more values."""
        low, high, scale, ratios, squares = map(float, found)
        self.counts += counts
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.total += scale * ratios
        self.squares += scale * scale * squares

    def to_histogram(self, bins: int = 64) -> Histogram:
        """Return the finite values in bins of equal width, the others in the statistics.

        The sum of the counts is exact; within a bucket, 1/8 of its lower bound wide, the values
        are taken to lie evenly.
        """
        histogram = Histogram(np_histogram=self._in_equal_bins(bins))
        histogram.stats = self._stats()
        return histogram

    def _in_equal_bins(self, bins: int) -> tuple[Numbers, Numbers]:
        if self.low > self.high:
            return np.zeros(bins, np.int64), np.linspace(0.0, 1.0, bins + 1)
        edges = binned(np.array([self.low, self.high]), bins).edges
        others = self.counts[_ASCENDING]
        if self.low == self.high:
            counts = np.zeros(bins, np.int64)
            counts[_bin_of(self.low, edges)] += others.sum()
        else:
            below = np.r_[0, others.cumsum()]
            reached = np.interp(edges, np.clip(_ASCENDING_BOUNDS, self.low, self.high), below)
            reached[[0, -1]] = 0, below[-1]
            counts = np.diff(np.rint(reached).astype(np.int64))
        counts[_bin_of(0.0, edges)] += self.counts[ZERO]
        return counts, edges

    def _stats(self) -> dict[str, float]:
        names = {"nan": NAN, "posinf": _POSINF, "neginf": _NEGINF, "zero": ZERO}
        stats: dict[str, float] = {"count": int(self.counts.sum())}
        stats |= {name: int(self.counts[bucket]) for name, bucket in names.items()}
        finite = stats["count"] - stats["nan"] - stats["posinf"] - stats["neginf"]
        if not finite:
            return stats
        mean = self.total / finite
        variance = max(self.squares / finite - mean * mean, 0.0)
        return {
            **stats,
            "min": self.low,
            "max": self.high,
            "mean": min(max(mean, self.low), self.high),
            "std": math.sqrt(variance),
        }


def _bin_of(value: float, edges: Numbers) -> int:
    return int(np.searchsorted(edges[1:-1], value, side="right"))
