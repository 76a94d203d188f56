"""The metrics of each epoch and, when asked for, of every N-th batch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import keras

from wandbkeras.callbacks.arguments import checked_number, checked_string
from wandbkeras.callbacks.batch_order import BatchOrder
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.recording.recorder import Run
from wandbkeras.recording.values import plain_value


class MetricsLogger(Part):
    """Logs one row an epoch: ``epoch``, every metric in ``logs`` and ``learning_rate``.

    An optimizer of several has a rate for each: see :func:`learning_rates`.

    Args:
        log_batch_frequency: also log the training metrics every N batches. Batches are counted
            across epochs, and truly: with ``steps_per_execution`` too.
        batch_prefix: put before the names of batch metrics, to keep them apart from the epoch's;
            by default they share their names, as in wandb.

    Keras need not wait for the device to log a batch: on JAX and Torch that is done in other
    threads, as soon as the values are there.
    """

    def __init__(self, log_batch_frequency: int | None = None, batch_prefix: str = "") -> None:
        super().__init__()
        self.log_batch_frequency = checked_number(
            "log_batch_frequency", log_batch_frequency, "batches"
        )
        self.batch_prefix = checked_string("batch_prefix", batch_prefix)
        self.epochs_done = 0
        self._batches_before_epoch = 0
        self._batches_in_epoch = 0
        self._steps_in_epoch = sys.maxsize
        self._run: Run | None = None
        self._order = BatchOrder()
        # TensorFlow is waited for whatever a callback says; a subclass's hook expects to be.
        is_logged = log_batch_frequency is not None
        waits = keras.backend.backend() == "tensorflow" or self.has_own("on_train_batch_end")
        self.async_safe = is_logged and not waits
        if self.async_safe:
            self.hook_batches("on_train_batch_begin", self._begin_batch)
            self.hook_batches("on_train_batch_end", self._log_ended)
        elif is_logged:
            self.hook_batches("on_train_batch_end", self._log_batch)

    @property
    def batches(self) -> int:
        """The batches so far, of all epochs; known if batches are logged."""
        return self._batches_before_epoch + self._batches_in_epoch

    @batches.setter
    def batches(self, batches: int) -> None:
        self._batches_before_epoch, self._batches_in_epoch = batches, 0

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._run = None

    @never_raises
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._run = None  # a callback that is kept, or copied, holds none

    @never_raises
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.batches = self.batches  # the next epoch counts its own from 0
        self._steps_in_epoch = self.params.get("steps") or sys.maxsize
        self._order.clear()

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.epochs_done = epoch + 1
        row = {"epoch": epoch, **(logs or {})}
        self.run.log({**row, **learning_rates(self.model), **row})  # what Keras logs is kept

    @never_raises
    def _begin_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._order.begin(batch)

    @never_raises
    def _log_ended(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log what has ended so far, in order; called in any thread."""
        for last, values in self._order.end(batch, logs):
            self._log_batch(last, values)

    @never_raises
    def _log_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log if batch 0, N, 2 N, … is among those done since the last call.

        Keras passes the index of the last batch of an execution, which may have run several, and
        takes an epoch's last execution for a full one.

        A step of the training has emptied the processor's caches, so what this costs is how much
        code and data it touches: it calls nothing but ``log``, and looks for the run once.
        """
        frequency, before = self.log_batch_frequency, self._batches_before_epoch
        assert frequency is not None
        first = before + self._batches_in_epoch
        self._batches_in_epoch = batch + 1 if batch < self._steps_in_epoch else self._steps_in_epoch
        last = before + self._batches_in_epoch - 1
        if last // frequency * frequency < first:
            return
        run = self._run
        if run is None or run.is_finished:
            run = self._run = self.run
        row, prefix = logs or {}, self.batch_prefix
        run.log({prefix + key: value for key, value in row.items()} if prefix else row)


def learning_rates(model: keras.Model) -> dict[str, float]:
    """Return the optimizer's ``learning_rate``, a schedule's value at the current iteration.

    Of several optimizers in one (Keras's ``MultiOptimizer``) each has its own, called
    ``learning_rate/<name of the optimizer>``. A model without an optimizer has none.
    """
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # LossScaleOptimizer
    if optimizer is None:
        return {}
    several = getattr(optimizer, "optimizers", None)
    if several is None:
        return {"learning_rate": _rate(optimizer)}
    rates: dict[str, float] = {}
    for number, each in enumerate(several):
        name = f"learning_rate/{each.name}"
        rates[f"{name}_{number}" if name in rates else name] = _rate(each)
    return rates


def _rate(optimizer: Any) -> float:
    # What it is depends on Keras, on its backend and, under tf_keras, on the strategy.
    rate = optimizer.learning_rate
    try:
        return float(rate)  # a third of the time: WandbMetricsLogger asks at each batch
    except TypeError:
        return float(plain_value(rate, "learning_rate"))
