"""WandbCallback as a whole: its arguments, the run it records into, and what it never does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

import wandbkeras
from tests.keras_models import Scripted, data, fit, model
from wandbkeras import WandbCallback
from wandbkeras.errors import UsageError
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def test_without_an_active_run_one_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is in ``runs``, stays active after the training, and is the users to finish."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_PROJECT", "digits")
    fit(model(), WandbCallback(save_model=False))
    run = wandbkeras.run
    assert run is not None
    assert run.project == "digits"
    wandbkeras.finish()
    (stored,) = Store("runs").runs()
    assert [row.values["epoch"] for row in stored.rows()] == [0, 1]


def test_two_fits_are_one_run(start: Start, stored: Stored) -> None:
    """Steps go on; the best of the first fit is still to be beaten."""
    run = start()
    callback = WandbCallback(monitor="score", save_model=False)
    made = model()
    fit(made, Scripted(score=[2.0, 1.0]), callback)
    fit(made, Scripted(score=[5.0, 3.0]), callback)
    run.finish()
    rows = list(stored(run).rows())
    assert [(row.step, row.values["epoch"]) for row in rows] == [(0, 0), (1, 1), (2, 0), (3, 1)]
    assert stored(run).summary["best_score"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitr": "a"}, r"unknown argument 'monitr'; did you mean 'monitor'\?"),
        ({"log_batch_freq": 1}, r"'log_batch_freq'; did you mean 'log_batch_frequency'\?"),
        ({"xyz": 1}, "unknown argument 'xyz'; expected monitor, "),
        ({"log_weigths": True}, r"'log_weigths'; did you mean 'log_weights'\?"),
    ],
)
def test_an_unknown_argument_is_refused(arguments: dict[str, Any], message: str) -> None:
    """The message names the nearest known one, or all of them."""
    with pytest.raises(UsageError, match=f"WandbCallback: .*{message}"):
        WandbCallback(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_weights": "yes"}, "log_weights: received 'yes'; expected True or False"),
        ({"log_gradients": 1}, "log_gradients: received 1; expected True or False"),
        ({"gradient_frequency": 5}, "gradient_frequency: expected log_gradients=True with it"),
        (
            {"gradient_batches": 5},
            "gradient_batches: expected log_gradients=True and training_data",
        ),
        (
            {"log_gradients": True, "gradient_batches": 5},
            "gradient_batches: expected log_gradients=True and training_data",
        ),
        (
            {"log_gradients": True, "training_data": data(), "gradient_frequency": 5},
            "gradient_frequency: expected .* no training_data",
        ),
        (
            {"log_gradients": True, "gradient_frequency": 0},
            "gradient_frequency: received 0; expected a number of steps from 1",
        ),
        ({"log_gradients": True, "training_data": 3}, "training_data: received int; expected"),
        ({"monitor": None}, "monitor: received None; expected a string"),
        ({"log_best_prefix": True}, "log_best_prefix: received True; expected a string"),
        ({"batch_prefix": None}, "batch_prefix: received None; expected a string"),
        ({"verbose": "yes"}, "verbose: received 'yes'; expected 0 or 1"),
        ({"save_weights_only": "a.h5"}, "save_weights_only: received 'a.h5'; expected True or F"),
        ({"infer_missing_processors": 3}, "infer_missing_processors: received 3; expected True or"),
        ({"find_validation_data": 3}, "find_validation_data: received 3; expected True or False"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    """At once, with what was received and what is expected."""
    with pytest.raises(UsageError, match=message):
        WandbCallback(**arguments)


@pytest.mark.parametrize("training_data", [None, data()], ids=["of the steps", "of the data"])
def test_weights_gradients_and_metrics_of_an_epoch_are_one_row(
    start: Start, stored: Stored, training_data: Any
) -> None:
    """In wandb's order, under wandb's keys; the summary has the latest."""
    run = start()
    callback = WandbCallback(
        log_weights=True, log_gradients=True, training_data=training_data, save_model=False
    )
    made = model("mae")
    fit(made, callback, epochs=2)
    assert not any(part.failures for part in callback.parts)
    rows = list(stored(run).rows())
    assert [row.values["epoch"] for row in rows] == [0, 1]
    histograms = [
        "parameters/out.weights", "parameters/out.bias",
        "gradients/out/kernel.gradient", "gradients/out/bias.gradient",
    ]  # fmt: skip
    for row in rows:
        assert set(row.values) == {*histograms, "epoch", "loss", "mae", "learning_rate"}
    weights = wandbkeras.Histogram(made.get_layer("out").kernel.numpy()).to_value()
    assert rows[1].values[histograms[0]] == weights
    assert rows[1].values[histograms[2]]["stats"]["count"] == 3
    assert stored(run).summary[histograms[0]] == weights


def test_only_what_is_asked_for_is_done(start: Start) -> None:
    """Batches are followed only for the gradients of steps."""
    default = keras.callbacks.Callback.on_train_batch_begin
    assert WandbCallback(log_weights=True).on_train_batch_begin.__func__ is default
    assert WandbCallback(log_gradients=True).on_train_batch_begin.__func__ is not default


def test_a_part_that_fails_stops_neither_training_nor_the_others(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first failure is said with its reason, each is counted in the run."""
    run = start()
    callback = WandbCallback(monitor="loss")
    history = fit(model(), Scripted(odd=[object(), object(), 1.0]), callback, epochs=3)
    run.finish()
    assert len(history["loss"]) == 3
    found = stored(run)
    assert [row.values["epoch"] for row in found.rows()] == [2]
    assert found.summary["best_loss"] == min(history["loss"])
    assert len(found.artifacts) >= 1
    assert found.folded.failures == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(lines) == 1
    assert "MetricsLogger.on_epoch_end failed, training goes on without what it records" in lines[0]
    assert "'odd': received an object of type builtins.object" in lines[0]


def test_a_store_that_can_not_be_written_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where no run can be started, training runs to its end and the reason is said."""
    monkeypatch.setenv("WANDB_DIR", "/proc/runs")
    history = fit(model(), WandbCallback(), epochs=2)
    assert len(history["loss"]) == 2
    assert "no run can be written there" in capfd.readouterr().err


def test_an_interrupted_training_keeps_what_was_logged(start: Start, stored: Stored) -> None:
    """An exception of another callback passes through, and the rows before it are there."""

    class Interrupt(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), start() as run:
        fit(model(), WandbCallback(save_model=False), Interrupt(), epochs=5)
    assert [row.values["epoch"] for row in stored(run).rows()] == [0, 1]
    assert (stored(run).state, stored(run).exit_code) == ("failed", 130)


def test_the_callback_works_in_evaluate_and_predict(start: Start, stored: Stored) -> None:
    """Keras calls it there too; nothing is logged."""
    run = start()
    made = model()
    x, y = data()
    callback = WandbCallback(log_batch_frequency=1)
    made.evaluate(x, y, verbose=0, callbacks=[callback])
    made.predict(x, verbose=0, callbacks=[callback])
    assert list(stored(run).rows()) == []
    assert not any(part.failures for part in callback.parts)


_TRAIN = """
import os, sys, wandbkeras, keras
from tests.keras_models import fit, model
wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab")
said = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: os.write(1, b"%d\\n" % e))
fit(model(), wandbkeras.WandbCallback(monitor="loss", log_batch_frequency=1), said, epochs=10**9)
"""


def test_a_training_that_is_killed_has_every_row_it_logged(tmp_path: Path) -> None:
    """A real ``fit``, SIGKILLed in the middle, is crashed and complete up to that moment."""
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, str(tmp_path)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    for _ in range(15):
        assert process.stdout.readline()
    process.kill()
    rest, _ = process.communicate()
    run = Store(tmp_path).run("k3j9x2ab")
    epochs = [row.values["epoch"] for row in run.rows() if "epoch" in row.values]
    assert epochs == list(range(len(epochs)))
    assert len(epochs) >= 15 + rest.count(b"\n")
    assert (run.state, run.damage) == ("crashed", [])
    assert len(run.artifacts) >= 1
    for version in run.artifacts:
        for file in version.files.values():
            assert run.blob(file.sha256).stat().st_size == file.size
