"""Histograms of the gradients of training data, at the weights that an epoch ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from wandbkeras.binning import Numbers
from wandbkeras.callbacks.arguments import checked_number
from wandbkeras.callbacks.backends import backend_module
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.callbacks.randomness import untouched_randomness
from wandbkeras.callbacks.training_data import TrainingData
from wandbkeras.callbacks.variable_names import VariableNames, gradient_key
from wandbkeras.data_types import Histogram
from wandbkeras.errors import WandbkerasError


class GradientHistograms(Part):
    """Logs each epoch the gradients of ``training_data``, summed over its batches.

    They are those of the loss that ``fit`` minimises, in training mode, at the weights as they are
    when the epoch ends, found in one further pass over the data. Nothing of the model changes: no
    weight, no optimizer, no metric, no statistics of a normalisation, no random state; so a dropout
    drops the same in each batch. A ``compute_loss`` of the model's own is called, a ``train_step``
    is not. The keys are ``gradients/<layer>/<variable>.gradient``.

    The global random generators are put back. A dataset that shuffles by a generator of its own, as
    one of ``tf.data`` does, shuffles anew in each pass: train on another object than on this one.

    Args:
        training_data: ``(x, y)`` or ``(x, y, sample_weight)`` of arrays or dicts or lists of
            arrays, read in batches of 32; or a ``tf.data.Dataset``, a PyDataset, a DataLoader.
        gradient_batches: how many batches are read at most; default: all.

    Raises:
        UsageError: the data can't be read again in each epoch.
    """

    needs = "model"

    def __init__(self, training_data: Any, gradient_batches: int | None = None) -> None:
        super().__init__()
        limit = checked_number("gradient_batches", gradient_batches, "batches")
        self._batches = TrainingData(training_data, limit)
        self._step: Callable[..., list[Any]] | None = None
        self._variables: list[Any] = []

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._step = None  # the model may have been compiled anew

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self.run.disabled:
            gradients = self.gradients()
            self.log_epoch(
                epoch, {gradient_key(name): Histogram(g) for name, g in gradients.items()}
            )

    def gradients(self) -> dict[str, Numbers]:
        """Return the sums of the gradients now, by the names of the variables."""
        with untouched_randomness():
            sums = self._sums()
        names = VariableNames(self.model)
        return {
            names.of(variable): keras.ops.convert_to_numpy(total)
            for variable, total in zip(self._variables, sums, strict=True)
        }

    def _sums(self) -> list[Any]:
        step = self._gradient_step()
        sums = [keras.ops.zeros(variable.shape, "float32") for variable in self._variables]
        batches = 0
        for batch in self._batches:
            sums = step(sums, *batch)
            batches += 1
        if not batches:
            raise WandbkerasError("training_data: received no batch; expected at least one")
        return sums

    def _gradient_step(self) -> Callable[..., list[Any]]:
        """Return the backend's function, a new one when other variables are to be trained."""
        variables = list(self.model.trainable_variables)
        if self._step is None or list(map(id, variables)) != list(map(id, self._variables)):
            self._step = backend_module().gradient_step(self.model, variables)
            self._variables = variables
        return self._step
