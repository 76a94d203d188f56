"""Histograms of the weights, each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.callbacks.variable_names import parameter_keys
from wandbkeras.data_types import Histogram


class WeightHistograms(Part):
    """Logs each epoch a histogram of every weight of the model, trainable or not.

    The weights of nested models and of layers inside of layers belong to it; shared ones are logged
    once. The keys are ``parameters/<layer>.weights`` and ``parameters/<layer>.bias`` for a layer of
    the model itself that has one or two arrays, as in wandb, and ``parameters/<path of the
    variable>`` for all others. NaN and infinities are counted beside the histogram.
    """

    needs = "weights"

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        # One at a time is copied from the device.
        self.log_epoch(
            epoch,
            {
                key: Histogram(variable.numpy())
                for key, variable in parameter_keys(self.model)
                if variable.dtype != "string"
            },
        )
