"""WandbModelCheckpoint: a model in a file and as versions of an artifact, as wandb's callback."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from wandbkeras.callbacks.arguments import checked_flag, checked_verbose
from wandbkeras.callbacks.best import Best, BestMetric
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.callbacks.saving import how_to_load, saved_bytes, write_durably, write_model
from wandbkeras.errors import UsageError
from wandbkeras.recording.artifact import Artifact


class WandbModelCheckpoint(Part):
    """Saves the model to ``filepath`` and as a version of the artifact ``run_<run id>_model``.

    As ``wandb.integration.keras.WandbModelCheckpoint``: the aliases are ``latest`` and ``epoch_N``
    or ``epoch_N_batch_M`` (from 0). The file is written beside its place and moved there, so a
    killed process leaves the one before. An epoch that is not saved makes no version.

    Args:
        filepath: where the file goes, with placeholders as ``{epoch:02d}`` (from 1), ``{batch}``
            (from 1) and ``{val_loss:.2f}``; ends in ``.keras`` or ``.h5``, for weights in
            ``.weights.h5``.
        monitor: the metric that tells the best.
        verbose: with 1, say what is done, as Keras's ModelCheckpoint does.
        save_best_only: save only what is better than all before. If ``monitor`` is not among the
            metrics, everything is saved, as by Keras, and that is said.
        save_weights_only: save the weights instead of the whole model.
        mode: ``auto``, ``min`` or ``max``: see :class:`wandbkeras.callbacks.BestMetric`.
        save_freq: ``epoch``, or a number N: after every N batches.
        initial_value_threshold: the first best must be better than this.

    Raises:
        UsageError: an argument is wrong.
    """

    needs = "weights"

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__()
        expected = (".weights.h5",) if save_weights_only else (".keras", ".h5")
        if not isinstance(filepath, (str, os.PathLike)) or not os.fspath(filepath).endswith(
            expected
        ):
            raise UsageError(
                f"filepath: received {filepath!r}; expected a path that ends in "
                f"{' or '.join(expected)}"
            )
        if save_freq != "epoch" and not (type(save_freq) is int and save_freq > 0):
            raise UsageError(
                f"save_freq: received {save_freq!r}; expected epoch or a number of batches from 1"
            )
        self.filepath = os.fspath(filepath)
        self.verbose = checked_verbose(verbose)
        self.save_best_only = checked_flag("save_best_only", save_best_only)
        self.save_weights_only = checked_flag("save_weights_only", save_weights_only)
        self.save_freq = save_freq
        self._best = BestMetric(monitor, mode, log_best_prefix=None)
        if initial_value_threshold is not None:
            self._best.best = Best(-1, _checked_threshold(initial_value_threshold))
        self._epoch = 0
        self._last_batch = -1
        self._batches_unsaved = 0
        if save_freq != "epoch":
            self.hook_batches("on_train_batch_end", self._count_batch)

    @property
    def monitor(self) -> str:
        return self._best.monitor

    @property
    def best(self) -> float | None:
        """The best value so far."""
        return None if self._best.best is None else self._best.best.value

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._best.set_model(model)

    @never_raises
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch, self._last_batch = epoch, -1

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.save_freq == "epoch":
            self._save_if_wanted(dict(logs or {}), batch=None)

    @never_raises
    def _count_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save after N batches, or after the execution that reaches their number."""
        assert isinstance(self.save_freq, int)
        self._batches_unsaved += batch - self._last_batch
        self._last_batch = batch
        if self._batches_unsaved >= self.save_freq:
            self._batches_unsaved = 0
            self._save_if_wanted(dict(logs or {}), batch)

    def _save_if_wanted(self, logs: dict[str, Any], batch: int | None) -> None:
        path = self._path(logs, batch)
        if not self._is_wanted(logs, path):
            return
        write_durably(
            path,
            saved_bytes(self.model),
            lambda file: write_model(
                self.model, file, weights_only=self.save_weights_only, optimizer=True
            ),
        )
        self._say(f"finished saving model to {path}")
        run = self.run
        alias = f"epoch_{self._epoch}" + ("" if batch is None else f"_batch_{batch}")
        artifact = Artifact(f"run_{run.id}_model", type="model", metadata=self._metadata(logs))
        artifact.add_file(path)
        run.log_artifact(artifact, aliases=["latest", alias])

    def _path(self, logs: Mapping[str, Any], batch: int | None) -> Path:
        """Return the path with its placeholders filled in, as Keras does."""
        numbers = {"epoch": self._epoch + 1, **({} if batch is None else {"batch": batch + 1})}
        try:
            return Path(self.filepath.format(**{**numbers, **logs}))
        except KeyError as error:
            raise UsageError(
                f"filepath: {self.filepath!r} has the placeholder {error}; there are "
                f"{', '.join((*numbers, *logs))}"
            ) from None

    def _is_wanted(self, logs: Mapping[str, Any], path: Path) -> bool:
        if not self.save_best_only:
            self._say(f"saving model to {path}")
            return True
        if self.monitor not in logs:
            self._say_missing(logs)
            return True
        before = "None" if self.best is None else f"{self.best:.5f}"
        self._best.on_epoch_end(self._epoch, logs)
        if self._best.improved:
            self._say(
                f"{self.monitor} improved from {before} to {self.best:.5f}, saving model to {path}"
            )
        else:
            self._say(f"{self.monitor} did not improve from {before}")
        return self._best.improved

    def _metadata(self, logs: Mapping[str, Any]) -> dict[str, Any]:
        how = how_to_load(self.model, weights_only=self.save_weights_only, optimizer=True)
        if self.filepath.endswith(".h5") and not self.save_weights_only:
            how["format"] = "h5"
        value = {self.monitor: logs[self.monitor]} if self.monitor in logs else {}
        return {"epoch": self._epoch, "monitor": self.monitor, **value, **how}

    def _say(self, text: str) -> None:
        if self.verbose > 0:
            print(f"\nEpoch {self._epoch + 1}: {text}")  # noqa: T201

    def _say_missing(self, logs: Mapping[str, Any]) -> None:
        if "monitor" not in self.said:
            self.said.add("monitor")
            print(  # noqa: T201
                f"wandbkeras: monitor {self.monitor!r} is not among the metrics "
                f"({', '.join(logs) or 'there are none'}): every model is saved, not only the best",
                file=sys.stderr,
            )


def _checked_threshold(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"initial_value_threshold: received {value!r:.80}; expected a number, or None"
        ) from None
