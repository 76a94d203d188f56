"""The callback under ``tf_keras``, which is Keras 2: metrics, best, histograms, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import wandbkeras
from wandbkeras.callbacks.any_keras import AnyKerasCallback
from wandbkeras.store.reader import StoredRun


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredRun, Any]:
    """A fit of two epochs of four batches, and the model that was fitted."""
    store = tmp_path_factory.mktemp("runs")
    x, y = np.random.default_rng(0).random((64, 4), np.float32), np.arange(64) % 2
    model = tf_keras.Sequential(
        [tf_keras.layers.Input((4,)), tf_keras.layers.Dense(1, "sigmoid", name="d1")]
    )
    metrics = ["accuracy", tf_keras.metrics.AUC(name="auc")]
    model.compile("adam", "binary_crossentropy", metrics=metrics)
    callback = wandbkeras.WandbCallback(
        "val_auc",
        log_batch_frequency=2,
        batch_prefix="batch/",
        log_weights=True,
        save_graph=False,  # the graph is that of Keras 3's models
    )
    with wandbkeras.init(dir=store) as run:
        model.fit(x, y, 16, 2, verbose=0, validation_data=(x, y), callbacks=[callback])
    return wandbkeras.Store(store).run(run.id), model


def test_epochs_and_batches_are_recorded(trained: tuple[StoredRun, Any]) -> None:
    """A row for every second batch, and one an epoch with metrics and learning rate."""
    run, _ = trained
    rows = [row.values for row in run.rows()]
    assert ["epoch" in row for row in rows] == 2 * [False, False, True]
    assert {"batch/loss", "batch/accuracy", "batch/auc"} <= rows[0].keys()
    assert {"loss", "val_loss", "val_auc", "val_accuracy"} <= rows[2].keys()
    assert rows[2]["learning_rate"] == pytest.approx(1e-3)
    assert run.folded.failures == 0


def test_weights_are_recorded(trained: tuple[StoredRun, Any]) -> None:
    """Under the names of wandb's old callback."""
    run, model = trained
    values = [row.values for row in run.rows()][-1]["parameters/d1.weights"]
    assert sum(values["values"]) == model.layers[-1].kernel.numpy().size
    assert values["stats"]["min"] == pytest.approx(model.layers[-1].kernel.numpy().min())


def test_the_best_model_is_kept(trained: tuple[StoredRun, Any], tmp_path: Path) -> None:
    """An AUC is maximised; the model of the best epoch loads with tf_keras."""
    run, _ = trained
    aucs = [row.values["val_auc"] for row in run.rows() if "epoch" in row.values]
    assert run.summary["best_val_auc"] == max(aucs)
    best = run.artifacts[-1]
    assert best.metadata["epoch"] == run.summary["best_epoch"]
    ((_, file),) = best.files.items()
    copy = tmp_path / "model.keras"
    copy.write_bytes(run.blob(file.sha256).read_bytes())
    assert tf_keras.models.load_model(copy).count_params() == 5


def test_only_callbacks_with_batch_hooks_are_called_each_batch() -> None:
    """A hook of the class or one bound to the instance is one; none means no calls."""

    class Counting(AnyKerasCallback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...

    bound = wandbkeras.WandbCallback(log_batch_frequency=1)
    found = [Counting(), bound, wandbkeras.WandbCallback()]
    assert [c._implements_train_batch_hooks() for c in found] == [True, True, False]
    assert isinstance(bound, keras.callbacks.Callback)
