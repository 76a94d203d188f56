"""Where a training is, so that a process which starts again goes on with one clean curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandbkeras.callbacks.best import Best, BestMetric
from wandbkeras.callbacks.metrics import MetricsLogger
from wandbkeras.callbacks.part import Part, never_raises


class Progress(Part):
    """Records after each epoch the step, the batches and the best value; goes on from them.

    When a resumed run's ``fit`` begins at epoch N (``initial_epoch``, or Keras's BackupAndRestore),
    the run is rolled back to where epoch N began: what an interrupted process logged after that no
    longer counts. It must come before the parts whose state it restores.
    """

    def __init__(self, metrics: MetricsLogger, best: BestMetric) -> None:
        super().__init__()
        self.metrics = metrics
        self.best = best
        self._has_begun = False

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._has_begun = False

    @never_raises
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._has_begun:
            self._record(epoch)
            return
        self._has_begun = True
        if self.run.resumed and not self.run.has_begun:
            self._restore(epoch)
        self._record(epoch)

    @never_raises
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._record(self.metrics.epochs_done)

    def _record(self, epoch: int) -> None:
        best = self.best.best
        self.run.record_progress(
            {
                "epoch": epoch,
                "step": self.run.step,
                "batches": self.metrics.batches,
                "monitor": self.best.monitor,
                "best": None if best is None else [best.epoch, best.value],
            }
        )

    def _restore(self, epoch: int) -> None:
        """Go back to where an earlier attempt was when it began this epoch."""
        earlier = [body for body in self.run.earlier_progress() if body["epoch"] == epoch]
        if not earlier:
            return
        known = earlier[-1]
        if known["step"] < self.run.step:
            self.run.roll_back(known["step"])
        self.metrics.batches = known["batches"]
        if known["best"] is not None and known["monitor"] == self.best.monitor:
            self.best.best = Best(*known["best"])
