"""What gradients are on TensorFlow alone: slices, replicas, unbuilt models, steps of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import wandbkeras
from tests.exact_gradients import BATCH, BATCHES, data, gradients, linear, model
from tests.test_callbacks_step_gradients import check, rows_of, train
from wandbkeras.callbacks import GradientHistograms, StepGradientHistograms
from wandbkeras.callbacks.backends import tensorflow
from wandbkeras.callbacks.bit_counts import BUCKETS, LOWER_BITS, NAN, ZERO
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]
Array = np.ndarray[Any, Any]
SGD = keras.optimizers.SGD

X, Y = data()


def found(part: GradientHistograms, made: keras.Model) -> dict[str, Array]:
    part.set_model(made)
    return part.gradients()


def test_a_tape_written_by_hand_finds_the_same() -> None:
    """Normalisation over the batch, a regulariser, sample weights: each batch's mean, summed."""
    keras.utils.set_random_seed(2)
    generator = np.random.default_rng(2)
    x = generator.normal(size=(48, 4)).astype(np.float32)
    y = generator.normal(size=(48, 2)).astype(np.float32)
    weight = generator.random(48).astype(np.float32)
    first = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.3), name="first")
    norm, out = keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2, name="out")
    made = keras.Sequential([keras.Input((4,)), first, norm, out])
    made.compile("sgd", "mse")
    got = found(GradientHistograms((x, y, weight)), made)

    variables = [first.kernel, first.bias, norm.gamma, norm.beta, out.kernel, out.bias]
    sums = [np.zeros(v.shape) for v in variables]
    for rows in (slice(0, 32), slice(32, 48)):
        with tf.GradientTape() as tape:
            hidden = x[rows] @ first.kernel.value + first.bias.value
            centred = hidden - tf.reduce_mean(hidden, axis=0)
            scale = tf.math.rsqrt(tf.reduce_mean(centred**2, axis=0) + norm.epsilon)
            normal = centred * scale * norm.gamma.value + norm.beta.value
            error = normal @ out.kernel.value + out.bias.value - y[rows]
            loss = tf.reduce_mean(weight[rows] * tf.reduce_mean(error**2, axis=1))
            loss += 0.3 * tf.reduce_sum(first.kernel.value**2)
        for total, gradient in zip(
            sums, tape.gradient(loss, [v.value for v in variables]), strict=True
        ):
            total += gradient.numpy()
    for got_one, expected in zip(got.values(), sums, strict=True):
        np.testing.assert_allclose(got_one, expected, rtol=1e-6, atol=1e-6)


def _embedding() -> tuple[keras.Model, Array, Array]:
    """A sum of embeddings times y: a row's gradient is the sum of the y where it occurs."""
    layers = [keras.Input((3,), dtype="int32"), keras.layers.Embedding(9, 4, name="rows")]
    pool = keras.layers.Lambda(lambda x: keras.ops.sum(x, axis=1), output_shape=(4,))
    made = keras.Sequential([*layers, pool])
    made.compile(SGD(), linear)
    ids = np.array([[0, 0, 1], [2, 0, 5], [5, 5, 5], [1, 2, 3]])
    y = Y[:4, :4]
    expected = np.zeros((9, 4), np.float32)
    for row, target in zip(ids, y, strict=True):
        np.add.at(expected, row, target / 16)
    return made, ids, expected


def test_rows_of_an_embedding_that_occur_twice_add_up(start: Start, stored: Stored) -> None:
    """In both ways of finding gradients; rows that don't occur are zeros, and counted as such."""
    run = start()
    made, ids, expected = _embedding()
    np.testing.assert_array_equal(
        found(GradientHistograms((ids, Y[:4, :4])), made)["rows/embeddings"], expected
    )
    made.fit(ids, Y[:4, :4], verbose=0, shuffle=False, callbacks=[StepGradientHistograms()])
    check(rows_of(stored(run)), [{"rows/embeddings": expected}])
    assert (expected == 0).all(axis=1).sum() == 4


def test_a_model_that_is_built_by_its_first_step_is_followed(start: Start, stored: Stored) -> None:
    """Also that step is."""
    run = start()
    made = keras.Sequential([keras.layers.Dense(8, name="line")])
    made.compile(SGD(), linear)
    train(made, StepGradientHistograms(), epochs=1)
    check(rows_of(stored(run)), [gradients(0, X, Y)])


def test_the_last_batch_may_be_smaller(start: Start, stored: Stored) -> None:
    """A step of another shape is compiled and counted like any other."""
    run, part = start(), StepGradientHistograms(1)
    made = model(SGD())
    rows = BATCH + 2
    made.fit(X[:rows], Y[:rows], BATCH, verbose=0, shuffle=False, callbacks=[part])
    padded = np.r_[Y[:rows], np.zeros_like(Y)]
    last = {name: 2 * values for name, values in gradients(1, X, padded).items()}
    check(rows_of(stored(run)), [gradients(0, X, Y), last])


class TwoOptimizers(keras.Model):  # type: ignore[misc]
    """Trains its two layers alternately in a step of its own, as adversarial networks are."""

    def __init__(self) -> None:
        super().__init__(name="two")
        self.line = keras.layers.Dense(8, name="line")
        self.other = keras.layers.Dense(8, name="other")
        self.second_optimizer = SGD()

    def call(self, x: Any) -> Any:
        return self.line(x), self.other(x)

    def train_step(self, batch: Any) -> dict[str, Any]:
        x, y = batch
        pairs = [(self.line, self.optimizer), (self.other, self.second_optimizer)]
        for layer, optimizer in pairs:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(linear(y, layer(x)))
            variables = layer.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


def test_all_optimizers_of_a_step_of_ones_own_are_followed(start: Start, stored: Stored) -> None:
    """Each variable has the gradient that its own optimizer applied."""
    run = start()
    made = TwoOptimizers()
    made(X[:1])  # builds it
    made.compile(SGD())
    train(made, StepGradientHistograms(), epochs=1)
    line = gradients(0, X, Y)
    others = {name.replace("line", "other"): values for name, values in line.items()}
    check(rows_of(stored(run)), [{**line, **others}])


def test_a_dataset_of_tensorflow_is_read_again_each_epoch(start: Start) -> None:
    """Its batches are its own; of an endless one as many are read as are asked for."""
    start()
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
    made = model(SGD())
    whole = [gradients(batch, X, Y) for batch in range(BATCHES)]
    for part, batches in (
        (GradientHistograms(dataset), BATCHES),
        (GradientHistograms(dataset.repeat(), 2), 2),
    ):
        for _ in range(2):
            for name, values in found(part, made).items():
                np.testing.assert_array_equal(values, sum(g[name] for g in whole[:batches]))


REPLICAS = """
    import sys
    from contextlib import nullcontext

    import keras
    import tensorflow as tf
    import wandbkeras
    from tests.exact_gradients import BATCH, data, model
    from wandbkeras.callbacks import GradientHistograms, StepGradientHistograms

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    SGD, Scaled = keras.optimizers.SGD, keras.optimizers.LossScaleOptimizer
    x, y = data()
    for name, make, inside in [
        ("plain", SGD, False), ("scaled", lambda: Scaled(SGD()), True),
    ]:
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            made = model(make())
        parts = [StepGradientHistograms(2), GradientHistograms((x[:BATCH], y[:BATCH]))]
        scope = strategy.scope() if inside else nullcontext()
        with wandbkeras.init(dir=sys.argv[1], id=name), scope:
            made.fit(x, y, BATCH, verbose=0, shuffle=False, callbacks=parts)
        assert [part.failures for part in parts] == [0, 0], name
"""


def test_on_two_replicas_the_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """Of MirroredStrategy's update; with loss scaling too, and within its scope."""
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REPLICAS), str(tmp_path)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
        check=True,
    )
    store = wandbkeras.Store(tmp_path)
    for name in ("plain", "scaled"):
        of_steps, of_data = rows_of(store.run(name))
        check([of_steps], [gradients(batch, X, Y) for batch in range(0, BATCHES, 2)])
        for key, values in gradients(0, X, Y).items():
            found_one = of_data[f"gradients/{key}.gradient"]
            assert found_one == wandbkeras.Histogram(values).to_value()


@pytest.mark.parametrize(
    "values",
    [
        [0.5, -2.0, 3.0, 1e-3],
        [0.0, -0.0, 1e-40, -1e-40, 0.25, -0.5],  # zeros, and denormal numbers beside them
        [1e30, -3e30, 2e38],  # whose squares overflow
        [1e-30, -3e-30, 0.0],  # whose squares vanish
        [0.0, -0.0],
        [1.0, np.nan, np.inf, -np.inf, np.inf, 0.0],
        [np.nan],
    ],
)
def test_few_passes_count_what_many_would(values: list[float]) -> None:
    """The counts are those of each value's bits, the moments those of the finite ones."""
    array = np.array(values, np.float32)
    counts, moments = tensorflow._counted(tf.constant(array))
    bits = array.view(np.uint32)
    buckets = np.where(np.isnan(array), NAN, np.where(array == 0, ZERO, bits >> LOWER_BITS))
    np.testing.assert_array_equal(counts, np.bincount(buckets, minlength=BUCKETS))
    low, high, scale, ratios, squares = moments.numpy().astype(float)
    finite = array[np.isfinite(array)].astype(float)
    assert (low, high) == (finite.min(initial=np.inf), finite.max(initial=-np.inf))
    np.testing.assert_allclose(scale * ratios, finite.sum(), rtol=1e-6, atol=1e-45)
    np.testing.assert_allclose(scale * scale * squares, (finite**2).sum(), rtol=1e-6)
