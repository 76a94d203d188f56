"""Where the validation data come from, found in real trainings."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests.keras_models import data, fit, shared_model
from wandbkeras.callbacks import ValidationData
from wandbkeras.errors import UsageError

Start = Callable[..., wandbkeras.Run]
X, Y = data(10)
ROWS = [10, 3]  # of X and of its columns


class Reader(keras.callbacks.Callback):  # type: ignore[misc]
    """Reads all that was found, twice, at the end of each epoch."""

    def __init__(self, found: ValidationData) -> None:
        super().__init__()
        self.found = found
        self.epochs: list[Any] = []
        self.batches: Any = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.batches = self.found.batches
        if self.batches is None:
            self.epochs.append(None)
            return
        twice = [[(batch.x, batch.y) for batch in self.batches] for _ in range(2)]
        keras.tree.map_structure(np.testing.assert_array_equal, *twice)
        self.epochs.append(twice[0])


def read(found: ValidationData, epochs: int = 1, made: Any = None, **options: Any) -> Reader:
    """Train with the part; return what could be read."""
    reader = Reader(found)
    fit(made or shared_model(), found, reader, epochs=epochs, **options)
    assert found.failures == 0
    return reader


def rows(batches: Any) -> tuple[Any, Any]:
    """Return all inputs and targets of batches of single arrays."""
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))  # type: ignore[return-value]


class Sequence(keras.utils.PyDataset):  # type: ignore[misc]
    """Three batches of X and Y; counts how often each was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.asked.append(index)
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def tf_dataset() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


def data_loader() -> Any:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=4)


STREAMS: dict[str, Callable[[], Any]] = {"PyDataset": Sequence}
if keras.backend.backend() == "tensorflow":
    STREAMS["tf.data"] = tf_dataset
if importlib.util.find_spec("torch"):
    STREAMS["DataLoader"] = data_loader
ARRAYS: dict[str, Any] = {
    "two": (X, Y),
    "three": (X, Y, np.ones(10)),
    "list": [X, Y],
    "tensors": (keras.ops.convert_to_tensor(X), keras.ops.convert_to_tensor(Y)),
}


@pytest.mark.parametrize("kind", [*ARRAYS, *STREAMS])
@pytest.mark.parametrize("given", ["to fit", "to the callback"])
def test_data_of_every_kind_are_found(start: Start, kind: str, given: str) -> None:
    """Given to `fit` or to the callback, they can be read again and again, in every epoch."""
    start()
    given_data = ARRAYS[kind] if kind in ARRAYS else STREAMS[kind]()
    if given == "to fit":
        reader = read(ValidationData(), validation_data=given_data)
    else:
        reader = read(ValidationData(given_data))
    x, y = rows(reader.epochs[0])
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert reader.batches.ordered is (kind in ARRAYS)


def test_a_validation_split_is_found(start: Start) -> None:
    """Keras cuts it off itself; the rows are the last ones, in batches of the size of fit's."""
    start()
    x, y = data(10)
    reader = Reader(ValidationData())
    shared_model().fit(
        x, y, batch_size=2, validation_split=0.3, verbose=0, callbacks=[reader.found, reader]
    )
    assert [len(batch[0]) for batch in reader.epochs[0]] == [2, 1]
    np.testing.assert_array_equal(rows(reader.epochs[0])[0], x[7:])


def test_several_inputs_keep_their_structure(start: Start) -> None:
    """Dicts and lists of arrays come as the model takes them, batch by batch."""
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    both = keras.layers.Concatenate()([left, right])
    heads = {"a": keras.layers.Dense(1, name="a")(both), "b": keras.layers.Dense(2, name="b")(both)}
    made = keras.Model({"left": left, "right": right}, heads)
    made.compile("sgd", "mse")
    x = {"left": np.ones((5, 2)), "right": np.arange(15.0).reshape(5, 3)}
    y = {"a": np.ones(5), "b": np.zeros((5, 2))}
    start()
    reader = Reader(ValidationData())
    callbacks = [reader.found, reader]
    made.fit(x, y, batch_size=3, validation_data=(x, y), verbose=0, callbacks=callbacks)
    (first_x, _), (last_x, last_y) = reader.epochs[0]
    np.testing.assert_array_equal(np.concatenate([first_x["right"], last_x["right"]]), x["right"])
    assert (first_x["left"].shape, last_y["b"].shape, last_y["a"].shape) == ((3, 2), (2, 2), (2,))


def test_what_is_given_is_not_overwritten_by_fit(start: Start) -> None:
    """The callback's three rows stay, although `fit` validates with others."""
    start()
    reader = read(ValidationData((X[:3], Y[:3])), validation_data=(X, Y))
    np.testing.assert_array_equal(rows(reader.epochs[0])[0], X[:3])


def test_fits_data_may_not_be_looked_for(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """Switched off, nothing is found, and one line names the arguments to pass."""
    start()
    reader = read(ValidationData(find=False), epochs=3, validation_data=(X, Y))
    assert reader.epochs == [None] * 3
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if "validation data" in line] == [
        "wandbkeras: there are no validation data to show: pass validation_data=(x, y), or "
        "generator= and validation_steps=, to the callback"
    ]


def test_nothing_is_kept_of_fits_data(start: Start) -> None:
    """After `fit`, the callback lets go of what belongs to it; another `fit` has its own."""
    start()
    found = ValidationData()
    read(found, validation_data=(X, Y))
    assert found.batches is None
    reader = read(found, validation_data=(X[:2], Y[:2]))
    assert len(rows(reader.epochs[0])[0]) == 2


def test_a_model_with_a_fit_of_its_own_is_looked_through(start: Start) -> None:
    """Keras's own `fit` is found below that of a subclass."""

    class Own(keras.Sequential):  # type: ignore[misc]
        def fit(self, *arguments: Any, **options: Any) -> Any:
            validation_data = "not what is looked for"
            assert validation_data
            return super().fit(*arguments, **options)

    made = Own([keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    start()
    reader = read(ValidationData(), made=made, validation_data=(X, Y))
    np.testing.assert_array_equal(rows(reader.epochs[0])[0], X)


def test_without_its_frame_keras_iterator_is_asked(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a version of Keras has another `fit`, its evaluation tells what it reads."""
    monkeypatch.setattr("wandbkeras.callbacks.fit_data._KERAS", ("nowhere.",))
    start()
    for validation in (ARRAYS["three"], *(make() for make in STREAMS.values())):
        reader = read(ValidationData(), validation_data=validation)
        np.testing.assert_array_equal(rows(reader.epochs[0])[0], X)


def batches(count: int, taken: list[int]) -> Iterator[tuple[Any, Any]]:
    """Yield batches of two rows; keep a record of which were taken."""
    for index in range(count):
        taken.append(index)
        yield X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]


@pytest.mark.parametrize("argument", ["generator", "validation_data"])
def test_a_generator_is_advanced_once_as_far_as_told(start: Start, argument: str) -> None:
    """Its batches are kept: epochs and fits read the same ones, and no further one is taken."""
    start()
    taken: list[int] = []
    found = ValidationData(**{argument: batches(5, taken)}, validation_steps=3)
    assert taken == []
    for _ in range(2):
        for epoch in read(found, epochs=2).epochs:
            np.testing.assert_array_equal(rows(epoch)[0], X[:6])
    assert taken == [0, 1, 2]


def test_a_finite_generator_ends_nothing(start: Start) -> None:
    """A generator with fewer batches than told is read to its end, and training goes on."""
    start()
    reader = read(ValidationData(generator=batches(1, []), validation_steps=4), epochs=3)
    assert [len(rows(epoch)[0]) for epoch in reader.epochs] == [2, 2, 2]


def test_an_exhausted_generator_is_reported(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be shown; the reason is said, and training goes on."""
    start()
    empty = batches(0, [])
    history = fit(shared_model(), ValidationData(generator=empty), epochs=2)
    assert len(history["loss"]) == 2
    assert "the generator of validation data is exhausted" in capfd.readouterr().err


def test_the_generator_of_fit_is_never_advanced(start: Start) -> None:
    """What Keras has read of it already may be shown; a part that needs all says what to pass."""
    start()
    callers: set[str] = set()

    def watched() -> Iterator[tuple[Any, Any]]:
        for batch in batches(5, []):
            # Who advances it: how far Keras reads ahead is not the same each time.
            frame: FrameType | None = sys._getframe()
            while frame is not None:
                callers.add(str(frame.f_globals.get("__name__")).partition(".")[0])
                frame = frame.f_back
            yield batch

    reader = read(ValidationData(), validation_data=watched(), validation_steps=2, epochs=2)
    assert "keras" in callers
    assert "wandbkeras" not in callers
    assert len(rows(reader.epochs[0])[0]) >= 2
    assert reader.batches.limit.startswith("fit validates with a generator, which is not advanced")


def test_a_generator_of_fit_that_is_not_validated_with_is_named(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where Keras has not read it either, one line says what to pass."""
    start()
    reader = read(
        ValidationData(), validation_data=batches(5, []), validation_steps=1, validation_freq=2
    )
    assert reader.epochs == [None]
    assert "pass generator= and validation_steps=" in capfd.readouterr().err


@pytest.mark.tensorflow
def test_an_endless_dataset_is_read_as_far_as_fit_evaluates(start: Start) -> None:
    """`validation_steps` of `fit` hold for the callback, too."""
    start()
    endless = tf_dataset().repeat()
    reader = read(ValidationData(), validation_data=endless, validation_steps=2)
    assert len(rows(reader.epochs[0])[0]) == 8
    with pytest.raises(UsageError, match="received an endless dataset; expected validation_steps"):
        ValidationData(tf_dataset().repeat())


def test_the_users_random_numbers_are_left_alone(start: Start) -> None:
    """Data that draw from NumPy's own generator leave no trace in the training."""

    def augmented() -> Iterator[tuple[Any, Any]]:
        while True:
            yield X + np.random.normal(size=X.shape), Y

    def next_number(*callbacks: Any) -> float:
        made = shared_model()
        np.random.seed(3)
        fit(made, *callbacks)
        return np.random.random()

    start()
    assert next_number(ValidationData(generator=augmented(), validation_steps=3)) == next_number()


def test_a_disabled_run_takes_nothing(start: Start) -> None:
    """The generator stays where it is, and no line is said."""
    start(mode="disabled")
    taken: list[int] = []
    reader = read(ValidationData(generator=batches(5, taken), validation_steps=2))
    assert (reader.epochs, taken) == ([None], [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_data": (X, Y), "generator": iter([])}, "received both; expected one"),
        ({"validation_data": (X, Y[:3])}, r"shapes \[\(10, 3\), \(3, 1\)\]; expected the same"),
        ({"validation_data": 3}, "validation_data: received int; expected"),
        ({"validation_data": "x"}, "validation_data: received str; expected"),
        ({"validation_data": (X, Y, Y, Y)}, "a tuple of ndarray, ndarray, ndarray, ndarray; exp"),
        ({"generator": (X, Y), "validation_steps": 0}, "validation_steps: received 0; expected a"),
        ({"generator": lambda: 1}, "generator: received function; expected"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    """The message says what was received and what is expected."""
    with pytest.raises(UsageError, match=message):
        ValidationData(**arguments)
