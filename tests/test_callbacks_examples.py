"""`examples` of real trainings, as they lie in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests.keras_models import fit, model
from tests.pictures import pictures, pixels
from wandbkeras import WandbCallback
from wandbkeras.callbacks import Examples, ValidationData
from wandbkeras.callbacks.mask_colors import palette
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]
ANIMALS = ["cat", "dog", "owl"]
PHOTOS = np.random.default_rng(7).random((12, 6, 5, 1)).astype(np.float32)
KINDS = np.arange(12) % 3


def compiled(inputs: Any, outputs: Any, loss: Any) -> keras.Model:
    made = keras.Model(inputs, outputs)
    made.compile(keras.optimizers.SGD(0.5), loss)
    return made


def classifier(units: int, activation: str | None, loss: Any) -> keras.Model:
    keras.utils.set_random_seed(7)
    photo = keras.Input((6, 5, 1), name="photo")
    flat = keras.layers.Flatten()(photo)
    return compiled(photo, keras.layers.Dense(units, activation=activation)(flat), loss)


class Predicting(keras.callbacks.Callback):  # type: ignore[misc]
    """What the model predicts for given inputs at the end of each epoch."""

    def __init__(self, x: Any) -> None:
        super().__init__()
        self.x = x
        self.epochs: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(self.model.predict(self.x, verbose=0))


def train(made: keras.Model, x: Any, y: Any, *callbacks: Any, **options: Any) -> Any:
    chosen = {"epochs": 2, "verbose": 0, "validation_data": (x, y), **options}
    return made.fit(x, y, callbacks=list(callbacks), **chosen).history


def callback(**arguments: Any) -> WandbCallback:
    return WandbCallback(save_model=False, monitor="loss", **arguments)


def test_each_epoch_shows_the_same_rows_with_its_own_captions(start: Start, stored: Stored) -> None:
    """Four of twelve images, chosen once; a caption is what the model says of its image then."""
    run = start()
    made = classifier(3, "softmax", "sparse_categorical_crossentropy")
    spy = Predicting(PHOTOS)
    train(made, PHOTOS, KINDS, callback(input_type="image", labels=ANIMALS, predictions=4), spy)
    first, second = pictures(stored(run), "examples")
    assert [content for content, _ in first] == [content for content, _ in second]
    expected = [np.rint(photo[..., 0] * 255).tolist() for photo in PHOTOS]
    shown = [expected.index(pixels(content).tolist()) for content, _ in first]
    assert shown == sorted(set(shown)) != [0, 1, 2, 3]
    for said, scores in zip((first, second), spy.epochs, strict=True):
        assert [text for _, text in said] == [ANIMALS[i] for i in scores[shown].argmax(1)]
    rows = [row.values for row in stored(run).rows()]
    assert [(row["epoch"], "examples" in row, "loss" in row) for row in rows] == [
        (0, True, True),
        (1, True, True),
    ]


@pytest.mark.parametrize(
    ("activation", "loss", "threshold"),
    [
        ("sigmoid", "binary_crossentropy", 0.5),
        (None, keras.losses.BinaryCrossentropy(from_logits=True), 0.0),
    ],
)
def test_each_caption_of_a_binary_model_is_its_own(
    start: Start, stored: Stored, activation: str | None, loss: Any, threshold: float
) -> None:
    """Not that of the first row; a loss that takes logits divides them at zero."""
    run = start()
    spy = Predicting(PHOTOS)
    bright = (PHOTOS.mean(axis=(1, 2, 3)) > 0.5)[:, None]
    watcher = callback(input_type="image", labels=["dark", "bright"])
    made = classifier(1, activation, loss)
    made.layers[-1].set_weights([np.full((30, 1), 20 / 30), np.array([-10.0])])  # by brightness
    train(made, PHOTOS, bright, spy, watcher, epochs=1)
    ((scores,), (shown,)) = spy.epochs, pictures(stored(run), "examples")
    answers = (scores[:, 0] > threshold).tolist()
    assert [text for _, text in shown] == [["dark", "bright"][answer] for answer in answers]
    assert set(answers) == {True, False}


def test_numpys_generator_is_not_disturbed(start: Start) -> None:
    """What a user draws after the training is what it would have been."""

    def drawn(*callbacks: Any) -> float:
        made = classifier(3, "softmax", "sparse_categorical_crossentropy")
        np.random.seed(1)
        train(made, PHOTOS, KINDS, *callbacks, epochs=1)
        return np.random.random()

    start()
    assert drawn(callback(input_type="image", predictions=3)) == drawn()


def test_training_is_not_disturbed(start: Start) -> None:
    """Losses, dropout and statistics included, are bit for bit those without the callback."""

    def losses(*callbacks: Any) -> Any:
        keras.utils.set_random_seed(7)
        photo = keras.Input((6, 5, 1))
        hidden = keras.layers.BatchNormalization()(keras.layers.Flatten()(photo))
        scores = keras.layers.Dense(3)(keras.layers.Dropout(0.5)(hidden))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return train(compiled(photo, scores, loss), PHOTOS, KINDS, *callbacks, batch_size=5)

    start()
    watched = losses(callback(input_type="image", log_evaluation=True, log_evaluation_frequency=1))
    assert watched == losses()


def test_several_inputs_and_outputs_are_shown(start: Start, stored: Stored) -> None:
    """The input that is an image, and all outputs that are labels, by name."""
    keras.utils.set_random_seed(7)
    photo, age = keras.Input((6, 5, 1), name="photo"), keras.Input((1,), name="age")
    both = keras.layers.Concatenate()([keras.layers.Flatten()(photo), age])
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(both)
    heads = [kind, keras.layers.Dense(1, name="weight")(both)]
    losses = ["sparse_categorical_crossentropy", "mse"]
    run = start()
    x = [PHOTOS, np.ones((12, 1), np.float32)]
    spy = Predicting(x)
    watcher = callback(input_type="auto", labels=ANIMALS)
    train(compiled([photo, age], heads, losses), x, [KINDS, np.ones(12)], spy, watcher, epochs=1)
    (scores, weights), (shown,) = spy.epochs[0], pictures(stored(run), "examples")
    assert [text for _, text in shown] == [
        f"kind: {ANIMALS[score.argmax()]}, weight: {weight:.4g}"
        for score, weight in zip(scores, weights[:, 0].tolist(), strict=True)
    ]


@pytest.mark.parametrize("axis", [(), (1,)])
def test_masks_of_integers_are_coloured_as_predictions_are(
    start: Start, stored: Stored, axis: tuple[int, ...]
) -> None:
    """Image, prediction, reference: both masks by one palette, with or without a channel."""
    keras.utils.set_random_seed(7)
    photo = keras.Input((6, 5, 1))
    scores = keras.layers.Dense(3, activation="softmax")(photo)
    made = compiled(photo, scores, lambda y, scores: keras.ops.mean(scores))
    masks = (np.arange(12 * 30) % 3).reshape(12, 6, 5, *axis)
    run = start()
    spy = Predicting(PHOTOS)
    watcher = callback(input_type="image", output_type="segmentation_mask")
    train(made, PHOTOS, masks, spy, watcher, epochs=1)
    (shown,) = pictures(stored(run), "examples")
    assert len(shown) == 36
    for row in range(12):
        image, predicted, reference = (pixels(content) for content, _ in shown[3 * row :][:3])
        np.testing.assert_array_equal(image, np.rint(PHOTOS[row, ..., 0] * 255))
        np.testing.assert_array_equal(predicted, palette(3)[spy.epochs[0][row].argmax(-1)])
        np.testing.assert_array_equal(reference, palette(3)[masks[row].reshape(6, 5)])


@pytest.mark.tensorflow
def test_a_dataset_that_comes_in_another_order_shows_the_same_rows(
    start: Start, stored: Stored
) -> None:
    """The first rows of the first reading are kept."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((PHOTOS, KINDS)).shuffle(12).batch(5)
    run = start()
    made = classifier(3, "softmax", "sparse_categorical_crossentropy")
    watcher = callback(input_type="image", predictions=7)
    made.fit(dataset, validation_data=dataset, epochs=3, verbose=0, callbacks=[watcher])
    first, second, third = (
        [content for content, _ in shown] for shown in pictures(stored(run), "examples")
    )
    assert len(first) == 7
    assert first == second == third


def test_without_targets_or_names_pictures_come_all_the_same(start: Start, stored: Stored) -> None:
    """A subclassed model that makes images of images has input and output."""

    class Copying(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = keras.layers.Dense(1)

        def call(self, x: Any) -> Any:
            return self.layer(x)

    made = Copying()
    made.compile("sgd", "mse")
    run = start()
    watcher = callback(input_type="image", validation_data=PHOTOS[:2])
    train(made, PHOTOS, PHOTOS, watcher, epochs=1, validation_data=None)
    assert [len(shown) for shown in pictures(stored(run), "examples")] == [4]


def test_a_combination_without_a_picture_is_said_and_counted(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the types turn out to be labels, the message names them, and training goes on."""
    run = start()
    history = fit(model(), callback(input_type="auto"), validation_data=(np.ones((4, 3)),) * 2)
    assert len(history["loss"]) == 2
    run.finish()
    said = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(said) == 1
    assert "the input_type is 'label' and the output_type is 'label'; expected one of" in said[0]
    assert stored(run).folded.failures == 2


def test_labels_that_do_not_fit_are_said_when_training_begins(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once; a class without a name is called by its number."""

    class Listening(keras.callbacks.Callback):  # type: ignore[misc]
        said = ""

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            Listening.said += capfd.readouterr().err

    run = start()
    made = classifier(3, "softmax", "sparse_categorical_crossentropy")
    watcher = callback(input_type="image", labels=["a", "b", "c", "d"], log_evaluation=True)
    train(made, PHOTOS, KINDS, watcher, Listening())
    line = "labels: received 4 names; the model's outputs have the shapes {'output': (None, 3)}"
    assert Listening.said.count(line) == 1
    assert len(pictures(stored(run), "examples")) == 2


def test_the_part_alone_logs_rows_of_its_own(start: Start, stored: Stored) -> None:
    """Without the whole callback each epoch is a row; the types are guessed."""
    run = start()
    data = ValidationData()
    made = classifier(3, "softmax", "sparse_categorical_crossentropy")
    train(made, PHOTOS, KINDS, data, Examples(data, predictions=2))
    assert [set(row.values) for row in stored(run).rows()] == [{"examples", "epoch"}] * 2


def test_no_hook_of_a_batch_is_taken() -> None:
    """So Keras waits for no device: whatever is shown, its own empty hooks stay."""
    whole = callback(input_type="image", log_evaluation=True)
    for part in (whole, *whole.parts):
        for hook in ("train_batch_begin", "train_batch_end", "test_batch_end", "batch_end"):
            default = getattr(keras.callbacks.Callback, f"on_{hook}")
            assert getattr(part, f"on_{hook}").__func__ is default


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": None}, "predictions: received None; expected a number from 1 to 100"),
        ({"predictions": 0}, "predictions: received 0; expected"),
        ({"predictions": 1.5}, "predictions: received 1.5; expected"),
        ({"predictions": True}, "predictions: received True; expected"),
        ({"input_type": "picture"}, "input_type: received 'picture'; expected one of image, "),
        ({"output_type": 3}, "output_type: received 3; expected one of image, "),
        ({"input_type": "label", "output_type": "label"}, "expected one of image, images, segm"),
        ({"output_type": "label"}, "the input_type is None and the output_type is 'label'"),
        ({"labels": "cat"}, "labels: received 'cat'; expected a list"),
        ({"class_colors": [(255, 0, 0)]}, "class_colors: received .* between 0 and 1"),
        ({"data_type": "image", "input_type": "image"}, "received data_type and input_type"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    """Also where no examples were asked for."""
    with pytest.raises(UsageError, match=message):
        callback(**arguments)


def test_more_than_a_hundred_are_a_hundred(start: Start, stored: Stored) -> None:
    """As in wandb, no more are shown; the old name of the type is taken."""
    run = start()
    many = np.zeros((120, 6, 5, 1), np.float32)
    made = classifier(3, "softmax", "sparse_categorical_crossentropy")
    watcher = callback(data_type="image", predictions=500)
    train(made, many, np.zeros(120), watcher, epochs=1)
    assert [len(shown) for shown in pictures(stored(run), "examples")] == [100]
