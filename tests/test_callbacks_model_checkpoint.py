"""WandbModelCheckpoint where wandb's fails or says nothing; where it doesn't, they are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests.keras_models import STEPS_PER_EXECUTION, Scripted, data, fit, model
from wandbkeras import WandbModelCheckpoint
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def eager_model() -> keras.Model:
    return model(run_eagerly=True)


def saved(run: StoredRun) -> list[tuple[str, str]]:
    """Of each version the name of its file and its own alias."""
    return [(next(iter(version.files)), version.aliases[-1]) for version in run.artifacts]


def test_only_the_best_are_saved_under_names_with_placeholders(
    start: Start, stored: Stored, tmp_path: Path
) -> None:
    """An epoch that is not better makes no file and no version, and training goes on."""
    run = start()
    scores = [3.0, 5.0, 4.0, 0.0, -1.0]
    checkpoint = WandbModelCheckpoint(
        tmp_path / "models" / "m-{epoch:02d}-{val_score:.1f}.keras", "val_score",
        save_best_only=True,
    )  # fmt: skip
    made = eager_model()
    fit(made, Scripted(val_score=scores), checkpoint, epochs=5)
    run.finish()
    found = stored(run)
    assert saved(found) == [
        ("m-01-3.0.keras", "epoch_0"), ("m-04-0.0.keras", "epoch_3"),
        ("m-05--1.0.keras", "epoch_4"),
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "models").iterdir()} == {n for n, _ in saved(found)}
    assert found.folded.failures == 0
    assert checkpoint.best == -1.0
    version = found.artifacts[-1]
    assert (version.name, version.type) == (f"run_{run.id}_model", "model")
    assert version.metadata == {
        "epoch": 4, "monitor": "val_score", "val_score": -1.0, "format": "keras", "what": "model",
        "optimizer": True, "keras": keras.__version__, "backend": keras.backend.backend(),
    }  # fmt: skip
    loaded = keras.models.load_model(tmp_path / "models" / "m-05--1.0.keras")
    np.testing.assert_array_equal(
        loaded.predict_on_batch(data()[0]), made.predict_on_batch(data()[0])
    )


def test_the_first_best_must_be_better_than_the_threshold(
    start: Start, stored: Stored, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And what is said is what Keras says."""
    run = start()
    checkpoint = WandbModelCheckpoint(
        tmp_path / "m.weights.h5", "auc", verbose=1, save_best_only=True, save_weights_only=True,
        mode="max", initial_value_threshold=0.5,
    )  # fmt: skip
    fit(eager_model(), Scripted(auc=[0.4, 0.6]), checkpoint)
    run.finish()
    assert saved(stored(run)) == [("m.weights.h5", "epoch_1")]
    path = tmp_path / "m.weights.h5"
    assert [line for line in capfd.readouterr().out.splitlines() if line.startswith("Epoch")] == [
        "Epoch 1: auc did not improve from 0.50000",
        f"Epoch 2: auc improved from 0.50000 to 0.60000, saving model to {path}",
        f"Epoch 2: finished saving model to {path}",
    ]


def test_without_the_monitor_every_model_is_saved(
    start: Start, stored: Stored, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As Keras does; it is said once, with the metrics that there are."""
    run = start()
    checkpoint = WandbModelCheckpoint(tmp_path / "m-{epoch}.keras", save_best_only=True)
    fit(eager_model(), checkpoint)
    run.finish()
    assert saved(stored(run)) == [("m-1.keras", "epoch_0"), ("m-2.keras", "epoch_1")]
    said = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(said) == 1
    assert "monitor 'val_loss' is not among the metrics (loss): every model is saved" in said[0]


def test_a_placeholder_of_no_metric_stops_nothing(
    start: Start, stored: Stored, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said with those that there are, and counted."""
    run = start()
    fit(eager_model(), WandbModelCheckpoint(tmp_path / "m-{val_acc}.keras"))
    run.finish()
    assert stored(run).artifacts == []
    assert stored(run).folded.failures == 2
    assert "has the placeholder 'val_acc'; there are epoch, loss" in capfd.readouterr().err


@pytest.mark.parametrize("steps", STEPS_PER_EXECUTION[:2])
def test_batches_are_counted_in_executions_of_several(
    start: Start, stored: Stored, tmp_path: Path, steps: int
) -> None:
    """The model is saved after the execution that reaches the N-th, across epochs."""
    run = start()
    made = model(steps_per_execution=steps)
    x, y = data(6)
    checkpoint = WandbModelCheckpoint(tmp_path / "m-{epoch}-{batch}.keras", save_freq=5)
    made.fit(x, y, batch_size=1, epochs=2, verbose=0, callbacks=[checkpoint])
    run.finish()
    last = {1: (4, 3), 2: (5, 5)}[steps]  # of the executions that reach the 5th, and the 10th
    assert saved(stored(run)) == [
        (f"m-{epoch + 1}-{batch + 1}.keras", f"epoch_{epoch}_batch_{batch}")
        for epoch, batch in enumerate(last)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"filepath": "m"},
            r"filepath: received 'm'; expected a path that ends in \.keras or \.h5",
        ),
        ({"filepath": 3}, "filepath: received 3; expected a path"),
        ({"filepath": "m.keras", "save_weights_only": True}, r"ends in \.weights\.h5"),
        ({"filepath": "m.keras", "save_freq": 0}, "save_freq: received 0; expected epoch or a num"),
        ({"filepath": "m.keras", "save_freq": "batch"}, "save_freq: received 'batch'"),
        ({"filepath": "m.keras", "save_best_only": "yes"}, "save_best_only: received 'yes'"),
        ({"filepath": "m.keras", "initial_value_threshold": "a"}, "initial_value_threshold: recei"),
        ({"filepath": "m.keras", "mode": "best"}, "mode: received 'best'; expected one of auto"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], message: str) -> None:
    """At once, with what was received and expected."""
    with pytest.raises(UsageError, match=message):
        WandbModelCheckpoint(**arguments)
