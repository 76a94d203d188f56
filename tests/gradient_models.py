"""Small models of every kind that gradients are taken of, each with data; for any backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers, ops

SAMPLES = 12
BATCH = 4


@dataclass(frozen=True)
class Case:
    """A model, built anew each time with the same weights, and what it is trained on.

    ``compiled`` is what ``compile`` takes beside the optimizer, ``reference`` what it takes where
    the same gradients are found in another way; ``data`` are x, y and perhaps weights.
    """

    build: Callable[[], keras.Model]
    data: tuple[Any, ...]
    compiled: dict[str, Any]
    reference: Mapping[str, Any] = field(
        default_factory=lambda: {"run_eagerly": True, "jit_compile": False}
    )

    def model(self, optimizer: Any, **options: Any) -> keras.Model:
        keras.utils.set_random_seed(3)
        made = self.build()
        made.compile(optimizer, **{**self.compiled, **options})
        return made


def _floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).normal(size=(SAMPLES, *shape)).astype(np.float32)


def _normalised() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, kernel_regularizer=keras.regularizers.L2(0.1), name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(1, name="out"),
        ]
    )


def _dropout() -> keras.Model:
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8), layers.Dropout(0.5, seed=4), layers.Dense(1)]
    )


def _embedding() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            layers.Embedding(7, 2),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def _named() -> keras.Model:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    joined = layers.Add()([layers.Dense(3, name="a")(left), layers.Dense(3, name="b")(right)])
    outputs = {
        "small": layers.Dense(1, name="small")(joined),
        "large": layers.Dense(1, name="large")(joined),
    }
    return keras.Model({"left": left, "right": right}, outputs)


class Subclassed(keras.Model):  # type: ignore[misc]
    """Adds a loss of its own, has a normalisation, and is built by its first call."""

    def __init__(self) -> None:
        super().__init__(name="mine")
        self.first = layers.Dense(4, name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.out = layers.Dense(1, name="out")

    def call(self, x: Any, training: bool = False) -> Any:
        hidden = self.norm(self.first(x), training=training)
        self.add_loss(0.5 * ops.mean(ops.square(hidden)))
        return self.out(hidden)


class OwnLoss(keras.Sequential):  # type: ignore[misc]
    """Computes its loss itself, and keeps a metric of it."""

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None
    ) -> Any:
        return 3.0 * ops.mean(ops.abs(ops.subtract(y, y_pred))) + ops.mean(ops.square(x))


def _own_loss() -> keras.Model:
    return OwnLoss([keras.Input((6,)), layers.Dense(1, name="out")])


def _half() -> keras.Model:
    policy = "mixed_float16"
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="relu", dtype=policy),
            layers.BatchNormalization(dtype=policy),
            layers.Dense(1, dtype=policy),
            layers.Activation("linear", dtype="float32"),
        ]
    )


_X, _Y = _floats(6), _floats(1)
_MSE: dict[str, Any] = {"loss": "mse", "metrics": ["mae"]}
CASES = {
    "normalised, regularised, weighted": Case(
        _normalised, (_X, _Y, np.linspace(0, 3, SAMPLES, dtype=np.float32)), _MSE
    ),
    "dropout": Case(_dropout, (_X, _Y), _MSE),
    "embedding": Case(_embedding, (np.arange(SAMPLES * 3).reshape(-1, 3) % 5, _Y), _MSE),
    "dicts and loss weights": Case(
        _named,
        (
            {"left": _floats(4), "right": _floats(4) ** 2},
            {"small": _Y, "large": _Y**2},
        ),
        {
            "loss": {"small": "mse", "large": "mae"},
            "loss_weights": {"small": 1.0, "large": 100.0},
        },
    ),
    "subclassed with add_loss": Case(Subclassed, (_X, _Y), _MSE),
    "compute_loss": Case(_own_loss, (_X, _Y), {}),
    # Half precision is rounded in other places when it is not compiled.
    "mixed_float16": Case(_half, (_X, _Y), _MSE, {}),
}
if keras.backend.backend() != "torch":  # there the step would compile for minutes, and the pass not
    CASES["jit_compile"] = Case(_normalised, (_X, _Y), {**_MSE, "jit_compile": True})
