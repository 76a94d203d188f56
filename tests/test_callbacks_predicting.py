"""Predictions in the middle of a training, with nothing of it touched."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.keras_models import model
from wandbkeras.callbacks.predicting import predict, thresholds
from wandbkeras.errors import UsageError

X = np.random.default_rng(7).normal(size=(10, 3)).astype(np.float32)


class Watched(keras.Sequential):  # type: ignore[misc]
    """Knows the sizes of the batches that it predicted."""

    def predict_on_batch(self, x: Any) -> Any:
        self.__dict__.setdefault("sizes", []).append(len(x))
        return super().predict_on_batch(x)


def test_every_batch_has_one_size() -> None:
    """The last one is padded, and the padding is not among the answers."""
    made = Watched([keras.Input((3,)), keras.layers.Dense(2)])
    np.testing.assert_allclose(predict(made, X, 4), made.predict(X, verbose=0), rtol=1e-6)
    assert made.sizes == [4, 4, 4]


def test_states_stay_as_training_left_them() -> None:
    """A stateful model of a fixed size predicts from its beginning, and goes on where it was."""
    recurrent = keras.layers.SimpleRNN(2, stateful=True)
    made = keras.Sequential([keras.Input(batch_shape=(4, 3, 1)), recurrent])
    x = X[..., None]
    fresh = made.predict_on_batch(x[:4])
    before = [state.numpy() for state in recurrent.states]
    found = predict(made, x, 32)
    assert len(found) == 10
    np.testing.assert_allclose(found[:4], fresh, rtol=1e-6)
    for state, value in zip(recurrent.states, before, strict=True):
        np.testing.assert_array_equal(state.numpy(), value)


def test_a_model_without_a_row_for_each_input_is_refused() -> None:
    """A mean over the batch is no prediction for its rows."""

    class Mean(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return keras.ops.mean(x)

    with pytest.raises(UsageError, match=r"has the shape \(\); expected a row for each of its 4"):
        predict(Mean(), X, 4)


def test_only_a_loss_of_logits_has_another_threshold() -> None:
    """By output, as the loss says."""
    logits = keras.losses.BinaryCrossentropy(from_logits=True)
    assert thresholds(model(loss=logits)) == {"output": 0.0}
    assert thresholds(model(loss="binary_crossentropy")) == {}
    image = keras.Input((3,))
    heads = {name: keras.layers.Dense(1, name=name)(image) for name in ("a", "b")}
    made = keras.Model(image, heads)
    made.compile(loss={"a": "mse", "b": logits})
    assert thresholds(made) == {"b": 0.0}
