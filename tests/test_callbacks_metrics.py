"""What a ``fit`` logs: a row an epoch and, when asked for, a row every N batches."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import pytest

import wandbkeras
from tests.keras_models import STEPS_PER_EXECUTION, Scripted, data, fit, model
from wandbkeras import WandbCallback
from wandbkeras.callbacks import MetricsLogger, WandbMetricsLogger
from wandbkeras.callbacks.metrics import learning_rates
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def _rows(run: StoredRun) -> list[dict[str, Any]]:
    return [dict(row.values) for row in run.rows()]


class Spy(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the loss of each execution and the index of its last batch, counted over epochs."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches
        self.epoch = 0
        self.losses: dict[int, float] = {}

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        last = min(batch, self.batches - 1)  # a short last execution counts as a full one
        self.losses[self.epoch * self.batches + last] = float((logs or {})["loss"])


def test_an_epoch_is_a_row_of_what_keras_says(start: Start, stored: Stored) -> None:
    """The rows hold the epoch, the learning rate and every value of Keras's own history."""
    run = start()
    made = model("mae", optimizer=keras.optimizers.SGD(0.25))
    history = fit(made, WandbCallback(save_model=False), epochs=3, validation_data=data(4))
    run.finish()
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"}
    assert _rows(stored(run)) == [
        {"epoch": epoch, "learning_rate": 0.25, **{name: history[name][epoch] for name in history}}
        for epoch in range(3)
    ]
    assert [row.step for row in stored(run).rows()] == [0, 1, 2]


def test_without_validation_there_is_a_row_all_the_same(start: Start, stored: Stored) -> None:
    """What is not in the logs is not in the row."""
    run = start()
    fit(model(), WandbCallback(save_model=False), epochs=1)
    (row,) = _rows(stored(run))
    assert set(row) == {"epoch", "loss", "learning_rate"}


def test_a_schedule_is_followed(start: Start, stored: Stored) -> None:
    """The learning rate is the schedule's value at the end of the epoch."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, decay_steps=1, decay_rate=0.5)
    run = start()
    x, y = data()
    model(optimizer=keras.optimizers.SGD(schedule)).fit(
        x, y, batch_size=4, epochs=3, verbose=0, callbacks=[WandbCallback(save_model=False)]
    )
    rates = [row["learning_rate"] for row in _rows(stored(run))]
    assert rates == pytest.approx([0.5 * 0.5**2, 0.5 * 0.5**4, 0.5 * 0.5**6])


if hasattr(keras.optimizers, "MultiOptimizer"):  # of later versions

    def test_each_of_several_optimizers_has_its_rate(start: Start, stored: Stored) -> None:
        """Under their names, which are numbered where they are equal; a scale around them too."""
        names = (("slow", 0.125), ("slow", 0.25), ("fast", 0.5))
        slow, other, fast = (keras.optimizers.SGD(rate, name=name) for name, rate in names)
        rules = keras.optimizers.OptimizerMap(fast, {".*kernel": slow, ".*bias": other})
        several = keras.optimizers.MultiOptimizer(rules)
        run = start()
        callbacks = [WandbCallback(save_model=False), wandbkeras.WandbMetricsLogger("batch")]
        fit(model(optimizer=several), *callbacks, epochs=1)
        rates = {
            "learning_rate/slow": 0.125, "learning_rate/slow_1": 0.25, "learning_rate/fast": 0.5
        }  # fmt: skip
        batch, epoch, logged = _rows(stored(run))
        assert {key: value for key, value in epoch.items() if "rate" in key} == rates
        for prefix, row in (("batch/", batch), ("epoch/", logged)):
            found = {key.removeprefix(prefix): row[key] for key in row if "rate" in key}
            assert found == rates
        scaled = keras.Sequential([keras.layers.Dense(1)])
        scaled.optimizer = keras.optimizers.LossScaleOptimizer(several)
        assert learning_rates(scaled) == rates


def test_a_learning_rate_that_keras_logs_is_kept(start: Start, stored: Stored) -> None:
    """``LearningRateScheduler`` logs the rate with which the epoch was trained."""
    run = start()
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1))
    history = fit(model(), scheduler, WandbCallback(save_model=False), epochs=2)
    rates = [row["learning_rate"] for row in _rows(stored(run))]
    assert rates == history["learning_rate"] == [0.5, 0.25]


@pytest.mark.parametrize("steps_per_execution", STEPS_PER_EXECUTION[:3])
@pytest.mark.parametrize("frequency", [1, 4, 7])
def test_every_nth_batch_is_logged(
    start: Start, stored: Stored, steps_per_execution: int, frequency: int
) -> None:
    """Batches 0, N, 2 N, … count over epochs, also where Keras runs several at a time."""
    run = start()
    spy = Spy(batches=10)
    x, y = data(10)
    callback = WandbCallback(save_model=False, log_batch_frequency=frequency, batch_prefix="batch/")
    made = model(steps_per_execution=steps_per_execution)
    made.fit(x, y, batch_size=1, epochs=3, verbose=0, callbacks=[callback, spy])
    logged = [row["batch/loss"] for row in _rows(stored(run)) if "batch/loss" in row]
    ends = sorted(spy.losses)
    begins = [0, *(end + 1 for end in ends[:-1])]
    executions = [
        end
        for begin, end in zip(begins, ends, strict=True)
        if any(batch % frequency == 0 for batch in range(begin, end + 1))
    ]
    assert logged == [spy.losses[end] for end in executions]
    assert len(_rows(stored(run))) == len(logged) + 3


def test_counting_goes_on_in_a_second_fit(start: Start, stored: Stored) -> None:
    """A callback that is used again counts its batches on."""
    run = start()
    callback = WandbCallback(save_model=False, log_batch_frequency=5, batch_prefix="batch/")
    x, y = data(8)
    made = model()
    for _ in range(2):
        made.fit(x, y, batch_size=1, epochs=1, verbose=0, callbacks=[callback])
    kinds = ["batch" if "batch/loss" in row else "epoch" for row in _rows(stored(run))]
    assert kinds == ["batch", "batch", "epoch", "batch", "batch", "epoch"]  # 0, 5 | 10, 15


def test_batches_and_epochs_share_names_by_default(start: Start, stored: Stored) -> None:
    """Without a prefix the keys are those of wandb's callback."""
    run = start()
    fit(model("mae"), WandbCallback(save_model=False, log_batch_frequency=1), epochs=1)
    batch, epoch = _rows(stored(run))
    assert set(batch) == {"loss", "mae"}
    assert set(epoch) == {"loss", "mae", "epoch", "learning_rate"}


def test_a_run_that_ends_within_an_epoch_is_followed_by_another(
    start: Start, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its callback has looked for the run once, and looks again when that one has ended."""
    run = start()
    monkeypatch.setenv("WANDB_DIR", str(Path(run.dir or "").parent))
    logger = MetricsLogger(1, "batch_")
    end = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batch or run.finish()
    )
    fit(model(), logger, end, epochs=1, batch_size=1, steps_per_epoch=3)
    another = wandbkeras.run
    assert another is not None and another is not run
    another.finish()
    assert [len(_rows(stored(each))) for each in (run, another)] == [1, 2 + 1]
    assert logger.failures == 0
    assert copy.deepcopy(logger).log_batch_frequency == 1


def test_batches_that_are_not_logged_cost_nothing() -> None:
    """Unless batches are asked for, Keras finds its own empty hook and waits for no device."""
    default = keras.callbacks.Callback.on_train_batch_end
    for callback in (WandbCallback(), MetricsLogger()):
        assert callback.on_train_batch_end.__func__ is default
    for callback in (WandbCallback(log_batch_frequency=2), MetricsLogger(2)):
        assert callback.on_train_batch_end.__func__ is not default


class Threads(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the loss of each batch, and whether Keras waited for it in the training's thread."""

    async_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.losses: dict[int, float] = {}
        self.waited: set[bool] = set()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.losses[batch] = (logs or {})["loss"]
        self.waited.add(threading.current_thread() is threading.main_thread())


def test_no_batch_makes_keras_wait_for_the_device(start: Start, stored: Stored) -> None:
    """On JAX and Torch batches are logged in other threads, in order; TensorFlow always waits."""
    run = start()
    threads = Threads()
    callback = WandbCallback(save_model=False, log_batch_frequency=1, batch_prefix="batch/")
    x, y = data(60)
    model().fit(x, y, batch_size=1, verbose=0, callbacks=[threads, callback])
    run.finish()
    assert threads.waited == {keras.backend.backend() == "tensorflow"}
    logged = [row["batch/loss"] for row in _rows(stored(run)) if "batch/loss" in row]
    assert logged == [threads.losses[batch] for batch in range(60)]


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_batch_end"])
@pytest.mark.parametrize("base", [WandbCallback, MetricsLogger, WandbMetricsLogger])
def test_a_subclass_has_a_batch_hook_of_its_own(
    base: type[keras.callbacks.Callback], hook: str, start: Start, stored: Stored
) -> None:
    """It is called after the batch is logged, in the training's thread, under either name."""
    seen = []

    def own(self: Any, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        seen.append((batch, threading.current_thread() is threading.main_thread(), run.step))

    options = {"save_model": False} if base is WandbCallback else {}
    name = "log_freq" if base is WandbMetricsLogger else "log_batch_frequency"
    run = start()
    callback = type("Own", (base,), {hook: own})(**{name: 1}, **options)
    x, y = data(3)
    model().fit(x, y, batch_size=1, verbose=0, callbacks=[callback])
    run.finish()
    assert seen == [(batch, True, batch + 1) for batch in range(3)]
    assert len(_rows(stored(run))) == 4


def test_keras_own_numbers_are_recorded_exactly(start: Start, stored: Stored) -> None:
    """NaN and infinities of a diverged training arrive as they are."""
    run = start()
    scripted = Scripted(bad=[float("nan"), float("inf")], note=["a", None])
    fit(model(), scripted, WandbCallback(save_model=False))
    run.finish()
    first, second = _rows(stored(run))
    assert first["bad"] != first["bad"]
    assert (second["bad"], first["note"], second["note"]) == (float("inf"), "a", None)


@pytest.mark.parametrize("frequency", [0, -1, 1.5, "4", True])
def test_a_frequency_is_a_number_of_batches(frequency: Any) -> None:
    """Anything else is refused when the callback is made."""
    with pytest.raises(UsageError, match=r"log_batch_frequency: received .*; expected a number of"):
        WandbCallback(log_batch_frequency=frequency)
