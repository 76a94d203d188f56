"""The best model as versions of an artifact."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras

from wandbkeras.callbacks.arguments import checked_flag, checked_verbose
from wandbkeras.callbacks.background import Clone, NewestWins, NotClonedError
from wandbkeras.callbacks.best import BestMetric
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.callbacks.saving import how_to_load, saved_bytes, write_model
from wandbkeras.errors import UsageError
from wandbkeras.recording.artifact import Artifact, artifact_name
from wandbkeras.recording.recorder import Run
from wandbkeras.store.schema import ArtifactVersion


@dataclass(frozen=True)
class _Version:
    """A version to be recorded: all that another thread needs to know of the model and the run."""

    run: Run
    name: str
    epoch: int
    metadata: Mapping[str, Any]
    size: int
    choose: Callable[..., str]


class BestCheckpoint(Part):
    """Saves the model of each best epoch as a version of the artifact ``model-<run name>``.

    The aliases are ``latest``, ``best`` and ``epoch_N`` (from 0); the metadata says epoch, monitor,
    value and how to load it: ``wandbkeras.load_model`` does. A failed save is reported and the
    earlier versions stay.

    Args:
        best: the part that decides; it must come before this one in the list of callbacks.
        save_weights_only: a ``.weights.h5`` file instead of the whole model as ``.keras``.
        verbose: with 1, say per epoch what is done, as Keras's ModelCheckpoint does.
        keep: which versions stay in the run when a better one is saved: ``all``, ``best``, or a
            number: the best and so many of the latest.
        save_optimizer: whether the file has the state of the optimizer, to train on from it.
        background: save in another thread. Training waits only for a copy of the values on the
            host; a best model that has not been begun to be saved gives way to a better one; the
            end of the training waits for the last one. A model that can't be cloned is saved while
            training waits, as without it.
    """

    needs = "weights"

    def __init__(
        self,
        best: BestMetric,
        save_weights_only: bool = False,
        verbose: int = 0,
        keep: str | int = "all",
        save_optimizer: bool = True,
        background: bool = False,
    ) -> None:
        super().__init__()
        self.keep = _checked_keep(keep)
        self.best = best
        self.save_weights_only = checked_flag("save_weights_only", save_weights_only)
        self.verbose = checked_verbose(verbose)
        self.save_optimizer = checked_flag("save_optimizer", save_optimizer)
        self.background = checked_flag("background", background)
        self._thread: NewestWins | None = None  # made when needed: a callback may be copied before
        self._clone: Clone | None = None
        self._is_cloned = False
        self._previous: float | None = None

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._is_cloned = False  # the model may be another, or compiled anew

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
        version = self._version(run, name, epoch, best.value)
        # A clone is made by all processes together, if there are several.
        clone = self._cloned() if self.background and self.rank.is_alone else None
        if clone is None:
            self._record(version, partial(self._write, self.model))
        else:
            snapshot = clone.snapshot(self.model)
            write = partial(clone.write, snapshot, weights_only=self.save_weights_only)
            self._thread = self._thread or NewestWins()
            run.before_finish(self._thread.wait)
            self._thread.submit(partial(self._record_in_background, version, write))

    @never_raises
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._thread is not None:
            self._thread.wait()

    def _version(self, run: Run, name: str, epoch: int, value: float) -> _Version:
        monitor = self.best.monitor
        options = {"weights_only": self.save_weights_only, "optimizer": self.save_optimizer}
        return _Version(
            run,
            name,
            epoch,
            {
                "epoch": epoch,
                "monitor": monitor,
                monitor: value,
                **how_to_load(self.model, **options),
            },
            saved_bytes(self.model, optimizer=self.save_optimizer),
            max if self.best.direction() == "max" else min,
        )

    def _cloned(self) -> Clone | None:
        """Return a clone of the model, one a ``fit``; None, and say so, if it can't be cloned."""
        if not self._is_cloned:
            self._is_cloned, self._clone = True, None
            try:
                self._clone = Clone(self.model, optimizer=self.save_optimizer)
            except NotClonedError as error:
                print(  # noqa: T201
                    "wandbkeras: the model can't be cloned, so it is saved while training waits "
                    f"({error})",
                    file=sys.stderr,
                )
        return self._clone

    @never_raises
    def _record_in_background(self, version: _Version, write: Callable[[Path], None]) -> None:
        self._record(version, write)

    def _record(self, version: _Version, write: Callable[[Path], None]) -> None:
        """Record what ``write`` writes, and drop the versions that aren't kept beside it."""
        run = version.run
        suffix = ".weights.h5" if self.save_weights_only else ".keras"
        # In the run's own directory: $TMPDIR may be small, and is not there to be relied on.
        with (
            run.counting(f"artifact {version.name!r}"),
            tempfile.TemporaryDirectory(
                prefix=".saving-", dir=run.dir, ignore_cleanup_errors=True
            ) as folder,
        ):
            # HDF5 does not survive a disk that gets full while it writes: the process would crash
            # when it ends.
            run.check_free(version.size)
            path = Path(folder) / f"model-best{suffix}"
            write(path)
            artifact = Artifact(version.name, type="model", metadata=version.metadata)
            artifact.add_file(path, adopt=True)
            run.log_artifact(artifact, aliases=["latest", "best", f"epoch_{version.epoch}"])
        if self.keep is not None:
            versions = run.artifact_versions(version.name)
            kept = self._kept(versions, self.keep, version.choose)
            run.drop_versions(key for key in versions if key not in kept)

    def _kept(
        self, versions: Mapping[str, ArtifactVersion], last: int, choose: Callable[..., str]
    ) -> set[str]:
        """Return the latest versions, and the best one if an earlier ``fit`` was better."""
        monitor = self.best.monitor
        values = {key: version.metadata.get(monitor) for key, version in versions.items()}
        numbers = {k: v for k, v in values.items() if isinstance(v, (int, float)) and v == v}
        kept = set(list(versions)[-last:])
        if numbers:
            kept.add(choose(numbers, key=numbers.__getitem__))
        return kept

    def _write(self, model: keras.Model, path: Path) -> None:
        write_model(model, path, weights_only=self.save_weights_only, optimizer=self.save_optimizer)

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
