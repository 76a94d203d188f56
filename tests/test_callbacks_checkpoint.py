"""The best model becomes a version of an artifact, and a failed save stops nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests.keras_models import Scripted, data, fit, model
from wandbkeras import WandbCallback
from wandbkeras.store.reader import StoredRun

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
        self.predictions.append(np.asarray(self.model(data()[0])))


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
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }
    assert list(second.files) == ["model-best.keras"]
    for version, epoch in ((0, 0), (1, 2)):
        loaded = keras.models.load_model(_model_file(found, version, tmp_path))
        np.testing.assert_array_equal(np.asarray(loaded(data()[0])), keeper.predictions[epoch])


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
    assert version.metadata["format"] == "weights.h5"
    fresh = model()
    fresh.load_weights(_model_file(stored(run), 0, tmp_path))
    np.testing.assert_array_equal(fresh.get_weights()[0], made.get_weights()[0])


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
