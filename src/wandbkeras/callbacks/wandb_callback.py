"""WandbCallback: the parts under one name, with the arguments of wandb's old callback."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import keras

from wandbkeras.callbacks.any_keras import AnyKerasCallback
from wandbkeras.callbacks.arguments import checked_flag
from wandbkeras.callbacks.best import BestMetric
from wandbkeras.callbacks.checkpoint import BestCheckpoint
from wandbkeras.callbacks.flops import FlopsLogger, model_flops
from wandbkeras.callbacks.gradients import GradientHistograms
from wandbkeras.callbacks.graph import GraphLogger
from wandbkeras.callbacks.histograms import WeightHistograms
from wandbkeras.callbacks.metrics import MetricsLogger
from wandbkeras.callbacks.part import Part
from wandbkeras.callbacks.progress import Progress
from wandbkeras.callbacks.step_gradients import StepGradientHistograms
from wandbkeras.errors import UsageError

_ARGUMENTS = (
    "monitor",
    "verbose",
    "mode",
    "save_weights_only",
    "log_weights",
    "log_gradients",
    "save_model",
    "training_data",
    "save_optimizer",
    "save_graph",
    "compute_flops",
    "log_batch_frequency",
    "log_best_prefix",
    "batch_prefix",
    "keep",
    "gradient_batches",
    "gradient_frequency",
)


class WandbCallback(AnyKerasCallback):
    """Records a ``fit`` into the active run, starting one if there is none.

    Names, defaults and keys are those of ``wandb.keras.WandbCallback``. No hook raises into
    training: a part that fails says so once, and the others go on. Only ``init(on_full="raise")``
    stops it, with a :class:`wandbkeras.errors.DiskFullError`, when the disk is full.

    Args:
        monitor: the metric that decides what is best.
        verbose: with 1, say per epoch if the model improved, as Keras's ModelCheckpoint does.
        mode: ``min``, ``max`` or ``auto``: see :class:`wandbkeras.callbacks.BestMetric`.
        save_weights_only: save a ``.weights.h5`` file instead of the whole ``.keras`` model.
        log_weights: log a histogram of every weight each epoch: see
            :class:`wandbkeras.callbacks.WeightHistograms`.
        log_gradients: log histograms of the gradients each epoch: those of the training's own
            steps, see :class:`wandbkeras.callbacks.StepGradientHistograms`, or with
            ``training_data`` their sum over that, see
            :class:`wandbkeras.callbacks.GradientHistograms`.
        save_model: save the model of each best epoch as a version of the artifact ``model-<run>``;
            ``background``: in another thread, while the training goes on.
        save_optimizer: whether that has the state of the optimizer, to train on from it.
        save_graph: put the model's graph into the summary's ``graph``.
        compute_flops: put ``GFLOPs``, ``GMACs`` and ``GFLOPs_total`` of one inference into the
            summary: see :class:`wandbkeras.callbacks.FlopsLogger`.
        training_data: the data whose gradients are logged.
        log_batch_frequency: log the training metrics every N batches; None: only each epoch.
        log_best_prefix: the summary keys are ``<prefix><monitor>`` and ``<prefix>epoch``; None
            keeps them out, and nothing else.
        batch_prefix: put before the names of batch metrics; by default they share the epoch's.
        keep: which saved models stay in the run: ``all``, ``best``, or a number: the best and so
            many of the latest.
        gradient_batches: how many batches of ``training_data`` are read at most; default: all.
        gradient_frequency: count the gradients of the steps 0, N, 2 N, … of each epoch; default:
            of the first.

    Raises:
        UsageError: an argument is wrong or unknown.

    >>> import wandbkeras
    >>> wandbkeras.WandbCallback(monitr="val_loss")
    Traceback (most recent call last):
    wandbkeras.errors.UsageError: WandbCallback: unknown argument 'monitr'; did you mean 'monitor'?
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        verbose: int = 0,
        mode: str = "auto",
        save_weights_only: bool = False,
        log_weights: bool = False,
        log_gradients: bool = False,
        save_model: bool | str = True,
        training_data: Any = None,
        save_optimizer: bool = True,
        save_graph: bool = True,
        compute_flops: bool = False,
        log_batch_frequency: int | None = None,
        log_best_prefix: str | None = "best_",
        batch_prefix: str = "",
        keep: str | int = "all",
        gradient_batches: int | None = None,
        gradient_frequency: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        _refuse(unknown)
        if save_model not in (True, False, "background"):
            raise UsageError(
                f"save_model: received {save_model!r}; expected True, False or 'background'"
            )
        best = BestMetric(monitor, mode, log_best_prefix)
        metrics = MetricsLogger(log_batch_frequency, batch_prefix)
        gradients = _gradient_part(
            log_gradients, training_data, gradient_batches, gradient_frequency
        )
        # Progress first: it restores the others. Metrics after what adds to an epoch's row, and
        # before best: `best_…` of an epoch is set after its row, as in wandb.
        self.parts: list[Part] = [Progress(metrics, best)]
        if checked_flag("log_weights", log_weights):
            self.parts.append(WeightHistograms())
        if gradients is not None:
            self.parts.append(gradients)
        self.parts += [metrics, best]
        if checked_flag("save_graph", save_graph):
            self.parts.append(GraphLogger())
        if checked_flag("compute_flops", compute_flops):
            self.parts.append(FlopsLogger())
        if save_model:
            background = save_model == "background"
            self.parts.append(
                BestCheckpoint(best, save_weights_only, verbose, keep, save_optimizer, background)
            )
        for part in self.parts:
            part.said = best.said
            part.commits = False
        if log_batch_frequency is not None:
            self.on_train_batch_end = metrics.on_train_batch_end
        if isinstance(gradients, StepGradientHistograms):
            self.on_train_batch_begin = gradients.on_train_batch_begin

    def get_flops(self, sample: Any = None) -> float:
        """Return the ``GFLOPs`` of one inference, as :func:`wandbkeras.callbacks.model_flops`."""
        if self.model is None:
            raise UsageError(
                "get_flops: there is no model yet: call set_model(model), or fit with it"
            )
        return model_flops(self.model, sample).gflops

    def set_params(self, params: Mapping[str, Any] | None) -> None:
        super().set_params(params)
        for part in self.parts:
            part.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        for part in self.parts:
            part.set_model(model)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        for part in self.parts:
            part.on_train_begin(logs)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        for part in self.parts:
            part.on_train_end(logs)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for part in self.parts:
            part.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for part in self.parts:
            part.on_epoch_end(epoch, logs)


def _gradient_part(
    log_gradients: bool, training_data: Any, batches: int | None, frequency: int | None
) -> GradientHistograms | StepGradientHistograms | None:
    """Return the part that logs gradients, None if none are wanted."""
    wanted = checked_flag("log_gradients", log_gradients)
    has_data = training_data is not None
    if batches is not None and not (wanted and has_data):
        raise UsageError("gradient_batches: expected log_gradients=True and training_data with it")
    if frequency is not None and (has_data or not wanted):
        raise UsageError(
            "gradient_frequency: expected log_gradients=True with it, and no training_data: it is "
            "about the training's own steps"
        )
    if not wanted:
        return None
    if has_data:
        return GradientHistograms(training_data, batches)
    return StepGradientHistograms(frequency)


def _refuse(unknown: Mapping[str, Any]) -> None:
    for name in unknown:
        close = get_close_matches(name, _ARGUMENTS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; expected {', '.join(_ARGUMENTS)}"
        raise UsageError(f"WandbCallback: unknown argument {name!r}{hint}")
