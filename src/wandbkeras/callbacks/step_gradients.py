"""Histograms of the gradients of the training's own steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandbkeras.callbacks.arguments import checked_number
from wandbkeras.callbacks.backends import backend_module
from wandbkeras.callbacks.gradient_tap import (
    EXACT,
    GradientTap,
    leaf_optimizers,
    tap_point,
)
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.callbacks.variable_names import VariableNames, gradient_key
from wandbkeras.errors import WandbkerasError

_INEXACT = (
    "this {} has no _backend_update_step: its gradients are recorded as they are passed to apply, "
    "before they are accumulated and clipped"
)
_NO_UPDATE = (
    "the optimizer made no update in the steps that were followed: a LossScaleOptimizer skips "
    "gradients that are not finite, an epoch may be shorter than what is accumulated, and an "
    "optimizer of another make can't be followed (pass training_data= then)"
)


class StepGradientHistograms(Part):
    """Logs each epoch the gradients of some of its training steps, as the optimizer uses them.

    That is unscaled, summed over replicas, accumulated and clipped. No step is computed twice, and
    the weights become what they would have. A step without an update (gradients are being
    accumulated, or a LossScaleOptimizer skips it) is followed until there is one. The keys are
    ``gradients/<layer>/<variable>.gradient``; the counts of several steps are added.

    The values are counted on the device, as float32, in buckets at most an eighth of their size
    wide, and drawn in 64 bins; count, NaN, infinities, zeros and extremes are exact.

    Args:
        gradient_frequency: count the steps 0, N, 2 N, … of each epoch; default: the first of each.
            With ``steps_per_execution`` it is all steps of the execution that such a step is in.
    """

    needs = "model"

    def __init__(self, gradient_frequency: int | None = None) -> None:
        super().__init__()
        self.gradient_frequency = checked_number("gradient_frequency", gradient_frequency, "steps")
        self._tap: GradientTap | None = None
        self._steps_per_execution = 1
        # Whether the latest sample still waits for an update, the one after so many.
        self._waits = False
        self._updates_before = 0

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        model, tap = self.model, self._tap
        self._tap, self._waits = None, False
        if self.run.disabled:
            return
        if tap is None or tap.model is not model:
            tap = GradientTap(model, backend_module().UpdateCounter(model))
        tap.counter.take()  # what an interrupted training has left
        for optimizer in leaf_optimizers(model):
            if tap_point(optimizer) != EXACT:
                self.notice(_INEXACT.format(type(optimizer).__name__))
        self._steps_per_execution = model.steps_per_execution
        self._tap = tap

    @never_raises
    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        tap = self._tap
        if tap is None:
            return
        if self._waits:
            self._waits = tap.counter.updates() == self._updates_before
        if not self._waits and self._is_sampled(batch):
            self._waits = True
            self._updates_before = tap.counter.updates() if tap.may_skip else 0
        if self._waits:
            self._tap = None  # should this fail, it is not tried again
            tap.arm()
            self._tap = tap
            self._waits = tap.may_skip

    def _is_sampled(self, batch: int) -> bool:
        """Whether the execution that begins with this batch has a step to be counted."""
        if self.gradient_frequency is None:
            return batch == 0
        return -batch % self.gradient_frequency < self._steps_per_execution

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        tap = self._tap
        if tap is None:
            return
        names = VariableNames(self.model)
        self._updates_before = 0
        histograms = {
            gradient_key(names.of(variable)): counts.to_histogram()
            for variable, counts in tap.counter.take()
            if counts.counts.any()
        }
        if histograms:
            self.log_epoch(epoch, histograms)
        error, tap.error = tap.error, None
        if error is not None:
            raise error
        if not histograms:
            raise WandbkerasError(_NO_UPDATE)
