"""A real `fit`, recorded in a process of its own, and what of it arrives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import keras
import pytest

import wandbkeras
from tests.keras_models import fit
from tests.server.process import LoopbackServer
from tests.syncing import command, connect, held, printed, sync_one
from wandbkeras import WandbCallback
from wandbkeras.store.reader import StoredRun

# Trains forever when the first argument says so; prints each epoch once its row is recorded.
FIT = """
    import sys
    import keras, numpy as np
    import wandbkeras

    class Tell(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            print(wandbkeras.run.step, flush=True)

    store, epochs = sys.argv[1], int(sys.argv[2])
    keras.utils.set_random_seed(0)
    x = np.linspace(-1, 1, 64)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-2), "mse", metrics=["mae"])
    run = wandbkeras.init(project="digits", id="k3j9x2ab", dir=store, config={"lr": 1e-2})
    model.fit(x, 3 * x, validation_data=(x, 3 * x), epochs=epochs, batch_size=32, verbose=0,
              callbacks=[wandbkeras.WandbCallback(log_batch_frequency=1), Tell()])
    print(model.predict(x[:1], verbose=0).item())
    run.finish()
"""


def fitting(store: Path, epochs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FIT), str(store), str(epochs)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
    )


def loaded_prediction(model: bytes, folder: Path) -> float:
    """What the model, loaded by Keras alone, predicts for the first sample."""
    (folder / "model.keras").write_bytes(model)
    code = "import keras, numpy as np; print(keras.models.load_model('model.keras').predict("
    done = subprocess.run(
        [sys.executable, "-c", code + "np.array([[-1.0]]), verbose=0).item())"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


def row_values(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows]


def test_a_finished_fit_arrives(
    tmp_path: Path, wandb_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each epoch's and batch's row, the summary, and the best model, which Keras opens."""
    with fitting(tmp_path / "runs", 3) as training:
        said, _ = training.communicate()
    assert training.returncode == 0
    (path,) = (tmp_path / "runs").iterdir()
    connect(wandb_server, tmp_path / "home", monkeypatch)
    assert sync_one(path).error is None

    found = held(wandb_server, "k3j9x2ab")
    assert row_values(found.rows) == [dict(row.values) for row in StoredRun(path).rows()]
    epochs = [row for row in found.rows if "epoch" in row]
    assert [row["epoch"] for row in epochs] == [0, 1, 2]
    assert len(found.rows) == 3 * (2 + 1)
    assert all(row["val_loss"] > 0 and row["val_mae"] > 0 for row in epochs)
    assert (found.state, found.config_values) == ("finished", {"lr": 1e-2})
    best = min(row["val_loss"] for row in epochs)
    assert found.summary["best_val_loss"] == best
    assert found.summary["best_epoch"] == 2
    last = found.logged_artifacts[-1]
    assert (last.name, last.type) == ("model-k3j9x2ab", "model")
    assert set(last.aliases) == {"latest", "best", "epoch_2"}
    assert last.metadata["val_loss"] == best
    (model,) = last.files.values()
    assert loaded_prediction(model, tmp_path) == pytest.approx(float(said.split()[-1]), rel=1e-5)


def test_a_killed_fit_arrives_as_far_as_it_came(
    tmp_path: Path, wandb_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row acknowledged before SIGKILL arrives, and the run failed, as `ls` knows."""
    with fitting(tmp_path / "runs", 1_000_000) as training:
        assert training.stdout is not None
        acknowledged = [int(training.stdout.readline()) for _ in range(5)][-1]
        training.kill()
    (path,) = (tmp_path / "runs").iterdir()
    listed = printed(command("ls", "--json", path))
    assert [run["state"] for run in listed["runs"]] == ["crashed"]

    connect(wandb_server, tmp_path / "home", monkeypatch)
    assert sync_one(path).error is None
    found = held(wandb_server, "k3j9x2ab")
    assert len(found.rows) >= acknowledged == 5 * 3
    assert [row["_step"] for row in found.rows] == list(range(len(found.rows)))
    assert row_values(found.rows) == [dict(row.values) for row in StoredRun(path).rows()]
    assert (found.state, found.exit_code) == ("failed", 1)
    assert [a.aliases[-1] for a in found.logged_artifacts][:1] == ["epoch_0"]
    assert "crashed" in command("ls", path).stdout
    assert json.loads(found.files["wandb-metadata.json"])["host"] == found.host


def test_histograms_of_a_fit_arrive(
    tmp_path: Path, wandb_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts and edges of weights and gradients, in the row of their epoch; no count of NaN."""
    layers = [keras.Input((3,)), keras.layers.Dense(2, name="a"), keras.layers.Dense(1, name="b")]
    made = keras.Sequential(layers)
    made.compile("sgd", "mse", run_eagerly=True)
    made.get_layer("a").bias.assign([0.0, float("nan")])
    callback = WandbCallback(log_weights=True, log_gradients=True, save_model=False)
    with wandbkeras.init(project="digits", id="k3j9x2ab", dir=tmp_path / "runs") as run:
        fit(made, callback, epochs=2)
    connect(wandb_server, tmp_path / "home", monkeypatch)
    assert sync_one(run.dir).error is None

    assert run.dir is not None
    rows = held(wandb_server, "k3j9x2ab").rows
    assert [row["epoch"] for row in rows] == [0, 1]
    for row, recorded in zip(rows, StoredRun(Path(run.dir)).rows(), strict=True):
        histograms = {key: value for key, value in row.items() if "/" in key}
        assert set(histograms) == {
            "parameters/a.weights", "parameters/a.bias", "gradients/a/kernel.gradient",
            "parameters/b.weights", "parameters/b.bias", "gradients/a/bias.gradient",
            "gradients/b/kernel.gradient", "gradients/b/bias.gradient",
        }  # fmt: skip
        for key, value in histograms.items():
            stats = recorded.values[key]["stats"]
            assert value == {k: v for k, v in recorded.values[key].items() if k != "stats"}
            assert sum(value["values"]) == stats["count"] - stats["nan"]
            assert len(value["bins"]) == 65
