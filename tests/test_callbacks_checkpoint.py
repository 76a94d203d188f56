"""The best model becomes a version of an artifact, and a failed save stops nothing."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest

import wandbkeras
from tests.disks import InterruptedDisk
from tests.keras_models import Scripted, data, fit, model
from wandbkeras import WandbCallback
from wandbkeras.callbacks import BestCheckpoint, BestMetric
from wandbkeras.errors import UsageError
from wandbkeras.recording import session
from wandbkeras.recording.attempt import Begun
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import RunInfo
from wandbkeras.store.verify import verify_run
from wandbkeras.store.writer import RunWriter

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


class Unsaveable(keras.layers.Layer):  # type: ignore[misc]
    """A layer whose author forgot how it is made, so that Keras can't save the model."""

    def call(self, inputs: Any) -> Any:
        return inputs

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError("no config")


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps what the model predicts after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.predictions: list[np.ndarray[Any, Any]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.predictions.append(self.model.predict_on_batch(data()[0]))


def _model_file(run: StoredRun, version: int, to: Path) -> Path:
    """Put the one file of a version at ``to`` under its own name."""
    ((name, file),) = run.artifacts[version].files.items()
    (to / name).write_bytes(run.blob(file.sha256).read_bytes())
    return to / name


def test_each_best_model_is_a_version(start: Start, stored: Stored, tmp_path: Path) -> None:
    """Name, type, aliases and metadata are wandb's; the file opens and predicts the same."""
    run = start(name="first try")
    keeper = Keeper()
    made = model(optimizer=keras.optimizers.SGD(0.5))
    callback = WandbCallback(monitor="score")
    fit(made, Scripted(score=[3.0, 4.0, 2.0]), callback, keeper, epochs=3)
    run.finish()
    found = stored(run)
    first, second = found.artifacts
    assert (first.name, first.type) == ("model-first-try", "model")
    assert first.aliases == ("latest", "best", "epoch_0")
    assert second.aliases == ("latest", "best", "epoch_2")
    assert second.metadata == {
        "epoch": 2,
        "monitor": "score",
        "score": 2.0,
        "format": "keras",
        "what": "model",
        "optimizer": True,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }
    assert list(second.files) == ["model-best.keras"]
    for version, epoch in ((0, 0), (1, 2)):
        loaded = keras.models.load_model(_model_file(found, version, tmp_path))
        np.testing.assert_array_equal(loaded.predict_on_batch(data()[0]), keeper.predictions[epoch])


def test_weights_alone_are_saved_when_asked_for(
    start: Start, stored: Stored, tmp_path: Path
) -> None:
    """The file holds the weights of the best epoch for a model built by the same code."""
    run = start()
    made = model(optimizer=keras.optimizers.SGD(0.5))
    fit(made, WandbCallback(save_weights_only=True), epochs=1, validation_data=data(4))
    run.finish()
    (version,) = stored(run).artifacts
    assert version.name == f"model-{run.id}"
    assert list(version.files) == ["model-best.weights.h5"]
    assert (version.metadata["format"], version.metadata["what"]) == ("weights.h5", "weights")
    fresh = model()
    fresh.load_weights(_model_file(stored(run), 0, tmp_path))
    np.testing.assert_array_equal(fresh.get_weights()[0], made.get_weights()[0])


@pytest.mark.parametrize("weights_only", [False, True])
def test_the_optimizer_is_left_out_when_asked_for(
    start: Start, stored: Stored, tmp_path: Path, weights_only: bool
) -> None:
    """The file is smaller, says so, and loads; the model trains on with the optimizer it had."""
    sizes = {}
    for wanted in (True, False):
        run = start()
        made = model(optimizer="adam")
        options = {"save_optimizer": wanted, "save_weights_only": weights_only}
        fit(made, WandbCallback(monitor="loss", **options), epochs=2)
        run.finish()
        version = stored(run).artifacts[-1]
        ((_, file),) = version.files.items()
        sizes[wanted] = file.size
        assert version.metadata["optimizer"] is wanted
        assert int(made.optimizer.iterations) == 2
        loaded = wandbkeras.load_model(run.dir or "", model=model() if weights_only else None)
        np.testing.assert_array_equal(loaded.get_weights()[0], made.get_weights()[0])
        if not weights_only:
            assert int(loaded.optimizer.iterations) == (2 if wanted else 0)
            fit(loaded, epochs=1)
    assert sizes[False] < sizes[True]


def test_saving_leaves_nothing_else_in_the_run(start: Start, stored: Stored) -> None:
    """The only copy of the model is its blob."""
    run = start()
    fit(model(), WandbCallback(monitor="loss"), epochs=3)
    run.finish()
    files = {path.suffix for path in Path(run.dir or "").rglob("*") if path.is_file()}
    assert files == {".json", ".parquet", ""}
    assert not [path for path in Path(run.dir or "").iterdir() if path.name.startswith(".")]


def test_no_model_is_saved_unless_wanted(start: Start, stored: Stored) -> None:
    """``save_model=False`` keeps the summary and saves nothing."""
    run = start()
    fit(model(), WandbCallback(monitor="loss", save_model=False))
    run.finish()
    assert stored(run).artifacts == []
    assert "best_loss" in stored(run).summary


def test_a_failed_save_does_not_stop_training(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said once, counted in the run, and everything else is recorded."""
    run = start()
    made = keras.Sequential([keras.Input((3,)), Unsaveable(), keras.layers.Dense(1)])
    made.compile(loss="mse", optimizer="sgd")
    callback = WandbCallback(monitor="score")
    fit(made, Scripted(score=[3.0, 2.0, 1.0]), callback, epochs=3)
    run.finish()
    found = stored(run)
    assert [row.values["epoch"] for row in found.rows()] == [0, 1, 2]
    assert found.summary["best_score"] == 1.0
    assert found.folded.failures == 3
    assert found.artifacts == []
    lines = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(lines) == 1
    assert "BestCheckpoint.on_epoch_end failed, training goes on" in lines[0]
    assert not list(Path(run.dir or "").glob(".saving*"))


def test_a_save_that_failed_is_tried_at_the_next_best(start: Start, stored: Stored) -> None:
    """One bad moment costs one version."""

    class Moody(keras.Sequential):  # type: ignore[misc]
        saved = 0

        def save(self, *arguments: Any, **keywords: Any) -> None:
            type(self).saved += 1
            if self.saved == 2:
                raise OSError("no space left on device")
            super().save(*arguments, **keywords)

    run = start()
    made = Moody([keras.Input((3,)), keras.layers.Dense(1)])
    made.compile(loss="mse", optimizer="sgd")
    fit(made, Scripted(score=[3.0, 2.0, 1.0]), WandbCallback(monitor="score"), epochs=3)
    run.finish()
    assert [version.metadata["epoch"] for version in stored(run).artifacts] == [0, 2]


def test_verbose_says_what_keras_would(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """A line an epoch on standard output, and none by default."""
    run = start(id="k3j9x2ab")
    scores = [3.0, 4.0, 2.0]
    fit(model(), Scripted(score=scores), WandbCallback(monitor="score", verbose=1), epochs=3)
    run.finish()
    said = [line for line in capfd.readouterr().out.splitlines() if line.startswith("Epoch")]
    assert said == [
        "Epoch 1: score improved from None to 3.00000, saving model to artifact model-k3j9x2ab",
        "Epoch 2: score did not improve from 3.00000",
        "Epoch 3: score improved from 3.00000 to 2.00000, saving model to artifact model-k3j9x2ab",
    ]
    start()
    fit(model(), Scripted(score=scores), WandbCallback(monitor="score"), epochs=3)
    assert capfd.readouterr().out == ""


def test_a_disabled_run_saves_nothing(start: Start, store: Path) -> None:
    """Training with a disabled run touches no disk."""
    start(mode="disabled")
    callback = WandbCallback(monitor="loss")
    fit(model(), callback)
    assert not store.exists()
    assert not any(part.failures for part in callback.parts)


def _epochs(run: StoredRun) -> list[int]:
    return [version.metadata["epoch"] for version in run.artifacts]


def _is_whole(run: StoredRun) -> bool:
    """Whether the files of each version are there, with the bytes that they are to have."""
    files = [file for version in run.artifacts for file in version.files.values()]
    return all(
        hashlib.sha256(run.blob(file.sha256).read_bytes()).hexdigest() == file.sha256
        for file in files
    )


@pytest.mark.parametrize(
    ("keep", "epochs"),
    [("all", [0, 2, 3, 4]), ("best", [4]), (1, [4]), (2, [3, 4]), (9, [0, 2, 3, 4])],
)
def test_so_many_models_stay(
    start: Start, stored: Stored, keep: str | int, epochs: list[int]
) -> None:
    """All of them, the best, or the latest k; what the others took is free again."""
    run = start()
    scores = [5.0, 6.0, 4.0, 3.0, 2.0]
    callback = WandbCallback(monitor="score", keep=keep)
    fit(model(), Scripted(score=scores), callback, epochs=5)
    run.finish()
    found = stored(run)
    assert _epochs(found) == epochs
    assert _is_whole(found)
    blobs = [path for path in found.layout.blobs.rglob("*") if path.is_file()]
    assert len(blobs) == len(epochs)
    assert len(list(found.layout.artifacts.iterdir())) == 4
    assert found.artifacts[-1].aliases == ("latest", "best", "epoch_4")


def test_the_best_model_of_an_earlier_fit_stays(start: Start, stored: Stored) -> None:
    """A new callback knows no best value; its models don't replace a better one."""
    run = start()
    for scores in ([3.0, 1.0], [7.0, 6.0, 5.0]):
        callback = WandbCallback(monitor="score", keep="best")
        fit(model(), Scripted(score=scores), callback, epochs=len(scores))
    run.finish()
    assert [version.metadata["score"] for version in stored(run).artifacts] == [1.0, 5.0]


def test_the_models_of_an_earlier_attempt_are_counted(start: Start, stored: Stored) -> None:
    """A resumed run keeps as many as one that was never interrupted, and verifies."""
    for first, scores in ((0, [5.0, 4.0]), (2, [5.0, 4.0, 3.0, 2.0])):
        run = start(id="k3j9x2ab", resume="allow")
        callback = WandbCallback(monitor="score", keep=2)
        fit(model(), Scripted(score=scores), callback, epochs=len(scores), initial_epoch=first)
        run.finish()
    found = stored(run)
    assert _epochs(found) == [2, 3]
    assert _is_whole(found)
    assert len([path for path in found.layout.blobs.rglob("*") if path.is_file()]) == 2
    assert verify_run(found.path).damage == []


def test_a_model_is_written_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that Keras wrote is the blob: no byte of it is copied."""
    saved: list[int] = []

    def notice(path: Path, *arguments: Any, **keywords: Any) -> None:
        save(path, *arguments, **keywords)
        saved.append(Path(path).stat().st_ino)

    run = start()
    made = model()
    save = made.save
    monkeypatch.setattr(made, "save", notice)
    fit(made, WandbCallback(monitor="loss"), epochs=2)
    blobs = (Path(run.dir or "") / "blobs").rglob("*")
    assert saved
    assert {path.stat().st_ino for path in blobs if path.is_file()} == set(saved)


@pytest.mark.parametrize(
    ("name", "value"), [("save_model", "yes"), ("save_model", None), ("save_optimizer", 2)]
)
def test_a_wrong_way_to_save_is_named(name: str, value: Any) -> None:
    """With what was received and what is expected."""
    with pytest.raises(UsageError, match=rf"{name}: received {value!r}; expected True"):
        WandbCallback(**{name: value})


@pytest.mark.parametrize("keep", ["last", 0, -1, True, 1.5, None])
def test_a_wrong_number_to_keep_is_named(keep: Any) -> None:
    """At once, not after an epoch."""
    with pytest.raises(UsageError, match="keep: received"):
        WandbCallback(keep=keep)


_KILLED_WHILE_SAVING = """
import os, signal, sys
import wandbkeras
from tests.keras_models import Scripted, fit, model

def save(path, saved=[], **options):
    whole(path, **options)
    saved.append(path)
    if len(saved) == 2:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab")
made = model()
whole, made.save = made.save, save
callback = wandbkeras.WandbCallback(monitor="score", keep="best")
fit(made, Scripted(score=[3.0, 2.0]), callback, epochs=2)
"""


def test_killed_while_keras_saves_the_model_before_is_there(tmp_path: Path) -> None:
    """SIGKILL in the middle of a better model leaves the best one before it, and it loads."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_WHILE_SAVING, str(tmp_path / "runs")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == -signal.SIGKILL
    found = wandbkeras.Store(tmp_path / "runs").run("k3j9x2ab")
    assert (found.state, _epochs(found)) == ("crashed", [0])
    keras.models.load_model(_model_file(found, 0, tmp_path))


class Kill(BaseException):
    """What no part of the package catches, as none catches SIGKILL."""


def _kill(step: str) -> None:
    raise Kill


def test_killed_at_any_step_one_best_model_is_whole(layout: Layout, tmp_path: Path) -> None:
    """The one before, or the new one, or both, but never none and never a part of one."""
    made = model()
    found = []
    while not found or found[-1] != "finished":
        root = tmp_path / f"run-{len(found)}"
        root.mkdir()
        (root / "run.json").write_bytes(layout.info.read_bytes())
        disk = InterruptedDisk(interrupt=_kill)
        writer = RunWriter(Layout(root), {**describe_process(), "from_step": 0}, disk=disk)
        run = wandbkeras.Run(Begun(RunInfo("k3j9x2ab", 0.0), writer))
        best = BestMetric("score")
        checkpoint = BestCheckpoint(best, keep="best")
        with mock.patch.object(session, "_active", run):
            for epoch, score in enumerate([5.0, 4.0]):
                disk.steps = disk.done + len(found) if epoch else math.inf
                try:
                    for part in (best, checkpoint):
                        part.set_model(made)
                        part.on_epoch_end(epoch, {"score": score})
                    outcome = "finished" if epoch else ""
                except Kill:
                    outcome = "killed"
        disk.steps = math.inf  # only to stop the thread
        writer.abandon()
        stored = StoredRun(root)
        assert stored.damage == []
        assert _is_whole(stored)
        assert stored.artifacts
        found.append(outcome)
    assert _epochs(stored) == [1]
    assert len(found) > 10
