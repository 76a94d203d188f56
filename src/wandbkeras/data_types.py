"""Values richer than a number that a run records, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wandbkeras.errors import UsageError

MAX_BINS = 512  # W&B refuses histograms of more


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
            values = np.asarray(sequence).reshape(-1)
            finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            self.stats = _statistics(values, finite)
            counts, edges = np.histogram(finite.astype(np.float64, copy=False), bins=num_bins)
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


def _statistics(values: np.ndarray[Any, Any], finite: np.ndarray[Any, Any]) -> dict[str, float]:
    floating = values.dtype.kind == "f"
    stats: dict[str, float] = {
        "count": values.size,
        "nan": int(np.isnan(values).sum()) if floating else 0,
        "posinf": int(np.isposinf(values).sum()) if floating else 0,
        "neginf": int(np.isneginf(values).sum()) if floating else 0,
        "zero": int(values.size - np.count_nonzero(values)),
    }
    if finite.size:
        stats |= {
            "min": float(finite.min()),
            "max": float(finite.max()),
            "mean": float(finite.mean(dtype=np.float64)),
            "std": float(finite.std(dtype=np.float64)),
        }
    return stats


def _check(counts: Sequence[float], edges: Sequence[float]) -> None:
    if len(edges) != len(counts) + 1 or not 1 <= len(counts) <= MAX_BINS:
        raise UsageError(
            f"Histogram: received {len(counts)} counts and {len(edges)} edges; expected 1 to "
            f"{MAX_BINS} counts and one edge more"
        )
    if not np.isfinite(edges).all() or not np.isfinite(counts).all():
        raise UsageError("Histogram: received non-finite counts or edges; expected finite numbers")
