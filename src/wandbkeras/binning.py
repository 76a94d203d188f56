"""Counts and statistics of numbers: ``numpy.histogram``'s own counts, at least twice as fast.

Chunks that stay in the cache are scaled in place to bins and cut to integers. A value so near an
edge that rounding could have moved it across is looked up among the edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[Any]]
Number = np.floating[Any]
Doubles = np.ndarray[Any, np.dtype[np.float64]]

# Elements of a chunk: with its scaled copy and its bins it fits a second-level cache.
_CHUNK = 1 << 16
# Up to so many bins are counted by pairs of neighbouring values: half the work, and the table of
# pairs still fits a cache.
_PAIRED_BINS = 64
_HALF_RANGE = (np.finfo(np.float64).min / 2, np.finfo(np.float64).max / 2)


@dataclass(frozen=True)
class Binned:
    """Counts in bins, the edges of the bins (one more), and what is known of the values beside.

    ``stats`` has ``count``, ``nan``, ``posinf``, ``neginf`` and ``zero`` of all values, and, if any
    is finite, ``min``, ``max``, ``mean`` and ``std`` of those.
    """

    counts: Numbers
    edges: Doubles
    stats: dict[str, float]


def binned(values: Numbers, bins: int) -> Binned:
    """Count the finite ones of many float32 or float64 in bins of equal width.

    The bins reach from the smallest to the largest. Where ``numpy.histogram`` fails, at a range too
    wide or too narrow for the bins, they are as near to that as doubles can tell them apart.

    >>> found = binned(np.array([0.0, 1.0, 1.0, np.nan]), 2)
    >>> found.counts.tolist(), found.edges.tolist(), found.stats["nan"]
    ([1, 2], [0.0, 0.5, 1.0], 1)
    """
    stats, finite, low, high = _divided(values)
    if not finite.size:
        unit = np.linspace(0.0, 1.0, bins + 1, dtype=values.dtype)
        return Binned(np.zeros(bins, np.intp), unit.astype(np.float64), stats)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        edges = _edges(low, high, bins)
        if edges is None and finite.dtype != np.float64:
            finite = finite.astype(np.float64)
            edges = _edges(np.float64(low), np.float64(high), bins)
        grid = None if edges is None or low == high else _Grid.of(edges)
        if edges is not None and grid is not None:
            counts, moments = _counted(finite, grid)
        else:
            counts, edges = _counted_by_numpy(finite, bins, has_edges=edges is not None)
            moments = _Moments.of(finite)
    stats |= {
        "zero": moments.zero,
        "min": float(low),
        "max": float(high),
        "mean": min(max(moments.mean, float(low)), float(high)),
        "std": moments.std,
    }
    return Binned(counts, edges.astype(np.float64), stats)


def _divided(values: Numbers) -> tuple[dict[str, float], Numbers, Number, Number]:
    """Return the counts of what is not finite, the finite values, and their extremes."""
    stats: dict[str, float] = {"count": values.size, "nan": 0, "posinf": 0, "neginf": 0, "zero": 0}
    low, high = _extremes(values)
    # NaN and infinities come through to the extremes: two fast passes say that there are none.
    if np.isfinite(low) and np.isfinite(high):
        return stats, values, low, high
    stats["nan"] = int(np.count_nonzero(np.isnan(values)))
    stats["posinf"] = int(np.count_nonzero(values == np.inf))
    stats["neginf"] = int(np.count_nonzero(values == -np.inf))
    finite = values[np.isfinite(values)]
    return stats, finite, *_extremes(finite)


def _extremes(values: Numbers) -> tuple[Number, Number]:
    if not values.size:
        return values.dtype.type(0), values.dtype.type(0)
    with np.errstate(invalid="ignore"):
        # By chunks, so that the second look at them finds them in the cache.
        found = [(chunk.min(), chunk.max()) for chunk in _chunks(values)]
        lows, highs = np.array(found).T
        return lows.min(), highs.max()


def _chunks(values: Numbers) -> Iterator[Numbers]:
    return (values[start : start + _CHUNK] for start in range(0, values.size, _CHUNK))


def _edges(low: Number, high: Number, bins: int) -> Numbers | None:
    """Return the edges that ``numpy.histogram`` makes, None where it fails."""
    if low == high:
        low, high = low - low.dtype.type(0.5), high + high.dtype.type(0.5)
    edges = np.linspace(low, high, bins + 1, dtype=low.dtype)
    sound = np.isfinite(edges).all() and (edges[1:] > edges[:-1]).all()
    return edges if sound else None


@dataclass(frozen=True)
class _Grid:
    """The edges of bins, and how values are scaled so that a bin is a unit wide.

    A scaled value, as a float32, is off by less than ``margin``, the error of the edges included.
    """

    edges: Numbers
    scale: Number
    margin: Number

    @classmethod
    def of(cls, edges: Numbers) -> _Grid | None:
        """Return the grid of the edges, None if values can't be scaled well enough."""
        number, limits = edges.dtype.type, np.finfo(edges.dtype)
        width = edges[-1] - edges[0]
        scale = number((len(edges) - 1) / width)
        largest = max(abs(edges[0]), abs(edges[-1]))
        # Twice the sum of what each of the roundings may add.
        of_values = np.finfo(np.float32).eps * 16 * (len(edges) - 1)
        margin = np.float32(of_values + limits.eps * 4 * largest * scale)
        sound = limits.tiny <= scale <= limits.max and margin < 0.25
        return cls(edges, scale, margin) if sound else None

    @property
    def bins(self) -> int:
        return len(self.edges) - 1


@dataclass(frozen=True)
class _Moments:
    zero: int
    mean: float
    std: float

    @classmethod
    def of(cls, values: Numbers) -> _Moments:
        zero = int(np.count_nonzero(values == 0))
        return cls(zero, float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)))


def _counted(values: Numbers, grid: _Grid) -> tuple[Numbers, _Moments]:
    """Count the values in the bins of a grid, and find their moments on the way.

    The moments are summed in bins, from a first guess of the mean: nothing overflows, and little
    cancels.
    """
    low, scale, margin = grid.edges[0], grid.scale, grid.margin
    centre = low + ((values[:_CHUNK] - low) * scale).mean() / scale
    to_upper = np.float32((centre - low) * scale) + margin
    tally = _Tally(grid.bins)
    longest = min(_CHUNK, values.size)
    scaled = np.empty(longest, values.dtype)
    # In single precision from where that is enough: half of the bytes, twice as fast.
    places = scaled if values.dtype == np.float32 else np.empty(longest, np.float32)
    upper = np.empty(longest, tally.kind)
    flags = np.empty(longest, bool)
    zero, total, squares = 0, 0.0, 0.0
    for chunk, index in tally.chunks(values):
        size = chunk.size
        x, place, high, flag = scaled[:size], places[:size], upper[:size], flags[:size]
        np.equal(chunk, 0, out=flag)
        zero += np.count_nonzero(flag)
        np.subtract(chunk, centre, out=x)
        np.multiply(x, scale, out=x)
        # Not np.dot: BLAS would start threads for this, and they wait in a busy loop.
        total += float(np.einsum("i->", x))
        if place.dtype != x.dtype:
            np.copyto(place, x, casting="same_kind")
        squares += float(np.einsum("i,i->", place, place))
        np.add(place, to_upper, out=place)
        np.copyto(high, place, casting="unsafe")
        np.subtract(place, 2 * margin, out=place)
        np.copyto(index, place, casting="unsafe")
        np.not_equal(high, index, out=flag)
        near = np.flatnonzero(flag)
        index[near] = np.searchsorted(grid.edges[1:-1], chunk[near], side="right")
    mean = total / values.size
    variance = max(squares / values.size - mean * mean, 0.0)
    moments = _Moments(
        int(zero), float(centre) + mean / float(scale), math.sqrt(variance) / float(scale)
    )
    return tally.counts(), moments


class _Tally:
    """Counts how often each bin is filled in, chunk by chunk."""

    def __init__(self, bins: int) -> None:
        self.bins = bins
        self.paired = bins <= _PAIRED_BINS
        self.kind = np.dtype(np.uint8 if self.paired else np.uint16)
        self._table = np.zeros(bins * bins if self.paired else bins, np.intp)
        self._padding = 0

    def chunks(self, values: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield each chunk with an array for the bins of its values; they are counted then."""
        index = np.empty(min(_CHUNK, values.size) + 1, self.kind)
        for chunk in _chunks(values):
            yield chunk, index[: chunk.size]
            self._add(index, chunk.size)

    def _add(self, index: Numbers, size: int) -> None:
        keys = index[:size]
        if self.paired:
            if size % 2:
                index[size] = 0
                self._padding += 1
            keys = index[: size + size % 2].view(np.uint16)
            keys = keys - (keys >> 8) * np.uint16(256 - self.bins)
        self._table += np.bincount(keys, minlength=self._table.size)

    def counts(self) -> Numbers:
        if not self.paired:
            return self._table
        pairs = self._table.reshape(self.bins, self.bins)
        counts: Numbers = pairs.sum(axis=0) + pairs.sum(axis=1)
        counts[0] -= self._padding
        return counts


def _counted_by_numpy(finite: Numbers, bins: int, has_edges: bool) -> tuple[Numbers, Numbers]:
    """Count as ``numpy.histogram`` does; over a wider range where that one can't be divided."""
    if has_edges:
        return np.histogram(finite, bins=bins)
    halves = finite / 2  # so that no difference overflows
    low, high = halves.min(), halves.max()
    narrowest = bins * np.spacing(max(abs(low), abs(high)))
    if high - low < narrowest:
        margin = max(narrowest, 0.25)
        low, high = low - margin, high + margin
    counts, edges = np.histogram(halves, bins=bins, range=(low, high))
    return counts, np.clip(edges, *_HALF_RANGE) * 2
