"""The best model as versions of an artifact."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from wandbkeras.callbacks.best import BestMetric
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.errors import UsageError
from wandbkeras.recording.artifact import Artifact, artifact_name
from wandbkeras.store.schema import ArtifactVersion

# Of the file of a saved model, beside the values: a group and a header for each variable.
_OVERHEAD_BYTES = 2 << 10


class BestCheckpoint(Part):
    """Saves the model of each best epoch as a version of the artifact ``model-<run name>``.

    The aliases are ``latest``, ``best`` and ``epoch_N`` (from 0); the metadata says epoch, monitor,
    value, format and versions. A failed save is reported and the earlier versions stay.

    Args:
        best: the part that decides; it must come before this one in the list of callbacks.
        save_weights_only: a ``.weights.h5`` file instead of the whole model as ``.keras``.
        verbose: with 1, say per epoch what is done, as Keras's ModelCheckpoint does.
        keep: which versions stay in the run when a better one is saved: ``all``, ``best``, or a
            number: the best and so many of the latest.
    """

    def __init__(
        self,
        best: BestMetric,
        save_weights_only: bool = False,
        verbose: int = 0,
        keep: str | int = "all",
    ) -> None:
        super().__init__()
        self.keep = _checked_keep(keep)
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
        with (
            run.counting(f"artifact {name!r}"),
            tempfile.TemporaryDirectory(
                prefix=".saving-", dir=run.dir, ignore_cleanup_errors=True
            ) as folder,
        ):
            # HDF5 does not survive a disk that gets full while it writes: the process would crash
            # when it ends.
            run.check_free(saved_bytes(self.model))
            artifact = Artifact(name, type="model", metadata=self._metadata(epoch, best.value))
            artifact.add_file(self._save(Path(folder)), adopt=True)
            run.log_artifact(artifact, aliases=["latest", "best", f"epoch_{epoch}"])
        if self.keep is not None:
            versions = run.artifact_versions(name)
            kept = self._kept(versions, self.keep)
            run.drop_versions(key for key in versions if key not in kept)

    def _kept(self, versions: Mapping[str, ArtifactVersion], last: int) -> set[str]:
        """Return the latest versions, and the best one if an earlier ``fit`` was better."""
        monitor = self.best.monitor
        values = {key: version.metadata.get(monitor) for key, version in versions.items()}
        numbers = {k: v for k, v in values.items() if isinstance(v, (int, float)) and v == v}
        kept = set(list(versions)[-last:])
        if numbers:
            choose = max if self.best.direction() == "max" else min
            kept.add(choose(numbers, key=numbers.__getitem__))
        return kept

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


def _checked_keep(keep: str | int) -> int | None:
    """Return how many of the latest versions stay, None for all; the best one always does."""
    if isinstance(keep, int) and not isinstance(keep, bool) and keep > 0:
        return keep
    if keep not in ("all", "best") or isinstance(keep, int):
        raise UsageError(f"keep: received {keep!r}; expected all, best or a number from 1 upwards")
    return 1 if keep == "best" else None


def saved_bytes(model: keras.Model) -> int:
    """Return how many bytes the file of a saved model has, a little more rather than less."""
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(() if optimizer is None else optimizer.variables)]
    values: int = sum(math.prod(v.shape) * _element_bytes(v.dtype) for v in variables)
    return values + _OVERHEAD_BYTES * (8 + len(variables))


def _element_bytes(dtype: str) -> int:
    digits = "".join(filter(str.isdigit, str(dtype)))
    return max(1, int(digits) // 8) if digits else 1
