"""Histograms of weights: every variable once, under wandb's names where it had one.

For any backend: KERAS_BACKEND chooses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import wandbkeras
from tests.keras_models import fit, model
from wandbkeras import Histogram
from wandbkeras.callbacks import MetricsLogger, WeightHistograms
from wandbkeras.callbacks.variable_names import parameter_keys
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


class Gate(layers.Layer):  # type: ignore[misc]
    """A layer of one's own, with a weight and with a layer inside."""

    def __init__(self) -> None:
        super().__init__(name="gate")
        self.inner = layers.Dense(6, name="inner")

    def build(self, shape: Any) -> None:
        self.slope = self.add_weight(shape=(shape[-1],), name="slope")
        self.fixed = self.add_weight(shape=(2,), name="fixed", trainable=False)
        self.inner.build(shape)

    def call(self, x: Any) -> Any:
        return self.inner(x) * self.slope


def _everything() -> keras.Model:
    nested = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, name="deep"), layers.Dense(6, name="deeper")],
        name="nested",
    )
    shared = layers.Dense(6, name="shared")
    ids = keras.Input((4,), dtype="int32")
    x = layers.Embedding(9, 6, name="words")(ids)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.LSTM(6, name="lstm")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = shared(shared(nested(Gate()(x))))
    return keras.Model(ids, layers.Dense(1, use_bias=False, name="out")(layers.Dropout(0.5)(x)))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, StoredRun]:
    """A model of every kind of layer, fitted for an epoch and recorded."""
    store: Path = tmp_path_factory.mktemp("runs")
    made = _everything()
    made.compile("sgd", "mse", run_eagerly=True, jit_compile=False)
    ids = np.arange(32).reshape(8, 4) % 9
    with wandbkeras.init(dir=store, id="k3j9x2ab"):
        made.fit(ids, np.ones((8, 1)), verbose=0, callbacks=[WeightHistograms()])
    return made, Store(store).run("k3j9x2ab")


def test_every_weight_is_recorded_once(recorded: tuple[keras.Model, StoredRun]) -> None:
    """Trainable or not, of shared, nested, recurrent and own layers, as the epoch leaves it."""
    made, run = recorded
    ((row,),) = [list(run.rows())]
    values = dict(row.values)
    assert values.pop("epoch") == 0
    expected = {key: Histogram(v.numpy()).to_value() for key, v in parameter_keys(made)}
    assert values == expected
    assert len(values) == len(made.weights)
    assert sum(v["stats"]["count"] for v in values.values()) == made.count_params()


def test_the_names_are_wandbs_where_it_had_one(recorded: tuple[keras.Model, StoredRun]) -> None:
    """Layers with one or two arrays; all others have their variables' paths."""
    (row,) = recorded[1].rows()
    assert {key.removeprefix("parameters/") for key in row.values if key != "epoch"} == {
        "words.weights", "shared.weights", "shared.bias", "out.weights",
        "attention/query/kernel", "attention/query/bias", "attention/key/kernel",
        "attention/key/bias", "attention/value/kernel", "attention/value/bias",
        "attention/attention_output/kernel", "attention/attention_output/bias",
        "lstm/lstm_cell/kernel", "lstm/lstm_cell/recurrent_kernel", "lstm/lstm_cell/bias",
        "norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance",
        "gate/slope", "gate/fixed", "gate/inner/kernel", "gate/inner/bias",
        "nested/deep/kernel", "nested/deep/bias", "nested/deeper/kernel", "nested/deeper/bias",
    }  # fmt: skip


class Mine(keras.Model):  # type: ignore[misc]
    """Two of its layers have the same name."""

    def __init__(self) -> None:
        super().__init__(name="mine")
        self.blocks = [layers.Dense(2, name="same"), layers.Dense(2, name="same")]
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x: Any) -> Any:
        return self.norm(self.blocks[1](self.blocks[0](x)))[:, :1]


def test_a_model_of_ones_own_has_its_layers_names(start: Start, stored: Stored) -> None:
    """Without that of the model itself; equal names are numbered."""
    run, made = start(), Mine()
    made.compile("sgd", "mse", run_eagerly=True, jit_compile=False)
    fit(made, WeightHistograms(), epochs=1)
    (row,) = stored(run).rows()
    assert {key.removeprefix("parameters/") for key in row.values if key != "epoch"} == {
        "same.weights", "same.bias", "same/kernel_1", "same/bias_1",
        "norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance",
    }  # fmt: skip


def test_weights_that_are_not_numbers_end_no_training(start: Start, stored: Stored) -> None:
    """NaN and infinite weights are counted, the finite ones drawn."""
    run, made = start(), model(optimizer=keras.optimizers.SGD(0.0))
    made.get_layer("out").kernel.assign([[float("nan")], [float("inf")], [2.0]])
    part = WeightHistograms()
    assert len(fit(made, part)["loss"]) == 2
    first, _ = (row.values["parameters/out.weights"] for row in stored(run).rows())
    stats: Mapping[str, Any] = first["stats"]
    assert (stats["count"], part.failures) == (3, 0)
    assert stats["nan"] + stats["posinf"] + stats["neginf"] + sum(first["values"]) == 3
    assert stats["nan"] > 0


def test_half_precision_weights_are_counted(start: Start, stored: Stored) -> None:
    """Of float16 and bfloat16."""
    run = start()
    made = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2, dtype="bfloat16", name="brain"),
            layers.Dense(1, dtype="float16", name="half"),
        ]
    )
    made.compile("sgd", "mse", run_eagerly=True, jit_compile=False)
    made.set_weights([np.full(v.shape, 0.5) for v in made.weights])
    part = WeightHistograms()
    part.set_model(made)
    part.on_epoch_end(0)
    (row,) = stored(run).rows()
    for name in ("brain", "half"):
        stats = row.values[f"parameters/{name}.weights"]["stats"]
        assert (stats["min"], stats["max"]) == (0.5, 0.5)


def test_beside_the_metrics_it_is_one_row(start: Start, stored: Stored) -> None:
    """A part that doesn't commit adds to the row that the metrics complete."""
    run, part = start(), WeightHistograms()
    part.commits = False
    fit(model(), part, MetricsLogger())
    rows = [list(row.values) for row in stored(run).rows()]
    keys = ["parameters/out.weights", "parameters/out.bias", "epoch", "loss", "learning_rate"]
    assert [sorted(row) for row in rows] == [sorted(keys)] * 2
