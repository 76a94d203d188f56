"""WandbMetricsLogger where wandb's fails or says nothing; where it doesn't, they are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests.keras_models import STEPS_PER_EXECUTION, fit, model
from wandbkeras import WandbMetricsLogger
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def batch_steps(run: StoredRun) -> list[Any]:
    """Of each row its ``batch/batch_step``, ``epoch`` for that of an epoch."""
    return [row.values.get("batch/batch_step", "epoch") for row in run.rows()]


EXECUTIONS = {
    1: ("batch", [0, 1, 2, 3, 4, 5, "epoch"]),
    2: (2, [0, 2, 4, "epoch"]),
    3: (2, [0, 2, "epoch"]),  # batches 0 and 2 in the first execution, 4 in the second
    6: (4, [0, "epoch"]),
}


@pytest.mark.parametrize("steps", STEPS_PER_EXECUTION)
def test_batches_are_logged_in_executions_of_several(
    start: Start, stored: Stored, steps: int
) -> None:
    """A row of each execution that holds the N-th batch, where Keras tells of its last one only."""
    freq, expected = EXECUTIONS[steps]
    run = start()
    made = model(steps_per_execution=steps)
    x, y = np.zeros((6, 3), np.float32), np.zeros((6, 1), np.float32)
    made.fit(x, y, batch_size=1, verbose=0, callbacks=[WandbMetricsLogger(freq)])
    run.finish()
    assert batch_steps(stored(run)) == expected


def test_a_second_fit_counts_on(start: Start, stored: Stored) -> None:
    """``batch/batch_step`` rises through all trainings, and the axes are defined once."""
    run = start()
    logger = WandbMetricsLogger("batch")
    made = model(run_eagerly=True)
    for _ in range(2):
        fit(made, logger, epochs=1, batch_size=4)
    run.finish()
    assert batch_steps(stored(run)) == [0, 1, "epoch", 2, 3, "epoch"]
    defined = [event.body["name"] for event in stored(run).events() if event.type == "metric"]
    assert defined == ["batch/batch_step", "batch/*"]


def test_a_model_without_optimizer_has_no_learning_rate(start: Start, stored: Stored) -> None:
    """The other metrics are logged."""
    run = start()
    logger = WandbMetricsLogger()
    logger.set_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
    logger.on_train_begin()
    logger.on_epoch_end(0, {"loss": 0.5})
    run.finish()
    assert [row.values for row in stored(run).rows()] == [{"epoch/loss": 0.5, "epoch/epoch": 0}]


def test_batches_that_are_not_logged_cost_nothing() -> None:
    """Without them the hook is Keras's own, for which no device is waited for."""
    assert WandbMetricsLogger.on_train_batch_end is keras.callbacks.Callback.on_train_batch_end
    assert "on_train_batch_end" not in vars(WandbMetricsLogger())
    assert "on_train_batch_end" in vars(WandbMetricsLogger("batch"))


@pytest.mark.parametrize("freq", ["epochs", 0, -1, 1.5, True, None])
def test_a_wrong_frequency_is_refused(freq: Any) -> None:
    """At once, with what was received and expected."""
    with pytest.raises(UsageError, match=r"log_freq: received .*; expected epoch, batch or a num"):
        WandbMetricsLogger(freq)


@pytest.mark.parametrize("step", [-1, 1.5, True, None])
def test_a_wrong_first_step_is_refused(step: Any) -> None:
    """A number from 0 is expected."""
    with pytest.raises(UsageError, match=r"initial_global_step: received .*; expected a number"):
        WandbMetricsLogger(initial_global_step=step)
