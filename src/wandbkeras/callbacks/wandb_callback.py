"""WandbCallback: the parts under one name, with the arguments of wandb's old callback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from inspect import signature
from typing import Any

import keras

from wandbkeras.callbacks.any_keras import AnyKerasCallback
from wandbkeras.callbacks.arguments import checked_flag
from wandbkeras.callbacks.best import BestMetric
from wandbkeras.callbacks.checkpoint import BestCheckpoint
from wandbkeras.callbacks.evaluation import EvaluationTables
from wandbkeras.callbacks.examples import Examples
from wandbkeras.callbacks.flops import FlopsLogger, model_flops
from wandbkeras.callbacks.gradients import GradientHistograms
from wandbkeras.callbacks.graph import GraphLogger
from wandbkeras.callbacks.histograms import WeightHistograms
from wandbkeras.callbacks.metrics import MetricsLogger
from wandbkeras.callbacks.part import Part
from wandbkeras.callbacks.progress import Progress
from wandbkeras.callbacks.row_processors import RowProcessor
from wandbkeras.callbacks.step_gradients import StepGradientHistograms
from wandbkeras.callbacks.validation_data import ValidationData
from wandbkeras.errors import UsageError


class WandbCallback(AnyKerasCallback):
    """Records a ``fit`` into the active run, starting one if there is none.

    Names, order, defaults and keys are those of ``wandb.keras.WandbCallback``. No hook raises into
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
        training_data: the data whose gradients are logged.
        validation_data, generator, validation_steps: what examples and evaluation tables show;
            default: what ``fit`` validates with. See
            :class:`wandbkeras.callbacks.ValidationData`.
        labels: the names of the classes.
        predictions: how many examples, at most 100.
        input_type, output_type: log ``examples`` each epoch: see
            :class:`wandbkeras.callbacks.Examples`.
        log_evaluation: record the validation data as a table, and what the model predicts for its
            rows: see :class:`wandbkeras.callbacks.EvaluationTables`.
        class_colors: red, green and blue between 0 and 1 for each class of a mask.
        log_batch_frequency: log the training metrics every N batches; None: only each epoch.
        log_best_prefix: the summary keys are ``<prefix><monitor>`` and ``<prefix>epoch``; None
            keeps them out, and nothing else.
        save_graph: put the model's graph into the summary's ``graph``.
        validation_indexes: for each row of the validation data its key in a table of your own.
        validation_row_processor, prediction_row_processor: functions that add columns.
        infer_missing_processors: add columns by the shapes of the data, where there is none.
        log_evaluation_frequency: after which epochs predictions are recorded; 0: at the end.
        compute_flops: put ``GFLOPs``, ``GMACs`` and ``GFLOPs_total`` of one inference into the
            summary: see :class:`wandbkeras.callbacks.FlopsLogger`.
        batch_prefix: put before the names of batch metrics; by default they share the epoch's.
        keep: which saved models stay in the run: ``all``, ``best``, or a number: the best and so
            many of the latest.
        save_optimizer: whether a saved model has the state of the optimizer, to train on from it.
        gradient_batches: how many batches of ``training_data`` are read at most; default: all.
        gradient_frequency: count the gradients of the steps 0, N, 2 N, … of each epoch; default:
            of the first.
        find_validation_data: whether the data of ``fit`` may be looked for.

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
        validation_data: Any = None,
        labels: Any = None,
        predictions: int = 36,
        generator: Any = None,
        input_type: str | None = None,
        output_type: str | None = None,
        log_evaluation: bool = False,
        validation_steps: int | None = None,
        class_colors: Any = None,
        log_batch_frequency: int | None = None,
        log_best_prefix: str | None = "best_",
        save_graph: bool = True,
        validation_indexes: Iterable[Any] | None = None,
        validation_row_processor: RowProcessor | None = None,
        prediction_row_processor: RowProcessor | None = None,
        infer_missing_processors: bool = True,
        log_evaluation_frequency: int = 0,
        compute_flops: bool = False,
        *,
        batch_prefix: str = "",
        keep: str | int = "all",
        save_optimizer: bool = True,
        gradient_batches: int | None = None,
        gradient_frequency: int | None = None,
        find_validation_data: bool = True,
        **unknown: Any,
    ) -> None:
        super().__init__()
        input_type = _renamed(unknown, "data_type", input_type=input_type)
        prediction_row_processor = _renamed(
            unknown, "output_row_processor", prediction_row_processor=prediction_row_processor
        )
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
        may_look = checked_flag("find_validation_data", find_validation_data)
        data = ValidationData(validation_data, generator, validation_steps, may_look)
        examples = Examples(data, input_type, output_type, labels, class_colors, predictions)
        tables = EvaluationTables(
            data,
            labels,
            log_evaluation_frequency,
            validation_indexes,
            validation_row_processor,
            prediction_row_processor,
            infer_missing_processors,
        )
        background = save_model == "background"
        checkpoint = BestCheckpoint(
            best, save_weights_only, verbose, keep, save_optimizer, background
        )
        shows_examples = input_type is not None or output_type is not None
        shows_tables = checked_flag("log_evaluation", log_evaluation)
        # Progress first: it restores the others. Metrics after what adds to an epoch's row, and
        # before best: `best_…` of an epoch is set after its row, as in wandb.
        parts: list[tuple[Part | None, bool]] = [
            (Progress(metrics, best), True),
            (WeightHistograms(), checked_flag("log_weights", log_weights)),
            (gradients, gradients is not None),
            (data, shows_examples or shows_tables),
            (examples, shows_examples),
            (tables, shows_tables),
            (metrics, True),
            (best, True),
            (GraphLogger(), checked_flag("save_graph", save_graph)),
            (FlopsLogger(data=data), checked_flag("compute_flops", compute_flops)),
            (checkpoint, bool(save_model)),
        ]
        self.parts = [part for part, wanted in parts if wanted and part is not None]
        for part in self.parts:
            part.said = best.said
            part.commits = False
        self.async_safe = metrics.async_safe and not self.has_own("on_train_batch_end")
        if log_batch_frequency is not None:
            self.hook_batches("on_train_batch_end", metrics.on_train_batch_end)
        self._batch_parts: list[Part] = [metrics] if metrics.async_safe else []
        if isinstance(gradients, StepGradientHistograms):
            self._batch_parts.append(gradients)
        if self._batch_parts:
            self.hook_batches("on_train_batch_begin", self._begin_batch)

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
        # Backwards: the progress is recorded after the last rows.
        for part in reversed(self.parts):
            part.on_train_end(logs)

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        for part in self.parts:
            part.on_test_begin(logs)

    def _begin_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        for part in self._batch_parts:
            part.on_train_batch_begin(batch, logs)

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


def _renamed(unknown: dict[str, Any], old: str, **argument: Any) -> Any:
    """Return an argument's value, taken from its old name if it was given by that one."""
    ((name, value),) = argument.items()
    if old not in unknown:
        return value
    if value is not None:
        raise UsageError(f"WandbCallback: received {old} and {name}, which is its new name")
    return unknown.pop(old)


def _refuse(unknown: Mapping[str, Any]) -> None:
    known = [name for name in signature(WandbCallback).parameters if name != "unknown"]
    for name in unknown:
        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; expected {', '.join(known)}"
        raise UsageError(f"WandbCallback: unknown argument {name!r}{hint}")
