"""wandb's base class for evaluation callbacks, recording offline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import wandbkeras
import wandbkeras as wandb
from tests.keras_models import data, fit, shared_model
from tests.pictures import pixels
from wandbkeras import WandbEvalCallback
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]
PHOTOS = np.random.default_rng(7).integers(0, 256, (6, 4, 5, 1)).astype(np.uint8)
KINDS = np.arange(6) % 3


# The example of wandb's documentation, unchanged but for its imports; it leaves out `logs`.
class WandbClfEvalCallback(WandbEvalCallback):
    def __init__(self, validation_data, data_table_columns, pred_table_columns):  # type: ignore[no-untyped-def]
        super().__init__(data_table_columns, pred_table_columns)

        self.x = validation_data[0]
        self.y = validation_data[1]

    def add_ground_truth(self):  # type: ignore[no-untyped-def, override]
        for idx, (image, label) in enumerate(zip(self.x, self.y)):  # noqa: B905
            self.data_table.add_data(idx, wandb.Image(image), label)

    def add_model_predictions(self, epoch):  # type: ignore[no-untyped-def, override]
        preds = self.model.predict(self.x, verbose=0)
        preds = tf.argmax(preds, axis=-1)

        data_table_ref = self.data_table_ref
        table_idxs = data_table_ref.get_index()

        for idx in table_idxs:
            pred = preds[idx]
            self.pred_table.add_data(
                epoch,
                data_table_ref.data[idx][0],
                data_table_ref.data[idx][1],
                data_table_ref.data[idx][2],
                pred,
            )


def classifier() -> keras.Model:
    keras.utils.set_random_seed(7)
    photo = keras.Input((4, 5, 1))
    scores = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(photo))
    made = keras.Model(photo, scores)
    made.compile("sgd", "sparse_categorical_crossentropy")
    return made


def read(run: StoredRun, name: str, version: int) -> dict[str, list[Any]]:
    """Return the table of a version of an artifact as columns."""
    versions = [artifact for artifact in run.artifacts if artifact.name == name]
    (file,) = versions[version].tables.values()
    return run.stored_table(file).read().to_pydict()  # type: ignore[no-any-return]


def test_the_documented_example_of_wandb_runs(start: Start, stored: Stored) -> None:
    """Offline: a table of the data, and one of predictions for each epoch, under wandb's names."""
    run = start()
    x, y = PHOTOS, KINDS
    watcher = WandbClfEvalCallback(
        validation_data=(x, y),
        data_table_columns=["idx", "image", "label"],
        pred_table_columns=["epoch", "idx", "image", "label", "pred"],
    )
    made = classifier()
    made.fit(x, y, epochs=2, validation_data=(x, y), callbacks=[watcher], verbose=0)
    assert watcher.failures == 0
    found = stored(run)
    kinds = [(v.name, v.type, tuple(v.tables), v.aliases) for v in found.artifacts]
    predictions = (f"run_{run.id}_pred", "evaluation", ("eval_data",), ("latest",))
    assert kinds == [("val", "dataset", ("val_data",), ("latest",)), predictions, predictions]
    truth = read(found, "val", 0)
    assert (truth["idx"], truth["label"]) == (list(range(6)), KINDS.tolist())
    for epoch in range(2):
        said = read(found, f"run_{run.id}_pred", epoch)
        assert said["epoch"] == [epoch] * 6
        assert (said["idx"], said["label"]) == (truth["idx"], truth["label"])
        assert [cell["bytes"] for cell in said["image"]] == [c["bytes"] for c in truth["image"]]
    np.testing.assert_array_equal(pixels(truth["image"][2]["bytes"]), PHOTOS[2, ..., 0])
    assert said["pred"] == made.predict(x, verbose=0).argmax(-1).tolist()


class Rows(WandbEvalCallback):
    """Predictions that refer to the rows of the data's table."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__(["label"], ["row", "loss", "score"])
        self.fails_at = fails_at

    def add_ground_truth(self, logs: Any = None) -> None:
        for label in data()[1]:
            self.data_table.add_data(float(label[0]))

    def add_model_predictions(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.fails_at:
            raise RuntimeError("no scores")
        scores = self.model.predict(data()[0], verbose=0)
        for key in self.data_table_ref.get_index():
            self.pred_table.add_data(key, logs["loss"], float(scores[key][0]))


def test_rows_may_be_referred_to(start: Start, stored: Stored) -> None:
    """Keys of the data's table are links; what Keras logged is handed on."""
    run = start()
    history = fit(shared_model(), Rows())
    found = read(stored(run), f"run_{run.id}_pred", -1)
    assert found["row"] == list(range(8))
    assert found["loss"] == [history["loss"][-1]] * 8


def test_an_error_of_the_users_stops_nothing(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said, and the other epochs have their tables."""
    run = start()
    history = fit(shared_model(), Rows(fails_at=1), epochs=3)
    assert len(history["loss"]) == 3
    assert [v.name for v in stored(run).artifacts] == ["val", *[f"run_{run.id}_pred"] * 2]
    said = capfd.readouterr().err
    assert "Rows.on_epoch_end failed, training goes on" in said
    assert "RuntimeError: no scores" in said


def test_the_steps_can_be_called_with_wandbs_arguments(start: Start, stored: Stored) -> None:
    """Names, types and aliases are those that are given."""
    run = start()
    watcher = Rows()
    watcher.init_data_table(column_names=["a"])
    watcher.data_table.add_data(1)
    watcher.log_data_table(name="truth", type="data", table_name="rows")
    assert watcher.data_table_ref.data == [[1]]
    watcher.init_pred_table(column_names=["b"])
    watcher.log_pred_table(type="scores", table_name="said", aliases=["best"])
    assert [(v.name, v.type, tuple(v.tables)) for v in stored(run).artifacts] == [
        ("truth", "data", ("rows",)),
        (f"run_{run.id}_pred", "scores", ("said",)),
    ]
    assert "best" in stored(run).artifacts[1].aliases


def test_the_two_methods_are_to_be_written() -> None:
    """As with wandb, the class itself can't be used."""
    with pytest.raises(TypeError, match="add_ground_truth"):
        WandbEvalCallback(["a"], ["b"])  # type: ignore[abstract]
