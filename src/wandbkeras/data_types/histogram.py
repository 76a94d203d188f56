"""Histograms: how the numbers of an array are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wandbkeras.binning import Numbers, binned
from wandbkeras.errors import UsageError

MAX_BINS = 512  # W&B refuses histograms of more

_MOST = np.iinfo(np.int64).max


class Histogram:
    """The distribution of some numbers, as ``wandb.Histogram``: counts and bin edges.

    Counts and edges are those of ``numpy.histogram``, also of its single-precision edges for
    single-precision values. Non-finite values don't fail: they are counted in ``stats`` beside the
    count of all values and of zeros, and the minimum, maximum, mean and standard deviation of the
    finite ones.

    Args:
        sequence: the numbers, of any shape.
        np_histogram: instead of them, ``(counts, edges)`` as ``numpy.histogram`` returns.
        num_bins: bins of equal width between minimum and maximum, at most 512.

    >>> h = Histogram([0.0, 1.0, 1.0, float("nan")], num_bins=2)
    >>> h.histogram, h.bins, h.stats["nan"]
    ([1, 2], [0.0, 0.5, 1.0], 1)
    """

    _log_type = "histogram"  # wandb's own mark: ours and its are told apart from the rest by it

    def __init__(
        self,
        sequence: Any | None = None,
        np_histogram: tuple[Sequence[float] | Numbers, Sequence[float] | Numbers] | None = None,
        num_bins: int = 64,
    ) -> None:
        if (sequence is None) == (np_histogram is None):
            raise UsageError("Histogram: expected a sequence or np_histogram=(counts, edges)")
        self.stats: dict[str, float] = {}
        if np_histogram is not None:
            counts, edges = (_plain(values) for values in np_histogram)
        else:
            if not 1 <= num_bins <= MAX_BINS:
                raise UsageError(f"Histogram: received num_bins {num_bins}; expected 1 to 512")
            found = binned(_numbers(sequence), num_bins)
            counts, edges, self.stats = found.counts, found.edges, found.stats
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


def _plain(numbers: Any) -> Numbers:
    """Return counts or edges as integers that a file can hold, or as 64-bit floats."""
    values = np.asarray(numbers)
    if values.dtype.kind not in "biuf":
        raise UsageError(f"Histogram: received an array of {values.dtype}; expected numbers")
    fits = values.dtype.kind != "u" or not values.size or values.max() <= _MOST
    return values.astype(np.int64 if values.dtype.kind != "f" and fits else np.float64)


def _numbers(sequence: Any) -> Numbers:
    """Return the elements in one row, as float32 where that holds each exactly, else as float64."""
    values = np.asarray(sequence).reshape(-1)
    # Kind V holds the small floats that NumPy itself lacks, as bfloat16.
    if values.dtype.kind not in "biufV" or values.dtype.names:
        raise UsageError(f"Histogram: received an array of {values.dtype}; expected numbers")
    is_single = values.dtype.kind in "fV" and values.dtype.itemsize <= 4
    return values.astype(np.float32 if is_single else np.float64, copy=False)


def _check(counts: Sequence[float], edges: Sequence[float]) -> None:
    if len(edges) != len(counts) + 1 or not 1 <= len(counts) <= MAX_BINS:
        raise UsageError(
            f"Histogram: received {len(counts)} counts and {len(edges)} edges; expected 1 to "
            f"{MAX_BINS} counts and one edge more"
        )
    if not np.isfinite(edges).all() or not np.isfinite(counts).all():
        raise UsageError("Histogram: received non-finite counts or edges; expected finite numbers")
