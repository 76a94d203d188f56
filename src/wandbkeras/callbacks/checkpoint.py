"""The best model as versions of an artifact."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from wandbkeras.callbacks.best import BestMetric
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.recording.artifact import Artifact, artifact_name


class BestCheckpoint(Part):
    """Saves the model of each best epoch as a version of the artifact ``model-<run name>``.

    The aliases are ``latest``, ``best`` and ``epoch_N`` (from 0); the metadata says epoch, monitor,
    value, format and versions. A failed save is reported and the earlier versions stay.

    Args:
        best: the part that decides; it must come before this one in the list of callbacks.
        save_weights_only: a ``.weights.h5`` file instead of the whole model as ``.keras``.
        verbose: with 1, say per epoch what is done, as Keras's ModelCheckpoint does.
    """

    def __init__(self, best: BestMetric, save_weights_only: bool = False, verbose: int = 0) -> None:
        super().__init__()
        self.best = best
        self.save_weights_only = bool(save_weights_only)
        self.verbose = verbose
        self._previous: float | None = None

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        best = self.best.best
        if best is None:
            return
        monitor = self.best.monitor
        if not self.best.improved:
            self._say(f"Epoch {epoch + 1}: {monitor} did not improve from {best.value:.5f}")
            return
        run = self.run
        name = artifact_name(f"model-{run.name}")
        before = "None" if self._previous is None else f"{self._previous:.5f}"
        self._previous = best.value
        self._say(
            f"Epoch {epoch + 1}: {self.best.monitor} improved from {before} to {best.value:.5f}, "
            f"saving model to artifact {name}"
        )
        if run.dir is None:
            return
        # In the run's own directory: $TMPDIR may be small, and is not there to be relied on.
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=run.dir) as folder:
            artifact = Artifact(name, type="model", metadata=self._metadata(epoch, best.value))
            artifact.add_file(self._save(Path(folder)))
            run.log_artifact(artifact, aliases=["latest", "best", f"epoch_{epoch}"])

    def _save(self, folder: Path) -> Path:
        """Save the model into ``folder``, from where it becomes a blob."""
        suffix = ".weights.h5" if self.save_weights_only else ".keras"
        path = folder / f"model-best{suffix}"
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)
        return path

    def _metadata(self, epoch: int, value: float) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "monitor": self.best.monitor,
            self.best.monitor: value,
            "format": "weights.h5" if self.save_weights_only else "keras",
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        }

    def _say(self, text: str) -> None:
        if self.verbose > 0:
            print(f"\n{text}")  # noqa: T201
