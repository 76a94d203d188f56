"""Histograms: how the numbers of an array are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wandbkeras.errors import UsageError

MAX_BINS = 512  # W&B refuses histograms of more

Doubles = np.ndarray[Any, np.dtype[np.float64]]
_HALF_RANGE = (np.finfo(np.float64).min / 2, np.finfo(np.float64).max / 2)


class Histogram:
    """The distribution of some numbers, as ``wandb.Histogram``: counts and bin edges.

    Non-finite values don't fail: they are counted in ``stats`` beside the count of all values, and
    the minimum, maximum, mean and standard deviation of the finite ones.

    Args:
        sequence: the numbers, of any shape.
        np_histogram: instead of them, ``(counts, edges)`` as ``numpy.histogram`` returns.
        num_bins: bins of equal width between minimum and maximum, at most 512.

    >>> h = Histogram([0.0, 1.0, 1.0, float("nan")], num_bins=2)
    >>> h.histogram, h.bins, h.stats["nan"]
    ([1, 2], [0.0, 0.5, 1.0], 1)
    """

    def __init__(
        self,
        sequence: Any | None = None,
        np_histogram: tuple[Sequence[float], Sequence[float]] | None = None,
        num_bins: int = 64,
    ) -> None:
        if (sequence is None) == (np_histogram is None):
            raise UsageError("Histogram: expected a sequence or np_histogram=(counts, edges)")
        self.stats: dict[str, float] = {}
        if np_histogram is not None:
            counts, edges = (np.asarray(values) for values in np_histogram)
        else:
            if not 1 <= num_bins <= MAX_BINS:
                raise UsageError(f"Histogram: received num_bins {num_bins}; expected 1 to 512")
            values = _numbers(sequence)
            finite = values[np.isfinite(values)]
            self.stats = _statistics(values, finite)
            counts, edges = _binned(finite, num_bins)
        self.histogram: list[float] = counts.tolist()
        self.bins: list[float] = edges.astype(np.float64).tolist()
        _check(self.histogram, self.bins)

    def to_value(self) -> dict[str, Any]:
        """Return the value that a row holds."""
        value: dict[str, Any] = {
            "_type": "histogram",
            "values": self.histogram,
            "bins": self.bins,
        }
        return {**value, "stats": self.stats} if self.stats else value


def _numbers(sequence: Any) -> Doubles:
    values = np.asarray(sequence).reshape(-1)
    # Kind V holds the small floats that NumPy itself lacks, as bfloat16.
    if values.dtype.kind not in "biufV" or values.dtype.names:
        raise UsageError(f"Histogram: received an array of {values.dtype}; expected numbers")
    return values.astype(np.float64)


def _statistics(values: Doubles, finite: Doubles) -> dict[str, float]:
    stats: dict[str, float] = {
        "count": values.size,
        "nan": int(np.isnan(values).sum()),
        "posinf": int(np.isposinf(values).sum()),
        "neginf": int(np.isneginf(values).sum()),
        "zero": int(values.size - np.count_nonzero(values)),
    }
    if finite.size:
        with np.errstate(over="ignore", invalid="ignore"):
            stats |= {
                "min": float(finite.min()),
                "max": float(finite.max()),
                "mean": float(finite.mean()),
                "std": float(finite.std()),
            }
    return stats


def _binned(finite: Doubles, bins: int) -> tuple[np.ndarray[Any, Any], Doubles]:
    """Count as ``numpy.histogram``, which fails at a very wide or very narrow range."""
    halves = finite / 2  # so that no difference overflows
    low, high = (halves.min(), halves.max()) if finite.size else (0.0, 0.5)
    narrowest = bins * np.spacing(max(abs(low), abs(high)))
    if high - low < narrowest:
        margin = max(narrowest, 0.25)
        low, high = low - margin, high + margin
    counts, edges = np.histogram(halves, bins=bins, range=(low, high))
    return counts, np.clip(edges, *_HALF_RANGE) * 2


def _check(counts: Sequence[float], edges: Sequence[float]) -> None:
    if len(edges) != len(counts) + 1 or not 1 <= len(counts) <= MAX_BINS:
        raise UsageError(
            f"Histogram: received {len(counts)} counts and {len(edges)} edges; expected 1 to "
            f"{MAX_BINS} counts and one edge more"
        )
    if not np.isfinite(edges).all() or not np.isfinite(counts).all():
        raise UsageError("Histogram: received non-finite counts or edges; expected finite numbers")
