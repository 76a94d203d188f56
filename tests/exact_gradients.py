"""A training whose gradients NumPy knows to the last bit; for any backend.

The loss is the mean of y times the prediction, so that the gradients don't depend on the weights;
inputs and targets are small whole numbers and the batches powers of two, so that no order of
summation and no scale rounds anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from wandbkeras.callbacks import bit_counts
from wandbkeras.callbacks.bit_counts import BitCounts

Array = np.ndarray[Any, Any]

BATCH, BATCHES, INPUTS, OUTPUTS = 4, 8, 16, 8


def data() -> tuple[Array, Array]:
    """Whole numbers from -8 to 8, a third of the targets 0."""
    generator = np.random.default_rng(11)
    x = generator.integers(-8, 9, (BATCH * BATCHES, INPUTS))
    y = generator.integers(-4, 5, (BATCH * BATCHES, OUTPUTS))
    y[generator.random(y.shape) < 0.3] = 0
    return x.astype(np.float32), y.astype(np.float32)


def linear(y: Any, predicted: Any) -> Any:
    return keras.ops.mean(y * predicted, axis=-1)


def model(optimizer: Any, **options: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    made = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(OUTPUTS, name="line")])
    made.compile(optimizer, linear, **options)
    return made


def gradients(batch: int, x: Array, y: Array) -> dict[str, Array]:
    """The gradients of a batch, by the names of the variables."""
    rows = slice(batch * BATCH, (batch + 1) * BATCH)
    slope = y[rows] / np.float32(BATCH * OUTPUTS)
    with np.errstate(invalid="ignore"):
        return {"line/kernel": x[rows].T @ slope, "line/bias": slope.sum(axis=0)}


def counts_of(values: Array) -> BitCounts:
    """What the steps should count of an array, found by NumPy."""
    bits = values.astype(np.float32).reshape(-1).view(np.uint32)
    bucket = (bits >> bit_counts.LOWER_BITS).astype(np.int64)
    bucket[np.isnan(values).reshape(-1)] = bit_counts.NAN
    bucket[values.reshape(-1) == 0] = bit_counts.ZERO
    counts = np.bincount(bucket, minlength=bit_counts.BUCKETS)
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return BitCounts(counts)
    return BitCounts(
        counts, finite.min(), finite.max(), float(finite.sum()), float((finite**2).sum())
    )


def expected(updates: Sequence[dict[str, Array]]) -> dict[str, dict[str, Any]]:
    """The values that a row should have of these updates, by key."""
    together = {
        name: counts_of(np.stack([update[name] for update in updates])) for name in updates[0]
    }
    return {
        f"gradients/{name}.gradient": counts.to_histogram().to_value()
        for name, counts in together.items()
    }
