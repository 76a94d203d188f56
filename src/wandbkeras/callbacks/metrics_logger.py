"""WandbMetricsLogger: metrics under the keys of wandb's callback of this name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandbkeras.callbacks.metrics import learning_rates
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.errors import UsageError
from wandbkeras.recording.recorder import Run


class WandbMetricsLogger(Part):
    """Logs ``epoch/<metric>`` each epoch and, if asked for, ``batch/<metric>`` every N batches.

    As ``wandb.integration.keras.WandbMetricsLogger``, key by key: ``epoch/epoch`` (from 0),
    ``epoch/learning_rate``, ``batch/batch_step`` and ``batch/learning_rate``; the metrics are drawn
    over ``epoch/epoch`` or ``batch/batch_step``. With ``steps_per_execution``, where wandb's logs
    no batch or some, each of the N-th is there. With a ``MultiOptimizer``, where wandb's fails,
    each of its optimizers has its own ``learning_rate/<name>``.

    Args:
        log_freq: ``epoch``: only epochs. ``batch`` or a number N: batches 0, N, 2 N, … of each
            epoch too; ``batch/batch_step`` counts N up at each.
        initial_global_step: taken for wandb's sake, and without effect: where a schedule of the
            learning rate is, Keras 3's optimizers know themselves.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(self, log_freq: str | int = "epoch", initial_global_step: int = 0) -> None:
        super().__init__()
        if log_freq not in ("epoch", "batch") and not (type(log_freq) is int and log_freq > 0):
            raise UsageError(
                f"log_freq: received {log_freq!r}; expected epoch, batch or a number of batches "
                "from 1"
            )
        if type(initial_global_step) is not int or initial_global_step < 0:
            raise UsageError(
                f"initial_global_step: received {initial_global_step!r}; expected a number from 0"
            )
        self.log_freq = 1 if log_freq == "batch" else log_freq
        self.global_batch = 0
        self._batches_of_epoch = 0
        self._defined: Run | None = None
        if self.log_freq != "epoch":
            self.hook_batches("on_train_batch_end", self._log_batch)

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        run = self.run
        if run is not self._defined:
            self._defined = run
            axis = "epoch/epoch" if self.log_freq == "epoch" else "batch/batch_step"
            run.define_metric(axis)
            run.define_metric(f"{axis.partition('/')[0]}/*", step_metric=axis)

    @never_raises
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._batches_of_epoch = 0

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._log("epoch", {**(logs or {}), "epoch": epoch})

    @never_raises
    def _log_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log if batch 0, N, 2 N, … of the epoch is among those of this execution."""
        first, self._batches_of_epoch = self._batches_of_epoch, batch + 1
        assert isinstance(self.log_freq, int)
        if batch // self.log_freq * self.log_freq >= first:
            self._log("batch", {**(logs or {}), "batch_step": self.global_batch})
            self.global_batch += self.log_freq

    def _log(self, prefix: str, values: dict[str, Any]) -> None:
        values.update(learning_rates(self.model))
        self.run.log({f"{prefix}/{name}": value for name, value in values.items()})
