"""TensorFlow's graph as a program: what its profiler counts, what that misses, what is opaque."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2_as_graph,
)

from tests.test_callbacks_flops import BY_HAND
from wandbkeras.callbacks import FlopsLogger, model_flops
from wandbkeras.callbacks.cost.inputs import Spec
from wandbkeras.callbacks.cost.tensorflow import count
from wandbkeras.recording.recorder import Run

# What the profiler does not see, or sees otherwise: functions (grouped convolutions, loops),
# Einsum, what dilation pads, and where a transposed convolution without padding ends.
BEYOND_THE_PROFILER = {
    "in groups", "lstm", "lstm, both ways", "gru", "attention", "dilated and padded", "transposed",
}  # fmt: skip
SAME = [name for name in BY_HAND if name not in BEYOND_THE_PROFILER]


def profiled(model: keras.Model) -> int:
    """What wandb's callback had TensorFlow count, before it halved it."""
    specs = [tf.TensorSpec([1, *taken.shape[1:]], taken.dtype) for taken in model.inputs]
    real = tf.function(model).get_concrete_function(*specs)
    frozen, _ = convert_variables_to_constants_v2_as_graph(real)
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    profile = tf.compat.v1.profiler.profile(
        graph=frozen.graph, run_meta=tf.compat.v1.RunMetadata(), cmd="scope", options=options
    )
    total: int = profile.total_float_ops
    return total


def all_kinds() -> keras.Model:
    """A model of many operations on elements."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 4)), layers.Rescaling(0.5, 1.0), layers.BatchNormalization(),
            layers.MaxPooling2D(3, padding="same"), layers.AveragePooling2D(2),
            layers.LayerNormalization(), layers.UnitNormalization(), layers.PReLU(),
            layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax"),
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        *(BY_HAND[name][0] for name in SAME),
        all_kinds,
        lambda: keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None),
    ],
    ids=[*SAME, "all kinds", "MobileNetV2"],
)
def test_gflops_are_half_of_what_the_profiler_counts(make: Callable[[], keras.Model]) -> None:
    """Digit by digit, where it counts all of the model."""
    made = make()
    assert model_flops(made).gflops == profiled(made) / 1e9 / 2


@pytest.mark.parametrize("name", ["in groups", "lstm", "attention"])
def test_what_the_profiler_misses_is_counted(name: str) -> None:
    """It descends into no function and knows no Einsum."""
    made = BY_HAND[name][0]()
    assert 2 * model_flops(made).multiply_adds > 1.1 * profiled(made)


def of(call: Callable[[Any], Any], *shape: int) -> Any:
    return count(call, Spec(shape, "float32"))


def test_a_loop_of_a_known_length_is_counted_whole() -> None:
    """Its variable counts in any steps up to a constant, or up to a number that is handed in."""
    matrix = tf.ones((4, 4))

    def call(taken: Any) -> Any:
        _, out = tf.while_loop(lambda i, x: i < 11, lambda i, x: (i + 3, x @ matrix), (0, taken))
        _, out = tf.while_loop(
            lambda i, x: tf.less(i, 9), lambda i, x: (i + 1, x @ matrix), (4, out)
        )
        return out

    flops = of(call, 2, 4)
    assert (flops.multiply_adds, flops.unresolved) == ((4 + 5) * 2 * 4 * 4, ())


def test_a_loop_of_an_unknown_length_is_said() -> None:
    """One round is counted, and the number is known to be too small."""

    def call(taken: Any) -> Any:
        return tf.while_loop(
            lambda x: tf.reduce_sum(x) < 9, lambda x: (x @ tf.ones((4, 4)),), [taken]
        )

    flops = of(call, 2, 4)
    assert flops.multiply_adds == 2 * 4 * 4
    assert flops.unresolved == ("a loop: one round of a number not known",)


def test_of_branches_the_largest_is_counted() -> None:
    """And it is said that the other one computes less."""

    def call(taken: Any) -> Any:
        return tf.cond(tf.reduce_sum(taken) > 0, lambda: taken @ tf.ones((4, 4)), lambda: taken)

    flops = of(call, 2, 4)
    assert flops.multiply_adds == 2 * 4 * 4
    assert flops.unresolved == ("of the branches of a condition only the largest is counted",)


def test_what_is_not_needed_is_not_counted() -> None:
    """An operation that no output depends on is never done."""

    def call(taken: Any) -> Any:
        _ = taken @ tf.ones((4, 400))
        return taken + 1.0

    assert of(call, 2, 4).multiply_adds == 0


def test_a_cudnn_layer_is_its_gates() -> None:
    """On a GPU a recurrent layer is one operation, as large as the loop that it replaces."""

    def call(taken: Any) -> Any:
        state = tf.zeros((1, 2, 16))
        return tf.raw_ops.CudnnRNNV3(
            input=taken, input_h=state, input_c=state, params=tf.zeros(4 * 16 * (8 + 16) + 8 * 16),
            sequence_lengths=[20, 20], rnn_mode="lstm",
        ).output  # fmt: skip

    assert of(call, 20, 2, 8).multiply_adds == 2 * 20 * 4 * 16 * (8 + 16)


class Opaque(keras.layers.Layer):  # type: ignore[misc]
    """A layer that calls back into Python, where no graph can see."""

    def call(self, inputs: Any) -> Any:
        out = tf.numpy_function(lambda x: x, [inputs], tf.float32)
        return tf.ensure_shape(out, inputs.shape)


def test_an_operation_that_tells_nothing_is_said(
    start: Callable[..., Run], capfd: pytest.CaptureFixture[str]
) -> None:
    """The numbers are recorded all the same, with the warning that they are too small."""
    run = start()
    part = FlopsLogger()
    part.set_model(keras.Sequential([keras.Input((3,)), Opaque(), layers.Dense(2)]))
    part.on_train_begin()
    assert run.summary["GMACs"] == 6e-9
    assert "GFLOPs and GMACs are too small, not counted: PyFunc" in capfd.readouterr().err
    assert run.dir is not None
