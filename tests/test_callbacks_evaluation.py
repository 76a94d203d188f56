"""Evaluation tables of real trainings, as they lie in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import wandb

import wandbkeras
from tests.keras_models import data, fit, shared_model
from tests.pictures import pictures, pixels
from tests.server.process import LoopbackServer
from tests.syncing import ENTITY, PROJECT, connect, held, sync_one
from wandbkeras import WandbCallback
from wandbkeras.callbacks import EvaluationTables, ValidationData
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]
ANIMALS = ["cat", "dog", "owl"]
PHOTOS = np.random.default_rng(7).random((12, 6, 5, 1)).astype(np.float32)
KINDS = (np.arange(12) % 3)[:, None]
X, Y = data(10)


def callback(**arguments: Any) -> WandbCallback:
    return WandbCallback(save_model=False, monitor="loss", log_evaluation=True, **arguments)


def table(run: StoredRun, key: str = "validation_predictions") -> dict[str, list[Any]]:
    """Return the latest table under a key as columns."""
    return run.table(key).to_pydict()  # type: ignore[no-any-return]


def validation_table(run: StoredRun) -> dict[str, list[Any]]:
    """Return the one validation table of the run as columns."""
    (version,) = [v for v in run.artifacts if v.name == "wb_validation_data"]
    assert version.type == "validation_dataset"
    table = run.stored_table(version.tables["validation_data"]).read()
    return table.to_pydict()  # type: ignore[no-any-return]


class Predicting(keras.callbacks.Callback):  # type: ignore[misc]
    """What the model predicts for given inputs at the end of each epoch."""

    def __init__(self, x: Any) -> None:
        super().__init__()
        self.x = x
        self.epochs: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(self.model.predict(self.x, verbose=0))


@dataclass(frozen=True)
class Trained:
    """A training whose callback evaluated after epochs 0 and 2 of four, and at the end."""

    run: StoredRun
    path: Path
    predicted: list[Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    store = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(7)
    photo = keras.Input((6, 5, 1))
    scores = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(photo))
    made = keras.Model(photo, scores)
    made.compile("sgd", "sparse_categorical_crossentropy")
    spy = Predicting(PHOTOS)
    watcher = callback(
        labels=ANIMALS, log_evaluation_frequency=2, input_type="image", predictions=3
    )
    with wandbkeras.init(dir=store, project="digits", id="k3j9x2ab") as run:
        validation = (PHOTOS, KINDS)
        options: dict[str, Any] = {"batch_size": 5, "epochs": 4, "verbose": 0}
        made.fit(*validation, validation_data=validation, callbacks=[spy, watcher], **options)
        assert not any(part.failures for part in watcher.parts)
    found = wandbkeras.Store(store).run(run.id)
    return Trained(found, found.path, spy.epochs)


def test_the_validation_data_are_a_table_of_an_artifact(trained: Trained) -> None:
    """Targets and inputs as they were, and what their shapes suggest, once."""
    found = validation_table(trained.run)
    assert [name for name in found if "." not in name] == [
        "target",
        "input",
        "target:class",
        "input:image",
    ]
    np.testing.assert_array_equal(found["target"], KINDS)
    np.testing.assert_array_equal(np.float32(found["input"]), PHOTOS)
    assert found["target:class"] == KINDS[:, 0].tolist()
    for cell, photo in zip(found["input:image"], PHOTOS, strict=True):
        np.testing.assert_array_equal(pixels(cell["bytes"]), np.rint(photo[..., 0] * 255))


def test_predictions_come_in_the_rows_of_their_epochs(trained: Trained) -> None:
    """At every second epoch, and at the end of training in a row of its own, without `verbose`."""
    rows = [row.values for row in trained.run.rows()]
    assert [row.get("epoch") for row in rows] == [0, 1, 2, 3, None]
    with_tables = [number for number, row in enumerate(rows) if "validation_predictions" in row]
    assert with_tables == [0, 2, 4]
    assert set(rows[4]) == {"validation_predictions"}


def test_predictions_refer_to_the_rows_of_the_validation_table(trained: Trained) -> None:
    """Row numbers instead of inputs; each table holds what the model said then."""
    for step, epoch in ((0, 0), (2, 2), (4, 3)):
        found = trained.run.table("validation_predictions", step).to_pydict()
        assert list(found) == ["output", "val_row", "output:max_class", "output:score"]
        assert found["val_row"] == list(range(12))
        scores = trained.predicted[epoch]
        np.testing.assert_allclose(found["output"], scores, rtol=1e-6)
        assert found["output:max_class"] == scores.argmax(1).tolist()


def test_all_of_it_arrives(
    trained: Trained, tmp_path: Path, wandb_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B's own client opens the tables, follows a row to its input, and finds the pictures."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    assert sync_one(trained.path).error is None
    found = held(wandb_server, "k3j9x2ab")
    assert [a.name for a in found.used_artifacts] == ["wb_validation_data"]
    with_tables = [row["_step"] for row in found.rows if "validation_predictions" in row]
    assert with_tables == [0, 2, 4]
    shown = found.rows[3]["examples"]
    assert (shown["_type"], shown["count"]) == ("images/separated", 3)
    assert set(shown["captions"]) <= set(ANIMALS)
    stored_files = [content for content, _ in pictures(trained.run, "examples")[3]]
    assert [found.files[name] for name in shown["filenames"]] == stored_files

    name = f"{ENTITY}/{PROJECT}/run-k3j9x2ab-validation_predictions:latest"
    opened = wandb.Api().artifact(name).get("validation_predictions")
    assert opened.columns == ["output", "val_row", "output:max_class", "output:score"]
    np.testing.assert_allclose(opened.get_column("output"), trained.predicted[3], rtol=1e-6)
    truth = opened.data[5][1].get_row()
    assert list(truth) == ["target", "input", "target:class", "input:image"]
    np.testing.assert_array_equal(truth["input"], PHOTOS[5])
    assert truth["target:class"] == KINDS[5, 0]


def test_one_fit_at_the_end_has_one_table(start: Start, stored: Stored) -> None:
    """With the default frequency predictions are recorded when training ends."""
    run = start()
    fit(shared_model(), callback(), validation_data=(X, Y))
    rows = [row.values for row in stored(run).rows()]
    assert ["validation_predictions" in row for row in rows] == [False, False, True]
    names = ["output", "val_row", "output:node", "output:argmax", "output:argmin"]
    assert list(table(stored(run))) == names


def test_inputs_and_outputs_keep_their_names(start: Start, stored: Stored) -> None:
    """Of several, each is a column; a target with the name of an input is told apart."""
    keras.utils.set_random_seed(7)
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    both = keras.layers.Concatenate()([left, right])
    heads = {
        "left": keras.layers.Dense(3, name="left_again")(both),
        "size": keras.layers.Dense(1, name="size")(both),
    }
    made = keras.Model({"left": left, "right": right}, heads)
    made.compile("sgd", "mse")
    x = {"left": np.ones((5, 2)), "right": np.zeros((5, 3))}
    y = {"left": np.ones((5, 3)), "size": np.ones((5, 1))}
    run = start()
    made.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[callback(labels=ANIMALS)])
    found = [name for name in validation_table(stored(run)) if ":" not in name]
    assert found == ["target_left", "size", "left", "right"]
    made_of_outputs = ["left:max_class", "left:score", "size:node", "size:argmax", "size:argmin"]
    assert list(table(stored(run))) == ["left", "size", "val_row", *made_of_outputs]


def shuffled() -> Any:
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((X, Y))
    return rows.shuffle(10, reshuffle_each_iteration=True).batch(4)


class Halves(keras.utils.PyDataset):  # type: ignore[misc]
    """Two batches, the second one first in every other reading."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = 0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        self.readings += index == 0
        half = slice(0, 5) if (index + self.readings) % 2 else slice(5, 10)
        return X[half], Y[half]


def batches() -> Iterator[Any]:
    for index in range(100):
        yield X[index : index + 1], Y[index : index + 1]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"validation_data": shuffled}, marks=pytest.mark.tensorflow),
        {"validation_data": Halves},
        {"generator": batches, "validation_steps": lambda: 10},
    ],
)
def test_a_prediction_is_that_of_its_row(
    start: Start, stored: Stored, arguments: dict[str, Any]
) -> None:
    """In whatever order a dataset comes; a generator is read once."""
    run = start()
    made = shared_model()
    given = {name: value() for name, value in arguments.items()}
    watcher = callback(**given, log_evaluation_frequency=1)
    fit(made, watcher, epochs=3)
    assert not any(part.failures for part in watcher.parts)
    inputs = np.float32(validation_table(stored(run))["input"])
    assert sorted(inputs.tolist()) == sorted(X.tolist())
    found = table(stored(run))
    assert sorted(found["val_row"]) == list(range(10))
    expected = made.predict(inputs[found["val_row"]], verbose=0)
    np.testing.assert_allclose(found["output"], expected, rtol=1e-5)


def test_rows_that_change_are_refused(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """Predictions for rows that nobody can look at are not recorded, and that is said."""

    class Noisy(Halves):
        def __getitem__(self, index: int) -> Any:
            x, y = super().__getitem__(index)
            return x + np.random.normal(size=x.shape).astype(np.float32), y

    run = start()
    fit(shared_model(), callback(), validation_data=Noisy())
    assert len(validation_table(stored(run))["input"]) == 10
    assert [table.key for table in stored(run).tables()] == []
    assert "expected the same rows each time" in capfd.readouterr().err


def test_the_generator_of_fit_makes_no_table(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is not advanced, and one line names what to pass."""
    run = start()
    fit(shared_model(), callback(), validation_data=batches(), validation_steps=2)
    assert list(stored(run).artifacts) == []
    assert capfd.readouterr().err.count("no evaluation tables: fit validates with a generator") == 1


def test_row_processors_add_columns(start: Start, stored: Stored) -> None:
    """They get numbers and rows as wandb's do, and may return wandb's objects or ours."""

    def of_validation(number: int, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "double": 2 * number,
            "theirs": wandb.Image(np.full((2, 3), number, np.uint8)),
            "ours": wandbkeras.Image(np.full((2, 3), 10 * number, np.uint8), caption=str(number)),
            "sum": float(row["input"].sum() + row["target"].sum()),
        }

    def of_predictions(number: int, row: dict[str, Any]) -> dict[str, Any]:
        validation = row["val_row"].get_row()
        return {
            "off": float(row["output"][0] - validation["target"][0]),
            "same": number.get_row()["output"] is row["output"],  # type: ignore[attr-defined]
            "first": float(validation["input"][0]),
        }

    run = start()
    watcher = callback(validation_row_processor=of_validation, output_row_processor=of_predictions)
    fit(shared_model(), watcher, validation_data=(X, Y))
    found = validation_table(stored(run))
    assert [name for name in found if "." not in name] == [
        "target",
        "input",
        "double",
        "theirs",
        "ours",
        "sum",
    ]
    assert found["double"] == list(range(0, 20, 2))
    assert [pixels(cell["bytes"])[0, 0] for cell in found["theirs"]] == list(range(10))
    assert [pixels(cell["bytes"])[0, 0] for cell in found["ours"]] == list(range(0, 100, 10))
    np.testing.assert_allclose(found["sum"], X.sum(1) + Y[:, 0], rtol=1e-6)
    made = table(stored(run))
    assert list(made) == ["output", "val_row", "off", "same", "first"]
    np.testing.assert_allclose(made["off"], np.array(made["output"])[:, 0] - Y[:, 0])
    assert made["same"] == [True] * 10
    np.testing.assert_allclose(made["first"], X[:, 0])


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (lambda number, row: row["inputs"], "KeyError: 'inputs'"),
        (lambda number, row: [number], "received list for row 0; expected a dict"),
        (lambda number, row: {f"column {number}": 1}, "received the columns ['column 1'] for row"),
    ],
)
def test_a_processor_that_fails_stops_nothing(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str], processor: Any, message: str
) -> None:
    """The reason is said once; nothing half-written stays."""
    run = start()
    watcher = callback(validation_row_processor=processor)
    history = fit(shared_model(), watcher, validation_data=(X, Y), epochs=3)
    assert len(history["loss"]) == 3
    assert capfd.readouterr().err.count(message) == 1
    run.finish()
    assert (list(stored(run).artifacts), stored(run).tables()) == ([], [])


def test_a_full_disk_costs_the_tables_only(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """What does not fit is said once and counted; predictions would have nothing to refer to."""
    run = start(max_bytes="64KiB")
    many = (np.random.default_rng(7).normal(size=(9_000, 3)), np.ones((9_000, 1)))
    options = {"validation_data": many, "validation_batch_size": 3_000}
    watcher = callback(log_evaluation_frequency=1)
    fit(shared_model(), watcher, **options)
    run.finish()
    said = [line for line in capfd.readouterr().err.splitlines() if "is not recorded" in line]
    assert len(said) == 1
    assert "artifact 'wb_validation_data' is not recorded, training goes on" in said[0]
    assert not any(part.failures for part in watcher.parts)
    assert stored(run).folded.dropped_events == 1
    assert [row.values["epoch"] for row in stored(run).rows()] == [0, 1]
    assert stored(run).tables() == []


@pytest.mark.parametrize("made_by", [wandbkeras, wandb])
def test_predictions_may_refer_to_a_table_of_the_users(
    start: Start, stored: Stored, made_by: Any
) -> None:
    """With keys of it, ours or wandb's, there is no validation table."""
    run = start()
    own = made_by.Table(["name"], [[f"row {i}"] for i in range(10)])
    run.log({"own": own})
    keys = own.get_index()[::-1]
    fit(shared_model(), callback(validation_indexes=keys), validation_data=(X, Y))
    assert list(stored(run).artifacts) == []
    assert table(stored(run))["val_row"] == list(range(9, -1, -1))
    linked = stored(run).tables()[-1].schema().columns[1]
    assert (linked.kind, linked.table) == ("row", stored(run).tables()[0].file.path)


def test_keys_may_be_plain_numbers(start: Start, stored: Stored) -> None:
    """They are recorded as numbers, which refer to nothing."""
    run = start()
    fit(shared_model(), callback(validation_indexes=range(10, 20)), validation_data=(X, Y))
    assert table(stored(run))["val_row"] == list(range(10, 20))
    assert stored(run).tables()[-1].schema().columns[1].kind == "integer"


def test_there_is_a_key_for_each_row(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """Another number of keys is refused with both numbers."""
    start()
    fit(shared_model(), callback(validation_indexes=range(3)), validation_data=(X, Y))
    said = capfd.readouterr().err
    assert "validation_indexes: received 3 keys; expected one for each of the 10 rows" in said


def test_predicted_masks_lie_over_their_images(start: Start, stored: Stored) -> None:
    """With labels, integer targets and scores of the size of the input are overlays."""
    keras.utils.set_random_seed(7)
    photo = keras.Input((6, 5, 1))
    made = keras.Model(photo, keras.layers.Dense(3, activation="softmax")(photo))
    made.compile("sgd", lambda y, scores: keras.ops.mean(scores))
    masks = np.arange(12 * 30).reshape(12, 6, 5) % 3
    run = start()
    options: dict[str, Any] = {"validation_data": (PHOTOS, masks), "verbose": 0}
    made.fit(PHOTOS, masks, callbacks=[callback(labels=ANIMALS)], **options)
    for found, name, expected in (
        (validation_table(stored(run)), "target:image", masks),
        (table(stored(run)), "output:image", made.predict(PHOTOS, verbose=0).argmax(-1)),
    ):
        assert len(found[name]) == 12
        np.testing.assert_array_equal(
            [pixels(cell["bytes"]) for cell in found[f"{name}.masks.masks"]], expected
        )


def test_the_table_is_written_once_for_all_fits(start: Start, stored: Stored) -> None:
    """A second `fit`, or a process that resumes the run, refers to the same rows."""
    run = start(id="k3j9x2ab")
    fit(shared_model(), callback(), validation_data=(X, Y))
    fit(shared_model(), callback(), validation_data=(X, Y))
    run.finish()
    resumed = start(id="k3j9x2ab", resume="must")
    fit(shared_model(), callback(), validation_data=(X, Y), initial_epoch=2, epochs=3)
    resumed.finish()
    assert len(validation_table(stored(run))["input"]) == 10
    epochs = [row.values.get("epoch") for row in stored(run).rows()]
    assert epochs == [0, 1, None, 0, 1, None, 2, None]
    assert [table.step for table in stored(run).tables()] == [2, 5, 7]
    other = start(id="k3j9x2ab", resume="must")
    fit(shared_model(), callback(), validation_data=(X[:4], Y[:4]))
    other.finish()
    assert len(stored(run).artifacts) == 2


def test_the_parts_alone_are_enough(start: Start, stored: Stored) -> None:
    """Without the whole callback each evaluation is a row of its own, with its epoch."""
    run = start()
    found = ValidationData()
    fit(
        shared_model(),
        found,
        EvaluationTables(found, log_evaluation_frequency=1),
        validation_data=(X, Y),
    )
    assert [set(row.values) for row in stored(run).rows()] == [
        {"validation_predictions", "epoch"}
    ] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_evaluation_frequency": -1}, "log_evaluation_frequency: received -1; expected a"),
        ({"log_evaluation_frequency": 1.0}, "log_evaluation_frequency: received 1.0; expected a"),
        ({"validation_row_processor": 3}, "validation_row_processor: received int; expected a"),
        ({"prediction_row_processor": "f"}, "prediction_row_processor: received str; expected"),
        ({"validation_indexes": 3}, "validation_indexes: received int; expected a list of row"),
        (
            {"output_row_processor": dict, "prediction_row_processor": dict},
            "received output_row_processor and prediction_row_processor, which is its new name",
        ),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    """The message says what was received and what is expected."""
    with pytest.raises(UsageError, match=message):
        callback(**arguments)
