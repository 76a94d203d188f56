"""wandb's own Keras callbacks, online, beside ours, recorded and synced: the server holds the same.

The same trainings, one run each way, on one loopback server.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest
import wandb
from wandb.integration.keras import WandbMetricsLogger, WandbModelCheckpoint

import wandbkeras
from tests.keras_models import data, model
from tests.server.process import LoopbackServer
from tests.server.snapshot import RunSnapshot
from tests.syncing import connect, held, sync_one
from wandbkeras.callbacks import GraphLogger, model_graph

SETTINGS = wandb.Settings(x_disable_stats=True, x_disable_meta=True, console="off", silent=True)
# Arguments of the two callbacks: what is logged and saved each epoch, and every so many batches.
LOGGED: list[dict[str, Any]] = [{}, {"log_freq": 3}]
SAVED: list[dict[str, Any]] = [
    {"filepath": "whole-{epoch:02d}.keras"},
    {"filepath": "{epoch}-{batch:02d}.weights.h5", "save_weights_only": True, "save_freq": 4},
]


@dataclass(frozen=True)
class Both:
    """A training as wandb sent it, and as ours arrived."""

    theirs: RunSnapshot
    ours: RunSnapshot


class ModelGraph(keras.callbacks.Callback):  # type: ignore[misc]
    """Puts the graph into the summary as a ``wandb.Graph``, which can't read one of Keras 3."""

    def on_train_begin(self, logs: Any = None) -> None:
        assert wandb.run is not None
        found, graph = model_graph(self.model), wandb.Graph()
        for node in found["nodes"]:
            graph.add_node(**node)
        for source, target in found["edges"]:
            graph.add_edge(graph[source], graph[target])
        wandb.run.summary["graph"] = graph


def train(*callbacks: keras.callbacks.Callback) -> None:
    """Ten batches an epoch, with a learning rate that falls."""
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    keras.utils.clear_session()  # layers without a name are numbered from the beginning again
    made = model("mae", optimizer=keras.optimizers.Adam(schedule))
    x, y = data(20)
    made.fit(
        x, y, batch_size=2, epochs=2, shuffle=False, verbose=0, validation_data=(x, y),
        callbacks=list(callbacks),
    )  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """The training, both ways."""
    root = tmp_path_factory.mktemp("both")
    server = LoopbackServer(root / "server")
    with server.start(), pytest.MonkeyPatch.context() as monkeypatch:
        connect(server, root / "home", monkeypatch)
        for name in ("theirs", "ours"):
            (root / name).mkdir()
        monkeypatch.chdir(root / "theirs")
        with wandb.init(project="digits", id="theirs", dir=root, settings=SETTINGS):
            loggers = [WandbMetricsLogger(**arguments) for arguments in LOGGED]
            train(*loggers, *(WandbModelCheckpoint(**a) for a in SAVED), ModelGraph())
        monkeypatch.chdir(root / "ours")
        with wandbkeras.init(project="digits", id="ours", dir=root / "runs") as run:
            loggers = [wandbkeras.WandbMetricsLogger(**arguments) for arguments in LOGGED]
            savers = [wandbkeras.WandbModelCheckpoint(**arguments) for arguments in SAVED]
            train(*loggers, *savers, GraphLogger())
        assert sync_one(run.dir).error is None
        yield Both(held(server, "theirs"), held(server, "ours"))
        assert server.violations() == []


def logged(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("_timestamp", "_runtime")}


def test_every_row_is_the_same(both: Both) -> None:
    """Keys, steps and values: ``epoch/…``, ``batch/…``, ``batch/batch_step``, learning rates."""
    assert [row.get("batch/batch_step") for row in both.ours.rows][:6] == [0, 3, 6, 9, None, None]
    for expected, found in zip(both.theirs.rows, both.ours.rows, strict=True):
        assert logged(found) == pytest.approx(logged(expected), rel=1e-6)


def test_the_axes_are_the_same(both: Both) -> None:
    """What W&B keeps of ``define_metric``."""
    theirs, ours = (axes(run.config["_wandb"]["value"]["m"]) for run in (both.theirs, both.ours))
    assert theirs == ours == {
        "epoch/epoch": None, "epoch/*": "epoch/epoch",
        "batch/batch_step": None, "batch/*": "batch/batch_step",
    }  # fmt: skip


def axes(metrics: list[dict[str, Any]]) -> dict[str, str | None]:
    """Names or globs, and the names of their step metrics: 1, 2 and 5 in W&B's message."""
    names = [metric.get("1") or metric["2"] for metric in metrics]
    steps = [names[metric["5"] - 1] if "5" in metric else None for metric in metrics]
    return dict(zip(names, steps, strict=True))


def test_the_summary_is_the_same(both: Both) -> None:
    """Last values and the graph, as the file that it refers to."""
    internal = {"_timestamp", "_runtime", "_wandb"}
    theirs, ours = (
        {key: value for key, value in run.summary.items() if key not in internal}
        for run in (both.theirs, both.ours)
    )
    assert ours.pop("graph") == theirs.pop("graph")
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_the_graph_is_the_same_file(both: Both) -> None:
    """Byte by byte, under the same name."""
    path = both.ours.summary["graph"]["path"]
    assert path.startswith("media/graph/graph_summary_")
    assert both.ours.files[path] == both.theirs.files[path]


def test_every_model_is_a_version_of_the_same_name(both: Both) -> None:
    """Artifact, type, aliases and the name of the file, in the same order."""

    def told(run: RunSnapshot) -> list[Any]:
        return [
            (a.name.replace(run.id, "<id>"), a.type, set(a.aliases), list(a.files))
            for a in run.logged_artifacts
        ]

    assert told(both.ours) == told(both.theirs)
    assert [set(a.aliases) - {"latest"} for a in both.ours.logged_artifacts] == [
        {"epoch_0_batch_3"}, {"epoch_0_batch_7"}, {"epoch_0"},
        {"epoch_1_batch_1"}, {"epoch_1_batch_5"}, {"epoch_1_batch_9"}, {"epoch_1"},
    ]  # fmt: skip


def test_a_model_that_arrived_is_one_of_keras(both: Both) -> None:
    """The bytes that the server holds are a whole archive, and its metadata says how to load it."""
    last = both.ours.logged_artifacts[-1]
    ((_, content),) = last.files.items()
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    assert (last.metadata["format"], last.metadata["what"]) == ("keras", "model")


def test_flops_and_graph_arrive_from_one_callback(
    start: Callable[..., wandbkeras.Run],
    tmp_path: Path,
    wandb_server: LoopbackServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The keys of ``WandbCallback``, with the optimizer left out of the model, saved behind it."""
    run = start(project="digits")
    train(
        wandbkeras.WandbCallback(
            save_model="background", save_optimizer=False, compute_flops=True, keep="best"
        )
    )
    run.finish()
    connect(wandb_server, tmp_path / "home", monkeypatch)
    assert sync_one(run.dir).error is None
    found = held(wandb_server, run.id)
    assert {key: found.summary[key] for key in ("GFLOPs", "GMACs", "GFLOPs_total")} == {
        "GFLOPs": 3.5e-9, "GMACs": 3e-9, "GFLOPs_total": 6e-9,
    }  # fmt: skip
    assert found.summary["graph"]["_type"] == "graph-file"
    assert found.summary["graph"]["path"] in found.files
    (version,) = found.logged_artifacts
    assert version.metadata["optimizer"] is False
    assert set(version.aliases) == {"latest", "best", f"epoch_{version.metadata['epoch']}"}
