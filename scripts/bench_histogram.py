"""What a histogram with its statistics costs, beside counts alone."""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bench_figures import Figure, interleaved, ratio

import wandbkeras


def histogram() -> Iterator[Figure]:
    """A histogram of ten million floats with its statistics, beside what has counts alone."""
    values = (np.random.default_rng(0).normal(size=10_000_000) * 0.05).astype(np.float32)
    whole = values.astype(np.float64)
    with tempfile.TemporaryDirectory() as folder:
        arms: dict[str, Callable[[], Any]] = {
            "np.histogram, float32": lambda: np.histogram(values, bins=64),
            "wandbkeras.Histogram, float32": lambda: wandbkeras.Histogram(values),
            "np.histogram, float64": lambda: np.histogram(whole, bins=64),
            "wandbkeras.Histogram, float64": lambda: wandbkeras.Histogram(whole),
        }
        if importlib.util.find_spec("tensorboard") is None:
            print("tf.summary.histogram is left out: tensorboard is not installed")
        else:
            import tensorflow as tf

            writer = tf.summary.create_file_writer(folder)

            def summary() -> None:
                with writer.as_default():
                    tf.summary.histogram("values", values, step=0, buckets=64)

            arms["tf.summary.histogram, float32"] = summary
        spent = interleaved(arms, rounds=9)
    for name, seconds in spent.items():
        yield Figure(name, 1000 * statistics.median(seconds), "ms CPU")
    for kind, budget in (("float32", 0.5), ("float64", None)):  # weights are of single precision
        part = ratio(spent[f"wandbkeras.Histogram, {kind}"], spent[f"np.histogram, {kind}"])
        yield Figure(f"of np.histogram's time, {kind}", part, "", budget)
