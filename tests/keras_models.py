"""Small real models and data for the tests of the callbacks; importing this loads Keras."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

# Torch's executions have one step.
STEPS_PER_EXECUTION = (1,) if keras.backend.backend() == "torch" else (1, 2, 3, 6)


def data(samples: int = 8) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return inputs of three features and targets of 0 and 1, the same each time."""
    generator = np.random.default_rng(7)
    x = generator.normal(size=(samples, 3)).astype(np.float32)
    return x, (x.sum(axis=1, keepdims=True) > 0).astype(np.float32)


def model(*metrics: Any, loss: str = "mse", optimizer: Any = "sgd", **options: Any) -> keras.Model:
    """Return a compiled model of one layer, with the same weights each time."""
    keras.utils.set_random_seed(7)
    layers = [keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid", name="out")]
    made = keras.Sequential(layers)
    made.compile(loss=loss, optimizer=optimizer, metrics=list(metrics), **options)
    return made


@functools.cache
def shared_model() -> keras.Model:
    """One model for tests that don't look at its weights: its training is compiled once."""
    return model()


class Scripted(keras.callbacks.Callback):  # type: ignore[misc]
    """Puts given values into the logs of each epoch, as callbacks that compute a metric do."""

    def __init__(self, **values: Sequence[Any]) -> None:
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        assert isinstance(logs, dict)
        logs.update({name: series[epoch] for name, series in self.values.items()})


def fit(made: keras.Model, *callbacks: Any, epochs: int = 2, **options: Any) -> Any:
    """Train on :func:`data`; return Keras's own history."""
    x, y = data()
    return made.fit(x, y, epochs=epochs, verbose=0, callbacks=list(callbacks), **options).history
