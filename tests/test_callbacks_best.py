"""The best value and its epoch: which counts, and in which direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

import wandbkeras
from tests.keras_models import Scripted, data, fit, model
from wandbkeras import WandbCallback
from wandbkeras.callbacks import BestMetric
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("min", [3.0, 1.0, 2.0], (1.0, 1)),
        ("max", [1.0, 3.0, 2.0], (3.0, 1)),
        ("max", [-1.0, 0.0, -2.0], (0.0, 1)),
        ("min", [0.0, 1.0, 0.5], (0.0, 0)),
        ("max", [0.0, -1.0], (0.0, 0)),
        ("min", [NAN, 2.0, NAN, 3.0], (2.0, 1)),
        ("max", [NAN, 2.0, NAN], (2.0, 1)),
        ("min", [2.0, NAN, 1.0], (1.0, 2)),
        ("min", [INF, 2.0], (2.0, 1)),
        ("max", [INF, 2.0], (INF, 0)),
        ("min", [1.0, 1.0], (1.0, 0)),
        ("min", [NAN, NAN], None),
    ],
)
def test_the_best_value_and_its_epoch_are_in_the_summary(
    start: Start, stored: Stored, mode: str, values: list[float], best: tuple[float, int] | None
) -> None:
    """0.0 counts like any other value, NaN never wins, the first of equal values stays."""
    run = start()
    callback = WandbCallback(monitor="score", mode=mode, save_model=False)
    fit(model(), Scripted(score=values), callback, epochs=len(values))
    run.finish()
    summary = stored(run).summary
    found = (summary["best_score"], summary["best_epoch"]) if "best_score" in summary else None
    assert found == best


@pytest.mark.parametrize("prefix", ["best_", "top/", ""])
def test_the_prefix_is_the_users(start: Start, stored: Stored, prefix: str) -> None:
    """The keys are the prefix with the metric and with ``epoch``."""
    run = start()
    callback = WandbCallback("score", log_best_prefix=prefix, save_model=False)
    fit(model(), Scripted(score=[1.0, 2.0]), callback)
    run.finish()
    assert stored(run).summary[f"{prefix}score"] == (2.0 if prefix == "" else 1.0)


def test_no_prefix_switches_only_the_summary_off(start: Start, stored: Stored) -> None:
    """The best model is saved all the same."""
    run = start()
    callback = WandbCallback("score", mode="max", log_best_prefix=None)
    fit(model(), Scripted(score=[1.0, 2.0, 0.0]), callback, epochs=3)
    run.finish()
    assert not [key for key in stored(run).summary if "best" in key]
    aliases = [version.aliases for version in stored(run).artifacts]
    assert aliases == [("latest", "best", "epoch_0"), ("latest", "best", "epoch_1")]


@pytest.mark.parametrize(
    ("metric", "monitor", "direction"),
    [
        pytest.param(None, "val_loss", "min", id="the loss"),
        pytest.param("accuracy", "val_accuracy", "max", id="accuracy"),
        pytest.param("mae", "mae", "min", id="an error"),
        pytest.param(lambda: keras.metrics.AUC(), "val_auc", "max", id="AUC"),
        pytest.param(lambda: keras.metrics.AUC(name="roc"), "val_roc", "max", id="AUC, renamed"),
        pytest.param(lambda: keras.metrics.Precision(), "precision", "max", id="precision"),
        pytest.param(lambda: keras.metrics.F1Score(), "val_f1_score", "max", id="F1"),
        pytest.param(lambda: keras.metrics.BinaryIoU(), "binary_io_u", "max", id="IoU"),
        pytest.param(
            lambda: keras.metrics.BinaryCrossentropy(name="acc_error"),
            "val_acc_error",
            "min",
            id="a declared direction goes before the name",
        ),
        pytest.param(None, "val_macro_acc", "max", id="a name with acc"),
        pytest.param(None, "fmeasure_2", "max", id="a name that begins with fmeasure"),
        pytest.param(None, "score", "min", id="any other name"),
    ],
)
def test_auto_finds_the_direction(metric: Any, monitor: str, direction: str) -> None:
    """Keras's own metric of this name declares it; else the name tells."""
    metrics = () if metric is None else (metric() if callable(metric) else metric,)
    made = model(*metrics)
    x, y = data()
    made.train_on_batch(x, y)
    best = BestMetric(monitor)
    best.set_model(made)
    assert best.direction() == direction


def test_auto_finds_the_direction_of_one_output_of_several() -> None:
    """With several outputs Keras puts the output's name before the metric's."""
    inputs = keras.Input((3,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("left", "right")}
    made = keras.Model(inputs, outputs)
    made.compile(loss="mse", metrics={"left": [keras.metrics.AUC(name="roc")], "right": ["mae"]})
    x, y = data()
    logs = made.train_on_batch(x, {"left": y, "right": y}, return_dict=True)
    assert {"left_roc", "right_mae"} <= set(logs)
    for monitor, direction in (("val_left_roc", "max"), ("val_right_mae", "min")):
        best = BestMetric(monitor)
        best.set_model(made)
        assert best.direction() == direction


def test_an_auc_is_maximised_in_a_real_fit(start: Start, stored: Stored) -> None:
    """What Keras logged as the largest is the best."""
    run = start()
    made = model(keras.metrics.AUC(name="auc"), optimizer=keras.optimizers.SGD(1.0))
    history = fit(
        made, WandbCallback("val_auc", save_model=False), epochs=4, validation_data=data(32)
    )
    run.finish()
    assert stored(run).summary["best_val_auc"] == max(history["val_auc"])
    assert stored(run).summary["best_epoch"] == history["val_auc"].index(max(history["val_auc"]))


def test_a_monitor_that_is_not_there_is_said_once(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """The line has the name and those that there are; nothing is best and nothing is saved."""
    run = start()
    fit(model("mae"), WandbCallback(monitor="val_auc"), epochs=3)
    run.finish()
    lines = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(lines) == 1
    assert "monitor 'val_auc' is not among the metrics of this epoch (loss, mae)" in lines[0]
    assert stored(run).artifacts == []
    assert not [key for key in stored(run).summary if key.startswith("best")]


@pytest.mark.parametrize("mode", ["Min", "maximum", "", None])
def test_an_unknown_mode_is_refused(mode: Any) -> None:
    """The message names what was received and what is expected."""
    with pytest.raises(UsageError, match=r"mode: received .*; expected one of auto, min, max"):
        WandbCallback(mode=mode)
