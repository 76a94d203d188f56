"""Fits that show what each argument of ``WandbCallback`` does, and what is seen of them.

Some fits, each with arguments that go together. A :class:`Fit` compares with each read what lies in
the store with what has arrived in W&B.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import wandbkeras
from tests.keras_models import Scripted, data, model
from tests.pictures import pictures, pixels
from tests.server.snapshot import ArtifactSnapshot, RunSnapshot
from tests.syncing import PROJECT
from wandbkeras import WandbCallback, WandbEvalCallback
from wandbkeras.store.reader import StoredRun

ANIMALS = ["cat", "dog", "owl"]
PHOTOS = np.random.default_rng(7).random((12, 6, 5, 1)).astype(np.float32)
KINDS = np.arange(12) % 3
MASKS = np.arange(12 * 30).reshape(12, 6, 5) % 3
COLORS = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
EPOCHS = 3
BATCHES = 3


class Batches:
    """Training data in three batches, of which it counts those that are read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for start in (0, 4, 8):
            self.read += 1
            yield PHOTOS[start : start + 4], KINDS[start : start + 4]


TRAINING = Batches()
GENERATOR = ((PHOTOS[i : i + 3], MASKS[i : i + 3]) for i in (0, 3, 6, 9))


def mlp() -> keras.Model:
    return model("mae", optimizer=keras.optimizers.SGD(0.25))


def classifier() -> keras.Model:
    return of_photos(keras.layers.Flatten(), "sparse_categorical_crossentropy")


def segmenter() -> keras.Model:
    # Not a crossentropy: Torch has no gradient of one for each pixel.
    return of_photos(keras.layers.Identity(), lambda y, scores: keras.ops.mean(scores**2))


def of_photos(first: keras.layers.Layer, loss: Any) -> keras.Model:
    """A model with three scores: of a photo, or of each of its pixels."""
    keras.utils.set_random_seed(7)
    scores = keras.layers.Dense(3, activation="softmax", name="scores")
    made = keras.Sequential([keras.Input((6, 5, 1)), first, scores])
    made.compile(keras.optimizers.SGD(0.25), loss)
    return made


class Rows(WandbEvalCallback):
    """A table of its own, and predictions that refer to its rows."""

    def add_ground_truth(self, logs: Any = None) -> None:
        for photo in PHOTOS[:2]:
            self.data_table.add_data(wandbkeras.Image(photo))

    def add_model_predictions(self, epoch: int, logs: Any = None) -> None:
        for key in self.data_table_ref.get_index():
            self.pred_table.add_data(epoch, key)


def record_all(store: Path) -> dict[str, tuple[str, str]]:
    """Record every fit as a run of its own; return the run's id and what was said, by name."""
    x, y = data(12)
    runs: dict[str, tuple[str, str]] = {}

    def run(name: str, *fit: Any, **arguments: Any) -> None:
        with wandbkeras.init(PROJECT, dir=store, name=name.replace(" ", "-")) as opened:
            if "validation_indexes" in arguments:
                own = wandbkeras.Table(["name"], [["first"], ["second"]])
                opened.log({"own": own})
                arguments["validation_indexes"] = own.get_index()
            runs[name] = (opened.id, _train(WandbCallback(**arguments), *fit))

    run("defaults", mlp(), x, y)
    run(
        "photos", classifier(), PHOTOS, KINDS,
        monitor="score", verbose=1, mode="min", log_best_prefix="top_", keep="best",
        save_optimizer=False, log_weights=True, log_gradients=True, training_data=TRAINING,
        gradient_batches=2, validation_data=(PHOTOS, KINDS[:, None]), labels=ANIMALS,
        predictions=4, input_type="image", output_type="label", log_evaluation=True,
        log_evaluation_frequency=2, log_batch_frequency=2, batch_prefix="batch/",
        compute_flops=True,
    )  # fmt: skip
    run(
        "masks", segmenter(), PHOTOS, MASKS,
        monitor="score", mode="max", save_weights_only=True, log_best_prefix=None,
        log_gradients=True, gradient_frequency=1, save_graph=False, generator=GENERATOR,
        validation_steps=2, input_type="image", output_type="segmentation_mask",
        class_colors=COLORS, log_evaluation=True, infer_missing_processors=False,
        validation_row_processor=lambda number, row: {"mean": float(row["input"].mean())},
        prediction_row_processor=lambda number, row: {"sure": float(row["output"].max())},
    )  # fmt: skip
    run(
        "own rows", mlp(), x, y,
        save_model=False, log_evaluation=True, validation_indexes=..., log_batch_frequency=2,
    )  # fmt: skip
    run(
        "not looked for", classifier(), PHOTOS, KINDS,
        input_type="image", find_validation_data=False,
    )  # fmt: skip
    with wandbkeras.init(PROJECT, dir=store) as opened:
        said = _train(Rows(["photo"], ["epoch", "row"]), mlp(), x, y)
    runs["tables of one's own"] = (opened.id, said)
    return runs


def _train(callback: Any, made: keras.Model, x: Any, y: Any) -> str:
    """Train for three epochs of three batches, with a scripted ``score``; return what is said.

    ``fit`` itself validates with the first two rows.
    """
    said = io.StringIO()
    score = Scripted(score=[0.5, 0.0, 0.75])
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        made.fit(
            x, y, validation_data=(x[:2], y[:2]), batch_size=4, epochs=EPOCHS, shuffle=False,
            verbose=0, callbacks=[score, callback],
        )  # fmt: skip
    return said.getvalue()


@dataclass(frozen=True)
class Fit:
    """A recorded fit: its run in the store, what has arrived of it, what was printed."""

    stored: StoredRun
    arrived: RunSnapshot
    said: str

    def series(self, key: str) -> list[Any]:
        """The values of a metric, None where a row has none: the same in both places."""
        found = [row.values.get(key) for row in self.stored.rows()]
        assert [row.get(key) for row in self.arrived.rows] == found
        return found

    def summary(self, key: str) -> Any:
        """A value of the summary: the same in both places."""
        assert self.arrived.summary.get(key) == self.stored.summary.get(key)
        return self.arrived.summary.get(key)

    def metrics(self) -> set[str]:
        """The names in all rows: the same in both places."""
        found = {key for row in self.stored.rows() for key in row.values}
        assert {key for row in self.arrived.rows for key in row if key[0] != "_"} == found
        return found

    def histograms(self, key: str) -> list[dict[str, Any]]:
        """What is known of the values of each histogram; counts and edges have arrived."""
        found = [row.values[key] for row in self.stored.rows() if key in row.values]
        assert [row[key] for row in self.arrived.rows if key in row] == [
            {name: part for name, part in histogram.items() if name != "stats"}
            for histogram in found
        ]
        return [histogram["stats"] for histogram in found]

    def models(self) -> list[ArtifactSnapshot]:
        """The versions of the model: name, type, aliases, metadata and bytes as in the store."""
        found = [v for v in self.arrived.logged_artifacts if v.type == "model"]
        kept = [v for v in self.stored.artifacts if v not in self.stored.dropped_artifacts]
        kept = [v for v in kept if v.type == "model"]
        assert [(v.name, dict(v.metadata)) for v in found] == [(v.name, v.metadata) for v in kept]
        for version, ours in zip(found, kept, strict=True):
            assert set(version.aliases) >= set(ours.aliases) - {"latest", "best"}
            files = {
                name: self.stored.blob(f.sha256).read_bytes() for name, f in ours.files.items()
            }
            assert version.files == files
        return found

    def images(self) -> list[list[tuple[Any, str | None]]]:
        """Pixels and captions of ``examples`` of each epoch: the same in both places."""
        found = pictures(self.stored, "examples")
        arrived = [row["examples"] for row in self.arrived.rows if "examples" in row]
        for shown, stored in zip(arrived, found, strict=True):
            assert (shown["_type"], shown["count"]) == ("images/separated", len(stored))
            assert [self.arrived.files[name] for name in shown["filenames"]] == [
                content for content, _ in stored
            ]
            captions = [caption for _, caption in stored]
            assert shown.get("captions", [None] * len(stored)) == captions
        return [[(pixels(content), caption) for content, caption in step] for step in found]

    def predictions(self) -> dict[int, dict[str, list[Any]]]:
        """The tables of predictions by their steps; columns and numbers have arrived."""
        found = {}
        for row in self.arrived.rows:
            reference = row.get("validation_predictions")
            if reference is not None:
                table = self.stored.table("validation_predictions", row["_step"]).to_pydict()
                same_table(json.loads(self.arrived.files[reference["path"]]), table)
                found[row["_step"]] = table
        return found

    def validation_table(self) -> dict[str, list[Any]]:
        """The table of the validation data, an artifact that the run uses; the same in W&B."""
        (ours,) = [v for v in self.stored.artifacts if v.type == "validation_dataset"]
        (version,) = self.arrived.used_artifacts
        assert (version.name, version.type) == (ours.name, ours.type)
        assert version.name == "wb_validation_data"
        table = self.stored.stored_table(ours.tables["validation_data"]).read().to_pydict()
        same_table(json.loads(version.files["validation_data.table.json"]), table)
        return table  # type: ignore[no-any-return]


def same_table(arrived: Mapping[str, Any], stored: dict[str, list[Any]]) -> None:
    """Assert that columns, rows and all plain numbers are the same."""
    columns = arrived["columns"]
    assert columns == [name for name in stored if "." not in name]
    assert len(arrived["data"]) == len(stored[columns[0]])
    for number, name in enumerate(columns):
        if isinstance(stored[name][0], (int, float)):
            assert [row[number] for row in arrived["data"]] == stored[name]
