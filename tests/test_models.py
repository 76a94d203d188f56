"""Models out of a store: the version that was asked for, wherever the directory is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests.keras_models import Scripted, data, fit, model
from wandbkeras import load_model
from wandbkeras.callbacks import BestCheckpoint, BestMetric
from wandbkeras.errors import DamagedError, NotFoundError, UsageError

Predictions = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Trained:
    """A store with one run, and what the model predicted after each epoch."""

    store: Path
    run: Path
    predictions: list[Predictions]


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps what the model predicts after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.predictions: list[Predictions] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.predictions.append(self.model.predict_on_batch(data()[0]))


def assert_predicts(made: keras.Model, expected: Predictions) -> None:
    """It is that model: a step of the training changes far more than the last digit."""
    np.testing.assert_allclose(made.predict_on_batch(data()[0]), expected, rtol=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Best at epochs 0, 2 and 3."""
    store = tmp_path_factory.mktemp("trained") / "runs"
    run = wandbkeras.init(dir=store, id="k3j9x2ab")
    best, keeper = BestMetric("score"), Keeper()
    scores = Scripted(score=[3.0, 4.0, 2.0, 1.0])
    made = model(optimizer=keras.optimizers.SGD(0.5), run_eagerly=True)
    fit(made, scores, best, BestCheckpoint(best), keeper, epochs=4)
    run.finish()
    return Trained(store, Path(run.dir or ""), keeper.predictions)


@pytest.mark.parametrize(
    ("version", "epoch"),
    [("best", 3), ("latest", 3), ("epoch_0", 0), ("epoch_2", 2), (0, 0), (1, 2), (-1, 3), (-3, 0)],
)
def test_the_version_asked_for_is_loaded(trained: Trained, version: str | int, epoch: int) -> None:
    """By an alias, or by its number from either end."""
    loaded = load_model(trained.run, version)
    assert_predicts(loaded, trained.predictions[epoch])


def test_the_best_is_loaded_by_default(trained: Trained) -> None:
    """From a run, from the store by the run's id, and from a store with one run."""
    for loaded in (
        load_model(trained.run),
        load_model(str(trained.store), run_id="k3j9x2ab"),
        load_model(trained.store),
    ):
        assert_predicts(loaded, trained.predictions[3])


def test_a_directory_that_was_carried_elsewhere_is_enough(trained: Trained, tmp_path: Path) -> None:
    """A copy under another name, that nobody may write to."""
    carried = shutil.copytree(trained.run, tmp_path / "carried")
    for path in (carried, *carried.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    loaded = load_model(carried, "epoch_0")
    assert_predicts(loaded, trained.predictions[0])


def test_a_loaded_model_trains_on(trained: Trained) -> None:
    """With the optimizer as it was."""
    loaded = load_model(trained.run)
    assert int(loaded.optimizer.iterations) == 4
    fit(loaded, epochs=1)


def test_options_are_kerass(trained: Trained) -> None:
    """``compile=False`` leaves the optimizer behind."""
    assert not load_model(trained.run, compile=False).compiled


def test_weights_are_loaded_into_a_model(trained: Trained) -> None:
    """Of a whole model, too, where one was built by the same code."""
    made = model()
    assert load_model(trained.run, "epoch_2", model=made) is made
    assert_predicts(made, trained.predictions[2])


def test_weights_alone_need_a_model(tmp_path: Path) -> None:
    """The message says so."""
    with wandbkeras.init(dir=tmp_path) as run:
        made = model(run_eagerly=True)
        fit(made, wandbkeras.WandbCallback(monitor="loss", save_weights_only=True))
    with pytest.raises(
        UsageError, match=r"\(best\) holds weights alone: pass model=, a model that"
    ):
        load_model(run.dir or "")
    loaded = load_model(run.dir or "", model=model())
    np.testing.assert_array_equal(loaded.get_weights()[0], made.get_weights()[0])


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("epoch_1", "no model 'epoch_1'; there are model-k3j9x2ab: latest, best, epoch_0, epoch_2"),
        (3, "no model 3; there are model-k3j9x2ab"),
        (-4, "no model -4"),
    ],
)
def test_a_version_that_is_not_there_is_said(
    trained: Trained, version: str | int, message: str
) -> None:
    """With those that there are."""
    with pytest.raises(NotFoundError, match=message):
        load_model(trained.run, version)


@pytest.mark.parametrize("version", [None, True, 1.5])
def test_a_wrong_version_is_refused(trained: Trained, version: Any) -> None:
    """An alias or a number is expected."""
    with pytest.raises(UsageError, match=r"received version .*; expected an alias or a number"):
        load_model(trained.run, version)


def test_a_run_that_is_not_there_is_said(trained: Trained, tmp_path: Path) -> None:
    """Which directory, which id; and of several runs one has to be named."""
    with pytest.raises(NotFoundError, match="no such directory"):
        load_model(tmp_path / "runs")
    with pytest.raises(NotFoundError, match="no run with id 'other'"):
        load_model(trained.store, run_id="other")
    with pytest.raises(NotFoundError, match="is the run 'k3j9x2ab', not 'other'"):
        load_model(trained.run, run_id="other")
    for name in ("one", "two"):
        wandbkeras.init(dir=tmp_path / "runs", id=name).finish()
    with pytest.raises(UsageError, match="2 runs: expected a run's directory, or run_id= "):
        load_model(tmp_path / "runs")
    with pytest.raises(NotFoundError, match="no model 'best'; there are none"):
        load_model(tmp_path / "runs", run_id="one")


def test_of_several_artifacts_one_has_to_be_named(tmp_path: Path) -> None:
    """Where the version is one of each of them."""
    with wandbkeras.init(dir=tmp_path, id="k3j9x2ab") as run:
        fit(
            model(run_eagerly=True),
            wandbkeras.WandbCallback(monitor="loss"),
            wandbkeras.WandbModelCheckpoint(tmp_path / "m.keras"),
        )
        (tmp_path / "notes.txt").write_text("no model")
        run.log_model(tmp_path / "notes.txt", name="notes", aliases=["odd"])
    assert load_model(run.dir or "").name  # only one of them has a best
    with pytest.raises(
        UsageError, match=r"run_k3j9x2ab_model.* have a version 'latest' each: pass"
    ):
        load_model(run.dir or "", "latest")
    assert load_model(run.dir or "", "latest", artifact="run_k3j9x2ab_model").name
    with pytest.raises(UsageError, match=r"artifact notes: holds notes\.txt; expected one file"):
        load_model(run.dir or "", "odd")


def test_a_damaged_model_is_not_loaded(trained: Trained, tmp_path: Path) -> None:
    """Its bytes are compared with what was saved before Keras sees them."""
    damaged = shutil.copytree(trained.run, tmp_path / "damaged")
    for blob in (damaged / "blobs").rglob("*"):
        if blob.is_file():
            blob.chmod(0o644)
            blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedError):
        load_model(damaged)


def test_asking_for_what_is_not_there_loads_no_keras() -> None:
    """Keras is imported for a model that is found, and for nothing else."""
    script = (
        "import sys, wandbkeras\n"
        "try: wandbkeras.load_model('nowhere')\n"
        "except wandbkeras.WandbkerasError: print('keras' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True)
    assert done.stdout == b"False\n"
