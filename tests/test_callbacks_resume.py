"""A training that is killed and started again: one clean curve, and the callback's own state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun

# Five epochs of four batches; a row each batch, and one each epoch.
SCRIPT = """
import os, signal, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, wandbkeras

store, kill_at = sys.argv[1], sys.argv[2]
run = wandbkeras.init(dir=store, id="k3j9x2ab", resume="allow", config={"start": kill_at})

class Killer(keras.callbacks.Callback):
    epoch = 0
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if f"{self.epoch}.{batch}" == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

keras.utils.set_random_seed(1)
x, y = np.random.rand(16, 3).astype("float32"), np.random.rand(16, 1).astype("float32")
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
callbacks = [
    keras.callbacks.BackupAndRestore(store + "/backup"),
    wandbkeras.WandbCallback(monitor="loss", log_batch_frequency=1, save_model=False),
    Killer(),
]
model.fit(x, y, batch_size=4, epochs=5, verbose=0, shuffle=False, callbacks=callbacks)
"""


def fit(store: Path, kill_at: str) -> int:
    command = [sys.executable, "-c", SCRIPT, str(store), kill_at]
    return subprocess.run(command, check=False).returncode


def curve(run: StoredRun) -> list[tuple[int, int | None, float]]:
    """The rows that count: step, epoch (None for a batch's row), loss."""
    return [(row.step, row.values.get("epoch"), row.values["loss"]) for row in run.rows()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    store = tmp_path_factory.mktemp("whole")
    assert fit(store, "never") == 0
    return Store(store).run("k3j9x2ab")


def test_a_fit_killed_in_epoch_3_and_started_again_is_one_clean_curve(
    uninterrupted: StoredRun, tmp_path: Path
) -> None:
    """The merged history is that of a fit that was never killed: steps, epochs and losses."""
    assert fit(tmp_path, "3.2") == -9
    killed = Store(tmp_path).run("k3j9x2ab")
    assert (killed.state, killed.row_count) == ("crashed", 3 * 5 + 3)
    assert fit(tmp_path, "never") == 0
    run = Store(tmp_path).run("k3j9x2ab")
    assert run.state == "finished"
    assert curve(run) == curve(uninterrupted)
    assert [row.step for row in run.rows()] == list(range(5 * 5))
    attempts = [row.attempt for row in run.rows()]
    assert attempts == [0] * 15 + [1] * 10
    for key in ("best_loss", "best_epoch", "loss", "epoch"):
        assert run.summary[key] == uninterrupted.summary[key]
    assert run.config == {"start": "never"}


def test_however_often_it_is_killed(uninterrupted: StoredRun, tmp_path: Path) -> None:
    """Killed before the first backup, at once, and twice in one epoch: the curve stays clean."""
    for moment in ("0.1", "2.0", "2.3", "4.3"):
        assert fit(tmp_path, moment) == -9
    assert fit(tmp_path, "never") == 0
    run = Store(tmp_path).run("k3j9x2ab")
    assert curve(run) == curve(uninterrupted)
    assert run.summary["best_loss"] == uninterrupted.summary["best_loss"]
