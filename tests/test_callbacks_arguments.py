"""Every argument of ``WandbCallback``: what it makes of a real ``fit``, in the store and in W&B.

All fits are synced at once to one server. ``test_<argument>`` looks at what that argument did.
"""

from __future__ import annotations

import inspect
import io
import json
import zipfile

import numpy as np
import pytest

import wandbkeras
from tests.argument_fits import (
    ANIMALS,
    BATCHES,
    COLORS,
    EPOCHS,
    GENERATOR,
    KINDS,
    MASKS,
    PHOTOS,
    TRAINING,
    Fit,
    record_all,
)
from tests.server.process import LoopbackServer
from tests.syncing import connect, held, sync
from wandbkeras import WandbCallback
from wandbkeras.callbacks.mask_colors import palette


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fit]:
    """All fits, recorded, and synced at once to one server."""
    root = tmp_path_factory.mktemp("arguments")
    runs = record_all(root / "runs")
    server = LoopbackServer(root / "server")
    with server.start(), pytest.MonkeyPatch.context() as patch:
        connect(server, root / "home", patch)
        results = sync(*sorted((root / "runs").iterdir()))
        assert [(r.error, r.outcome) for r in results] == [(None, "verified")] * len(runs)
        store = wandbkeras.Store(root / "runs")
        found = {
            name: Fit(store.run(run_id), held(server, run_id), said)
            for name, (run_id, said) in runs.items()
        }
    assert server.violations() == []
    return found


def test_no_argument_is_without_a_test() -> None:
    """Each parameter of the signature has a test of its name here."""
    parameters = inspect.signature(WandbCallback).parameters.values()
    names = {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    assert names - {name.removeprefix("test_") for name in globals()} == set()


def test_without_arguments(fits: dict[str, Fit]) -> None:
    """Each epoch one row: epoch, metrics, learning rate; a part that fails would be told of."""
    fit = fits["defaults"]
    metrics = {"loss", "mae", "val_loss", "val_mae", "score"}
    assert fit.metrics() == {*metrics, "epoch", "learning_rate"}
    assert fit.series("epoch") == list(range(EPOCHS))
    assert fit.series("learning_rate") == [0.25] * EPOCHS
    assert [row["_step"] for row in fit.arrived.rows] == list(range(EPOCHS))
    assert fit.said == ""
    assert fit.arrived.state == "finished"


def test_monitor(fits: dict[str, Fit]) -> None:
    """What is best is decided by it; 0.0 is a value like any other."""
    assert fits["photos"].summary("top_score") == 0.0
    default = fits["defaults"]
    assert default.summary("best_val_loss") == min(default.series("val_loss"))


def test_mode(fits: dict[str, Fit]) -> None:
    """The least of 0.5, 0.0, 0.75 is of epoch 1, the greatest of epoch 2."""
    epochs = {name: fits[name].models()[-1].metadata["epoch"] for name in ("photos", "masks")}
    assert epochs == {"photos": 1, "masks": 2}


def test_log_best_prefix(fits: dict[str, Fit]) -> None:
    """It names the keys of the summary; None keeps them out, and the models come all the same."""
    assert fits["photos"].summary("top_epoch") == 1
    assert fits["defaults"].summary("best_epoch") == 2
    masks = fits["masks"]
    assert not [key for key in masks.arrived.summary if "best" in key or "top" in key]
    assert len(masks.models()) == 2


def test_verbose(fits: dict[str, Fit]) -> None:
    """A line for each epoch, as Keras writes it."""
    said = fits["photos"].said.splitlines()
    assert [line for line in said if "score" in line] == [
        "Epoch 1: score improved from None to 0.50000, saving model to artifact model-photos",
        "Epoch 2: score improved from 0.50000 to 0.00000, saving model to artifact model-photos",
        "Epoch 3: score did not improve from 0.00000",
    ]


def test_save_model(fits: dict[str, Fit]) -> None:
    """Each better model is a version of one artifact, whole, and says how it is loaded."""
    models = fits["defaults"].models()
    assert {(v.name, v.type, *v.files) for v in models} == {
        ("model-defaults", "model", "model-best.keras")
    }
    assert [set(v.aliases) for v in models][-1] == {"latest", "best", "epoch_2"}
    last = models[-1]
    assert (last.metadata["monitor"], last.metadata["epoch"]) == ("val_loss", 2)
    assert (last.metadata["format"], last.metadata["what"]) == ("keras", "model")
    (content,) = last.files.values()
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    assert fits["own rows"].models() == []


def test_save_weights_only(fits: dict[str, Fit]) -> None:
    """The file has the weights alone."""
    (last,) = fits["masks"].models()[-1:]
    assert list(last.files) == ["model-best.weights.h5"]
    assert (last.metadata["format"], last.metadata["what"]) == ("weights.h5", "weights")


def test_save_optimizer(fits: dict[str, Fit]) -> None:
    """The metadata and the archive tell whether the optimizer's state is there."""
    told = {name: fits[name].models()[-1].metadata["optimizer"] for name in ("defaults", "photos")}
    assert told == {"defaults": True, "photos": False}


def test_keep(fits: dict[str, Fit]) -> None:
    """Of two better models only the best is kept, and only that arrives."""
    assert [set(v.aliases) for v in fits["photos"].models()] == [{"latest", "best", "epoch_1"}]
    assert len(fits["masks"].models()) == 2


def test_log_batch_frequency(fits: dict[str, Fit]) -> None:
    """Batches 0, 2, 4, … of all epochs; without a prefix under the names of the epoch's."""
    fit = fits["own rows"]
    rows = zip(fit.series("epoch"), fit.series("loss"), strict=True)
    logged = [(number is None, loss is not None) for number, loss in rows]
    batch, epoch = (True, True), (False, True)
    table = (True, False)
    assert logged == [table, batch, batch, epoch, batch, epoch, batch, batch, epoch, table]


def test_batch_prefix(fits: dict[str, Fit]) -> None:
    """It keeps the batches' values apart from the epoch's."""
    fit = fits["photos"]
    logged = [loss is not None for loss in fit.series("batch/loss")]
    assert logged == [True, True, False, True, False, True, True, False]
    assert [loss is not None for loss in fit.series("loss")] == [
        not is_batch for is_batch in logged
    ]


def test_save_graph(fits: dict[str, Fit]) -> None:
    """The file of the graph has the layers and what flows between them."""
    fit = fits["photos"]
    graph = fit.arrived.summary["graph"]
    assert graph["_type"] == "graph-file"
    arrived = json.loads(fit.arrived.files[graph["path"]])
    stored = fit.stored.summary["graph"]
    assert (arrived["nodes"], arrived["edges"]) == (stored["nodes"], stored["edges"])
    assert [node["class_name"] for node in arrived["nodes"]] == ["InputLayer", "Flatten", "Dense"]
    assert fits["masks"].summary("graph") is None


def test_compute_flops(fits: dict[str, Fit]) -> None:
    """30 pixels by 3 scores are 90 multiply-adds."""
    fit = fits["photos"]
    assert (fit.summary("GMACs"), fit.summary("GFLOPs_total")) == (90e-9, 180e-9)
    assert fit.summary("GFLOPs") > 90e-9
    assert fits["defaults"].summary("GFLOPs") is None


def test_log_weights(fits: dict[str, Fit]) -> None:
    """Each epoch a histogram of each weight, under the old names."""
    fit = fits["photos"]
    for key, count in (("parameters/scores.weights", 90), ("parameters/scores.bias", 3)):
        assert [stats["count"] for stats in fit.histograms(key)] == [count] * EPOCHS
    assert not [key for key in fits["masks"].metrics() if key.startswith("parameters/")]


def test_log_gradients(fits: dict[str, Fit]) -> None:
    """Each epoch a histogram of each gradient, in the row of that epoch."""
    fit = fits["photos"]
    keys = {key for key in fit.metrics() if key.startswith("gradients/")}
    assert keys == {"gradients/scores/kernel.gradient", "gradients/scores/bias.gradient"}
    for key in keys:
        assert len(fit.histograms(key)) == EPOCHS
        rows = fit.series("epoch")
        assert [number for number, row in enumerate(fit.stored.rows()) if key in row.values] == [
            number for number, epoch in enumerate(rows) if epoch is not None
        ]


def test_training_data(fits: dict[str, Fit]) -> None:
    """Its gradients are summed: one value for each weight, where steps would add up in counts."""
    (stats, *_) = fits["photos"].histograms("gradients/scores/kernel.gradient")
    assert (stats["count"], stats["nan"]) == (90, 0)


def test_gradient_batches(fits: dict[str, Fit]) -> None:
    """So many of the three batches are read after each epoch."""
    assert len(fits["photos"].histograms("gradients/scores/bias.gradient")) == EPOCHS
    assert TRAINING.read == 2 * EPOCHS


def test_gradient_frequency(fits: dict[str, Fit]) -> None:
    """Every step is counted: three an epoch, of three weights and three biases each."""
    stats = fits["masks"].histograms("gradients/scores/kernel.gradient")
    assert [each["count"] for each in stats] == [3 * BATCHES] * EPOCHS


def test_validation_data(fits: dict[str, Fit]) -> None:
    """What is given to the callback is shown, not the two rows that ``fit`` validates with."""
    table = fits["photos"].validation_table()
    assert table["target"] == KINDS[:, None].tolist()
    np.testing.assert_array_equal(np.float32(table["input"]), PHOTOS)


def test_generator(fits: dict[str, Fit]) -> None:
    """What it yields is shown."""
    np.testing.assert_array_equal(fits["masks"].validation_table()["target"], MASKS[:6])


def test_validation_steps(fits: dict[str, Fit]) -> None:
    """So many batches are taken, once for all epochs, and none beyond."""
    assert len(fits["masks"].images()) == EPOCHS
    x, _ = next(GENERATOR)
    np.testing.assert_array_equal(x, PHOTOS[6:9])


def test_find_validation_data(fits: dict[str, Fit]) -> None:
    """Forbidden to look for those of ``fit``, it shows nothing and says what to pass."""
    fit = fits["not looked for"]
    assert "examples" not in fit.metrics()
    assert fit.said.count("there are no validation data to show: pass validation_data=") == 1
    assert "examples" in fits["photos"].metrics()


def test_input_type(fits: dict[str, Fit]) -> None:
    """Photos are shown, with the pixels that they have."""
    expected = [np.rint(photo[..., 0] * 255).tolist() for photo in PHOTOS]
    for shown in fits["photos"].images():
        assert all(image.tolist() in expected for image, _ in shown)
    assert "examples" not in fits["defaults"].metrics()


def test_output_type(fits: dict[str, Fit]) -> None:
    """A label is a caption; for a mask there are input, prediction and reference."""
    assert all(caption in ANIMALS for _, caption in fits["photos"].images()[0])
    shapes = [image.shape for image, _ in fits["masks"].images()[0]]
    assert shapes == [(6, 5), (6, 5, 3), (6, 5, 3)] * 6


def test_labels(fits: dict[str, Fit]) -> None:
    """They are the captions, and name the classes of the table."""
    captions = {caption for shown in fits["photos"].images() for _, caption in shown}
    assert captions <= set(ANIMALS)
    (version,) = fits["photos"].arrived.used_artifacts
    classes = [json.loads(c) for name, c in version.files.items() if "classes" in name]
    assert [each["name"] for each in classes[0]["class_set"]] == ANIMALS


def test_predictions(fits: dict[str, Fit]) -> None:
    """So many examples, the same in each epoch."""
    shown = fits["photos"].images()
    assert [len(step) for step in shown] == [4] * EPOCHS
    assert len({json.dumps([image.tolist() for image, _ in step]) for step in shown}) == 1


def test_class_colors(fits: dict[str, Fit]) -> None:
    """The pixels of the reference have the colour of their class."""
    assert not np.array_equal(palette(3), np.array(COLORS) * 255)
    for number in range(6):
        reference, _ = fits["masks"].images()[0][3 * number + 2]
        np.testing.assert_array_equal(reference, (np.array(COLORS) * 255)[MASKS[number]])


def test_log_evaluation(fits: dict[str, Fit]) -> None:
    """Predictions refer to the rows of the validation data; by default once, when training ends."""
    fit = fits["masks"]
    (table,) = fit.predictions().values()
    assert table["val_row"] == list(range(6))
    assert np.shape(table["output"]) == (6, 6, 5, 3)
    assert [epoch is None for epoch in fit.series("epoch")] == [False, False, False, True]
    assert "validation_predictions" not in fits["defaults"].metrics()


def test_log_evaluation_frequency(fits: dict[str, Fit]) -> None:
    """In the rows of epochs 0 and 2; the last one needs no other at the end."""
    fit = fits["photos"]
    epochs = fit.series("epoch")
    assert [epochs[step] for step in fit.predictions()] == [0, 2]


def test_infer_missing_processors(fits: dict[str, Fit]) -> None:
    """Columns by shapes and labels, unless there shall be none."""
    photos, masks = fits["photos"], fits["masks"]
    names = [name for name in photos.validation_table() if "." not in name]
    assert names == ["target", "input", "target:class", "input:image"]
    (table, _) = photos.predictions().values()
    assert list(table) == ["output", "val_row", "output:max_class", "output:score"]
    assert table["output:max_class"] == np.argmax(table["output"], -1).tolist()
    assert not [name for name in masks.validation_table() if ":" in name]


def test_validation_row_processor(fits: dict[str, Fit]) -> None:
    """What it returns of each row is a column."""
    table = fits["masks"].validation_table()
    assert list(table) == ["target", "input", "mean"]
    np.testing.assert_allclose(table["mean"], PHOTOS[:6].mean((1, 2, 3)), rtol=1e-6)


def test_prediction_row_processor(fits: dict[str, Fit]) -> None:
    """What it returns of each prediction is a column."""
    (table,) = fits["masks"].predictions().values()
    assert list(table) == ["output", "val_row", "sure"]
    np.testing.assert_allclose(table["sure"], np.max(table["output"], (1, 2, 3)))


def test_validation_indexes(fits: dict[str, Fit]) -> None:
    """Predictions refer to the user's own table, so there is no other."""
    fit = fits["own rows"]
    (table,) = fit.predictions().values()
    assert table["val_row"] == [0, 1]
    assert fit.arrived.used_artifacts == ()
    (version,) = [v for v in fit.arrived.logged_artifacts if "predictions" in v.name]
    assert version.manifest is not None
    assert any("ref" in entry for entry in version.manifest["contents"].values())


def test_tables_of_wandb_eval_callback(fits: dict[str, Fit]) -> None:
    """The data are an artifact ``val``, each epoch's predictions a version of ``run_<id>_pred``."""
    fit = fits["tables of one's own"]
    (data,) = fit.arrived.used_artifacts
    assert (data.name, data.type) == ("val", "dataset")
    assert len(json.loads(data.files["val_data.table.json"])["data"]) == 2
    versions = fit.arrived.logged_artifacts
    assert {(v.name, v.type) for v in versions} == {(f"run_{fit.arrived.id}_pred", "evaluation")}
    assert versions[-1].aliases == ("latest",)
    for epoch, version in enumerate(versions):
        table = json.loads(version.files["eval_data.table.json"])
        assert table["columns"] == ["epoch", "row"]
        assert table["data"] == [[epoch, 0], [epoch, 1]]
