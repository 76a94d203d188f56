"""Saving in the background: training waits for a copy of the values, and for nothing else."""

from __future__ import annotations

import copy
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests.keras_models import Scripted, data, fit, model
from wandbkeras import WandbCallback
from wandbkeras.callbacks.background import NewestWins
from wandbkeras.errors import DiskFullError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]
LONG_S = 30.0


@keras.saving.register_keras_serializable("tests")
class Held(keras.layers.Layer):  # type: ignore[misc]
    """A layer that tells when its state is to be saved, and gives it when ``free`` is set."""

    free = threading.Event()
    begun = threading.Event()
    threads: list[str] = []  # noqa: RUF012

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale

    def save_own_variables(self, store: Any) -> None:
        self.threads.append(threading.current_thread().name)
        self.begun.set()
        assert self.free.wait(LONG_S)
        super().save_own_variables(store)


@pytest.fixture
def held() -> Iterator[type[Held]]:
    Held.free.clear()
    Held.begun.clear()
    Held.threads.clear()
    yield Held
    Held.free.set()


def held_model(optimizer: str = "adam") -> keras.Model:
    keras.utils.set_random_seed(7)
    layers = [
        keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5), Held(), keras.layers.Dense(1),
    ]  # fmt: skip
    made = keras.Sequential(layers)
    made.compile(optimizer, "mse", run_eagerly=True)  # one batch an epoch: not worth a trace
    return made


class AtEpoch(keras.callbacks.Callback):  # type: ignore[misc]
    """Calls ``action`` at the end of an epoch, with the model."""

    def __init__(self, epoch: int, action: Callable[[keras.Model], Any]) -> None:
        super().__init__()
        self.epoch, self.action = epoch, action
        self.result: Any = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            self.result = self.action(self.model)


def values(made: keras.Model) -> list[Any]:
    """Weights and optimizer: Keras saves no states of seeds."""
    return [variable.numpy() for variable in (*made.weights, *made.optimizer.variables)]


def test_training_goes_on_while_the_model_is_saved(
    start: Start, stored: Stored, held: type[Held]
) -> None:
    """The file is of its epoch, with the optimizer, though it is written epochs later."""
    run = start()
    saved = AtEpoch(0, values)
    release = AtEpoch(3, lambda _: (held.begun.wait(LONG_S), held.free.set()))
    callback = WandbCallback(monitor="score", save_model="background")
    fit(held_model(), Scripted(score=[1.0, 2.0, 2.0, 2.0]), callback, saved, release, epochs=4)
    run.finish()
    (version,) = stored(run).artifacts
    assert (version.aliases, version.metadata["epoch"]) == (("latest", "best", "epoch_0"), 0)
    assert threading.current_thread().name not in held.threads
    loaded = wandbkeras.load_model(run.dir or "")
    for found, expected in zip(values(loaded), saved.result, strict=True):
        np.testing.assert_array_equal(found, expected)
    fit(loaded, epochs=1)


def test_the_newest_of_those_that_wait_is_saved(
    start: Start, stored: Stored, held: type[Held]
) -> None:
    """What has begun is finished; of what comes meanwhile only the last, which is the best."""
    run = start()
    begun = AtEpoch(0, lambda _: held.begun.wait(LONG_S))
    release = AtEpoch(3, lambda _: held.free.set())
    scores = [4.0, 3.0, 2.0, 1.0]
    callback = WandbCallback(monitor="score", save_model="background")
    fit(held_model("sgd"), Scripted(score=scores), callback, begun, release, epochs=4)
    assert [v.metadata["epoch"] for v in stored(run).artifacts] == [0, 3]
    run.finish()


def test_the_run_ends_when_the_last_model_is_saved(
    start: Start, stored: Stored, held: type[Held]
) -> None:
    """Also if the training was interrupted, when Keras calls no end."""

    def interrupt(_: keras.Model) -> None:
        held.begun.wait(LONG_S)
        threading.Timer(0.1, held.free.set).start()  # while finish waits, or before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), start() as run:
        callback = WandbCallback(monitor="loss", save_model="background")
        fit(held_model(), callback, AtEpoch(0, interrupt))
    assert [v.metadata["epoch"] for v in stored(run).artifacts] == [0]
    assert stored(run).state == "failed"


def test_keep_drops_what_was_saved_in_the_background(start: Start, stored: Stored) -> None:
    """The best stays, its file is whole, and the weights alone are as good."""
    run = start()
    callback = WandbCallback(
        monitor="score", save_model="background", save_weights_only=True, keep="best",
        save_optimizer=False,
    )  # fmt: skip
    made = model(optimizer="adam", run_eagerly=True)
    fit(made, Scripted(score=[3.0, 2.0, 1.0]), callback, epochs=3)
    run.finish()
    (version,) = stored(run).artifacts
    assert version.metadata["epoch"] == 2
    loaded = wandbkeras.load_model(run.dir or "", model=model())
    np.testing.assert_array_equal(loaded.get_weights()[0], made.get_weights()[0])


def test_a_failed_save_is_reported(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """As one in the foreground: said once, counted, and the next best model is tried again."""
    monkeypatch.setattr(Held, "save_own_variables", _refuse)
    run = start()
    scores = [2.0, 3.0, 1.0]
    wait = AtEpoch(1, lambda _: callback.parts[-1].on_train_end())
    callback = WandbCallback(monitor="score", save_model="background")
    fit(held_model(), Scripted(score=scores), callback, wait, epochs=3)
    run.finish()
    assert stored(run).artifacts == []
    assert stored(run).folded.failures == 2
    said = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(said) == 1
    assert "BestCheckpoint" in said[0]
    assert "no state for you" in said[0]


def _refuse(self: Held, store: Any) -> None:
    raise ValueError("no state for you")


class NoConfig(keras.Model):  # type: ignore[misc]
    """A model that can be saved and not be copied: its constructor needs what no config has."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


def test_a_model_that_can_not_be_cloned_is_saved_all_the_same(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """While training waits, and one line says so."""
    run = start()
    made = NoConfig(1)
    made.compile("sgd", "mse", run_eagerly=True)
    callback = WandbCallback(
        monitor="score", save_model="background", save_weights_only=True, save_graph=False
    )
    fit(made, Scripted(score=[2.0, 1.0]), callback)
    run.finish()
    assert [v.metadata["epoch"] for v in stored(run).artifacts] == [0, 1]
    said = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(said) == 1
    assert "the model can't be cloned, so it is saved while training waits (" in said[0]


def test_a_callback_can_be_copied_before_it_trains(start: Start, stored: Stored) -> None:
    """As tuners do, which train with a copy of it each time."""
    run = start()
    callback = copy.deepcopy(WandbCallback(monitor="loss", save_model="background"))
    fit(model(run_eagerly=True), callback, epochs=1)
    run.finish()
    assert len(stored(run).artifacts) == 1


def test_the_users_random_numbers_are_left_alone(start: Start) -> None:
    """Making the clone draws seeds for its layers, and gives back the generators as they were."""

    def drawn(*callbacks: Any) -> tuple[float, float]:
        made = model()
        random.seed(1)
        np.random.seed(1)
        fit(made, *callbacks, epochs=1, shuffle=False)
        return random.random(), np.random.random()

    start()
    assert drawn(WandbCallback("loss", save_model="background")) == drawn()


def test_another_model_is_cloned_anew(start: Start, stored: Stored) -> None:
    """One callback for two trainings saves what each of them trained."""
    run = start()
    callback = WandbCallback(monitor="score", save_model="background")
    fit(model(run_eagerly=True), Scripted(score=[2.0]), callback, epochs=1)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    other.compile("sgd", "mse", run_eagerly=True)
    fit(other, Scripted(score=[1.0]), callback, epochs=1)
    run.finish()
    assert wandbkeras.load_model(run.dir or "", 0).output_shape == (None, 1)
    loaded = wandbkeras.load_model(run.dir or "", 1)
    x, _ = data()
    np.testing.assert_array_equal(loaded.predict_on_batch(x), other.predict_on_batch(x))


def test_what_a_job_raises_is_raised_to_whoever_waits() -> None:
    """As a full disk, where ``on_full="raise"`` asked to stop the training."""
    thread = NewestWins()

    def fail() -> None:
        raise DiskFullError("full")

    thread.submit(fail)
    with pytest.raises(DiskFullError):
        thread.wait()
    done: list[int] = []
    thread.submit(lambda: done.append(1))
    thread.wait()
    assert done == [1]


def test_a_forked_process_waits_for_no_thread(start: Start, held: type[Held], store: Path) -> None:
    """The thread is the parent's: a child that ends does so at once."""
    start()
    begun = AtEpoch(0, lambda _: held.begun.wait(LONG_S))
    codes: list[int] = []

    def fork(_: keras.Model) -> None:
        child = os.fork()
        if child == 0:
            wandbkeras.finish()
            os._exit(7)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        held.free.set()

    callback = WandbCallback(monitor="loss", save_model="background")
    fit(held_model(), callback, begun, AtEpoch(1, fork), epochs=2)
    assert codes == [7]
