"""What an inference computes: multiply-adds as counted by hand, on whatever backend Keras has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import wandbkeras
from tests.keras_models import fit, model
from wandbkeras import WandbCallback
from wandbkeras.callbacks import FlopsLogger, model_flops
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def stack(shape: tuple[int, ...], *parts: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *parts])


def attention() -> keras.Model:
    taken = keras.Input((10, 32))
    return keras.Model(taken, layers.MultiHeadAttention(num_heads=4, key_dim=8)(taken, taken))


def embedded() -> keras.Model:
    tokens = keras.Input((7,), dtype="int32")
    return keras.Model(tokens, layers.Dense(3)(layers.Embedding(50, 6)(tokens)))


IMAGE = (16, 16, 4)
# Each model, and its multiply-adds: places put out, times filters, times the kernel's area, times
# the channels that a filter reads; of a transposed convolution the places are those taken in.
BY_HAND: dict[str, tuple[Callable[[], keras.Model], int]] = {
    "dense": (
        lambda: stack((784,), layers.Dense(100, "relu"), layers.Dense(10, "softmax")),
        784 * 100 + 100 * 10,
    ),
    "dense in time": (lambda: stack((6, 5), layers.Dense(3)), 6 * 5 * 3),
    "convolution": (lambda: stack(IMAGE, layers.Conv2D(8, 3)), 14 * 14 * 8 * 9 * 4),
    "padded": (lambda: stack(IMAGE, layers.Conv2D(8, 3, padding="same")), 16 * 16 * 8 * 9 * 4),
    "strided": (
        lambda: stack((17, 15, 4), layers.Conv2D(8, (3, 5), strides=(2, 3), padding="same")),
        9 * 5 * 8 * 15 * 4,
    ),
    "dilated": (lambda: stack(IMAGE, layers.Conv2D(8, 3, dilation_rate=2)), 12 * 12 * 8 * 9 * 4),
    "dilated and padded": (
        lambda: stack((15, 17, 4), layers.Conv2D(8, 3, dilation_rate=3, padding="same")),
        15 * 17 * 8 * 9 * 4,
    ),
    "in groups": (lambda: stack(IMAGE, layers.Conv2D(8, 3, groups=2)), 14 * 14 * 8 * 9 * 2),
    "causal": (
        lambda: stack((16, 4), layers.Conv1D(8, 3, dilation_rate=2, padding="causal")),
        16 * 8 * 3 * 4,
    ),
    "in space": (lambda: stack((8, 8, 8, 4), layers.Conv3D(8, 3)), 6 * 6 * 6 * 8 * 27 * 4),
    "depthwise": (
        lambda: stack(IMAGE, layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2)),
        7 * 7 * 8 * 9,
    ),
    "depthwise dilated": (
        lambda: stack(IMAGE, layers.DepthwiseConv2D(3, dilation_rate=2)),
        12 * 12 * 4 * 9,
    ),
    "separable": (lambda: stack(IMAGE, layers.SeparableConv2D(8, 3)), 14 * 14 * 4 * (9 + 8)),
    "transposed": (
        lambda: stack(IMAGE, layers.Conv2DTranspose(8, 3, strides=2)),
        16 * 16 * 4 * 9 * 8,
    ),
    "transposed and padded": (
        lambda: stack(IMAGE, layers.Conv2DTranspose(8, 3, strides=2, padding="same")),
        16 * 16 * 4 * 9 * 8,
    ),
    # Four gates (a GRU: three), each a kernel and a recurrent kernel, at each step.
    "lstm": (
        lambda: stack((20, 8), layers.LSTM(16), layers.Dense(3)),
        20 * 4 * 16 * (8 + 16) + 16 * 3,
    ),
    "lstm, both ways": (
        lambda: stack((20, 8), layers.Bidirectional(layers.LSTM(16))),
        2 * 20 * 4 * 16 * (8 + 16),
    ),
    "gru": (
        lambda: stack((20, 8), layers.GRU(16, return_sequences=True)),
        20 * 3 * 16 * (8 + 16),
    ),
    # Query, key, value and output of 32 features, and each pair of places twice.
    "attention": (attention, 4 * 10 * 32 * 32 + 2 * 10 * 10 * 32),
    "embedding": (embedded, 7 * 6 * 3),
    "no product": (lambda: stack(IMAGE, layers.MaxPooling2D(), layers.Flatten()), 0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_multiply_adds_are_those_counted_by_hand(name: str) -> None:
    """Exactly, for one sample, with nothing left out."""
    make, expected = BY_HAND[name]
    flops = model_flops(make())
    assert (flops.multiply_adds, flops.unresolved) == (expected, ())


def test_a_large_model_has_the_published_number() -> None:
    """ResNet50: 3.86 GMACs, as its table of layers adds up; GFLOPs of old are half a percent more.

    TensorFlow's profiler counts 7,755,299,312 operations, of which half was recorded.
    """
    flops = model_flops(keras.applications.ResNet50(weights=None))
    assert flops.multiply_adds == 3_857_973_248
    assert flops.gmacs == 3.857973248
    assert flops.gflops_total == 7.715946496
    assert flops.gflops == pytest.approx(7.755299312 / 2, rel=0.002)


def test_what_is_elementwise_counts_half() -> None:
    """``GFLOPs`` is the multiply-adds and half of ten biases, in 10⁹."""
    flops = model_flops(stack((784,), layers.Dense(10)))
    assert (flops.multiply_adds, flops.elementwise) == (7840, 10)
    assert (flops.gflops, flops.gmacs, flops.gflops_total) == (7845e-9, 7840e-9, 15680e-9)


class OfItsOwn(keras.Model):  # type: ignore[misc]
    """A model that only its ``call`` describes, which takes a dict."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.dense = layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs["a"]) + keras.ops.sum(inputs["b"], axis=1, keepdims=True)


def test_inputs_may_be_a_list_or_a_dict() -> None:
    """Each input has its own shape, in the structure that the model takes."""
    a, b = keras.Input((4,), name="a"), keras.Input((6,), name="b")
    out = layers.Dense(2)(layers.Concatenate()([a, b]))
    for inputs in ([a, b], {"a": a, "b": b}):
        assert model_flops(keras.Model(inputs, out)).multiply_adds == 20


def test_a_model_of_its_own_call_tells_what_it_was_called_with() -> None:
    """Once it was called it is built, and its inputs have the shapes that they had then."""
    made = OfItsOwn()
    with pytest.raises(UsageError, match="the model 'own' is not built yet: call it on a batch"):
        model_flops(made)
    made({"a": np.zeros((5, 4), np.float32), "b": np.zeros((5, 6), np.float32)})
    assert model_flops(made).multiply_adds == 12


def test_a_model_of_its_own_build_needs_a_sample() -> None:
    """What it was built with is not what it takes."""
    made = OfItsOwn()
    batch = {"a": np.zeros((5, 4), np.float32), "b": np.zeros((5, 6), np.float32)}
    made(batch)
    made.get_build_config = lambda: {"shapes_dict": {"a_shape": (5, 4), "b_shape": (5, 6)}}
    with pytest.raises(
        UsageError, match="the model 'own' doesn't tell what it takes: pass a batch"
    ):
        model_flops(made)
    assert model_flops(made, batch).multiply_adds == 12


def test_inputs_of_varying_size_need_a_sample() -> None:
    """The number depends on it, so nothing is made up."""
    made = stack((None, None, 3), layers.Conv2D(2, 3, padding="same"))
    with pytest.raises(
        UsageError, match=r"of varying sizes, \(None, None, None, 3\): pass a batch"
    ):
        model_flops(made)
    sample = np.zeros((7, 5, 4, 3), np.float32)
    assert model_flops(made, sample).multiply_adds == 5 * 4 * 2 * 9 * 3


def test_a_model_of_one_batch_size_is_counted_per_sample() -> None:
    """A stateful layer's batch is divided, and its states stay as they are."""
    made = keras.Sequential([keras.Input(batch_shape=(5, 20, 8)), layers.LSTM(16, stateful=True)])
    before = [variable.numpy() for variable in made.variables]
    assert model_flops(made).multiply_adds == 20 * 4 * 16 * (8 + 16)
    for variable, value in zip(made.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_the_three_numbers_are_in_the_summary(start: Start, stored: Stored) -> None:
    """From the beginning of the training, and ``get_flops`` returns the first of them."""
    run = start()
    callback = WandbCallback(compute_flops=True, save_model=False)
    fit(model(), callback)
    run.finish()
    summary = stored(run).summary
    assert (summary["GMACs"], summary["GFLOPs_total"]) == (3e-9, 6e-9)
    assert summary["GFLOPs"] == callback.get_flops() >= 3.5e-9


def test_a_model_that_fit_builds_is_counted(start: Start, stored: Stored) -> None:
    """A model of its own ``call`` has been called when the training begins."""
    run = start()
    made = OfItsOwn()
    made.compile("sgd", "mse")
    x = {"a": np.zeros((8, 4), np.float32), "b": np.zeros((8, 6), np.float32)}
    made.fit(x, np.zeros((8, 3)), verbose=0, callbacks=[FlopsLogger()])
    run.finish()
    assert stored(run).summary["GMACs"] == 12e-9


def test_a_sample_may_be_asked_for(start: Start) -> None:
    """When the training begins, and not before."""
    run = start()
    made = stack((None, 3), layers.Dense(2), layers.GlobalAveragePooling1D())
    part = FlopsLogger(sample=lambda: np.zeros((1, 5, 3), np.float32))
    part.set_model(made)
    part.on_train_begin()
    assert run.summary["GMACs"] == 5 * 3 * 2 / 1e9


# A photo of 5 by 4, one of 6 by 4: the convolution has 2 × 27 multiply-adds for each pixel.
SMALL, LARGE = (np.zeros((4, height, 4, 3), np.float32) for height in (5, 6))
TARGETS = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("given", "fit_with", "height"),
    [
        ({}, {}, 5),
        ({}, {"validation_split": 0.5}, 5),
        ({}, {"validation_data": (LARGE, TARGETS)}, 6),
        ({"validation_data": (LARGE, TARGETS)}, {"validation_data": (SMALL, TARGETS)}, 6),
        ({"validation_data": (LARGE, TARGETS), "find_validation_data": False}, {}, 6),
    ],
)
def test_inputs_of_varying_size_are_as_large_as_the_data(
    start: Start, stored: Stored, given: dict[str, Any], fit_with: dict[str, Any], height: int
) -> None:
    """Of the data given, else of what ``fit`` validates with, else of what it trains on."""
    run = start()
    convolution = layers.Conv2D(2, 3, padding="same")
    made = stack((None, None, 3), convolution, layers.GlobalAveragePooling2D())
    made.compile("sgd", "mse", run_eagerly=True)
    callback = WandbCallback(compute_flops=True, save_model=False, **given)
    made.fit(SMALL, TARGETS, verbose=0, callbacks=[callback], **fit_with)
    run.finish()
    assert stored(run).summary["GMACs"] == pytest.approx(height * 4 * 54 / 1e9)
    assert stored(run).folded.failures == 0


class Photos(keras.utils.PyDataset):  # type: ignore[misc]
    """Training data that are no arrays."""

    num_batches = 1

    def __getitem__(self, index: int) -> Any:
        return SMALL, TARGETS


def test_what_can_not_be_counted_is_said(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once, on standard error and in the run; training goes on, and no number is recorded."""
    run = start()
    made = stack((None, None, 3), layers.Dense(2), layers.GlobalAveragePooling2D())
    made.compile("sgd", "mse")
    made.fit(Photos(), epochs=2, verbose=0, callbacks=[FlopsLogger()])
    run.finish()
    found = stored(run)
    assert "GFLOPs" not in found.summary
    assert found.folded.failures == 1
    said = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(said) == 1
    assert "takes inputs of varying sizes" in said[0]


def test_get_flops_needs_a_model() -> None:
    """The message says how to give it one."""
    with pytest.raises(UsageError, match="there is no model yet"):
        WandbCallback().get_flops()
