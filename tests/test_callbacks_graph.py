"""The model's graph: Keras's own, nested and shared layers included, recorded once it is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import wandbkeras
from tests.keras_models import data, fit, model
from wandbkeras import WandbCallback
from wandbkeras.callbacks import GraphLogger, model_graph
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def node(graph: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (node for node in graph["nodes"] if node["id"] == name)
    return found


def edges(graph: dict[str, Any]) -> set[tuple[str, str]]:
    return {(source, target) for source, target in graph["edges"]}


class Stack(keras.Model):  # type: ignore[misc]
    """A model that only its ``call`` describes, with models of both kinds in it."""

    def __init__(self, *parts: keras.Layer) -> None:
        super().__init__(name="stack")
        self.parts = list(parts)

    def call(self, inputs: Any) -> Any:
        for part in self.parts:
            inputs = part(inputs)
        return inputs


def nested_model() -> keras.Model:
    """An encoder of two outputs, called twice, behind a layer that is called twice."""
    seen = keras.Input((4,), name="seen")
    encoder = keras.Model(
        seen, [layers.Dense(3, name="mean")(seen), keras.ops.relu(seen)], name="encoder"
    )
    taken = keras.Input((8,), name="taken")
    shared = layers.Dense(4, name="shared")
    mean, positive = encoder(shared(taken))
    again, _ = encoder(shared(keras.ops.negative(taken)))
    head = keras.Sequential([layers.Dense(2, name="dense")], name="head")
    summed = layers.Add(name="sum")([mean, again])
    return keras.Model(taken, [head(summed), layers.Flatten(name="flat")(positive)])


def test_a_model_is_its_layers_and_what_flows_between_them() -> None:
    """Name, class, output shape and parameters of each layer, in order, and an edge a call."""
    taken = keras.Input((8,), name="taken")
    hidden = layers.Dense(4, name="hidden")(taken)
    graph = model_graph(keras.Model(taken, layers.Dense(1, name="out")(hidden)))
    assert graph == {
        "_type": "graph",
        "format": "keras",
        "nodes": [
            {
                "name": "taken", "id": "taken", "class_name": "InputLayer",
                "output_shape": [None, 8], "num_parameters": 0,
            },
            {
                "name": "hidden", "id": "hidden", "class_name": "Dense",
                "output_shape": [None, 4], "num_parameters": 36,
            },
            {
                "name": "out", "id": "out", "class_name": "Dense",
                "output_shape": [None, 1], "num_parameters": 5,
            },
        ],
        "edges": [["taken", "hidden"], ["hidden", "out"]],
    }  # fmt: skip


def test_nested_models_are_their_layers() -> None:
    """The edges lead from the layers outside to those inside, output by output."""
    graph = model_graph(nested_model())
    assert {"encoder", "head"}.isdisjoint(node["id"] for node in graph["nodes"])
    relu = next(node["id"] for node in graph["nodes"] if node["class_name"] == "Relu")
    assert relu.startswith("encoder/")
    head = next(node["id"] for node in graph["nodes"] if node["id"].startswith("head/input"))
    assert edges(graph) >= {
        ("shared", "encoder/seen"), ("encoder/seen", "encoder/mean"), ("encoder/seen", relu),
        ("encoder/mean", "sum"), (relu, "flat"), ("sum", head), (head, "head/dense"),
    }  # fmt: skip


def test_a_shared_layer_is_one_node() -> None:
    """Its parameters count once, with an edge from each layer that it is called on."""
    made = nested_model()
    graph = model_graph(made)
    into = {source for source, target in edges(graph) if target == "shared"}
    assert len(into) == 2
    assert sum(node["num_parameters"] for node in graph["nodes"]) == made.count_params()


def test_a_layer_of_several_shapes_has_them_all() -> None:
    """Of different calls, and of one call that puts out several tensors."""
    short, long = keras.Input((3, 2), name="short"), keras.Input((5, 2), name="long")
    dense = layers.Dense(4, name="dense")
    recurrent = layers.LSTM(6, return_state=True, name="recurrent")(dense(short))
    graph = model_graph(keras.Model([short, long], [*recurrent, dense(long)]))
    assert node(graph, "dense")["output_shape"] == [[None, 3, 4], [None, 5, 4]]
    assert node(graph, "recurrent")["output_shape"] == [[None, 6]] * 3


def test_a_model_of_its_own_call_is_its_layers() -> None:
    """Without edges, but for those of models in it that have a graph."""
    encoder = keras.Sequential(
        [keras.Input((4,), name="seen"), layers.Dense(3, name="dense")], name="encoder"
    )
    inner = Stack(layers.Dense(4, name="dense"), layers.Dropout(0.5, name="drop"))
    made = Stack(layers.Dense(5, name="dense"), layers.Dense(4, name="dense"), inner, encoder)
    made(np.zeros((2, 8), np.float32))
    graph = model_graph(made)
    assert [found["id"] for found in graph["nodes"]] == [
        "dense", "dense_1", "stack/dense", "stack/drop", "encoder/seen", "encoder/dense",
    ]  # fmt: skip
    assert graph["edges"] == [["encoder/seen", "encoder/dense"]]
    assert node(graph, "dense_1")["output_shape"][-1] == 4
    assert sum(found["num_parameters"] for found in graph["nodes"]) == made.count_params()


def test_a_large_model_is_complete() -> None:
    """ResNet50 has all its layers, additions and parameters."""
    made = keras.applications.ResNet50(weights=None)
    graph = model_graph(made)
    assert (len(graph["nodes"]), len(graph["edges"])) == (177, 192)
    assert sum(found["num_parameters"] for found in graph["nodes"]) == made.count_params()


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_the_graph_is_recorded_whatever_keras_shows(
    verbose: int, start: Start, stored: Stored
) -> None:
    """It needs no batch hook and no progress bar."""
    run = start()
    made = model()
    x, y = data()
    made.fit(x, y, verbose=verbose, callbacks=[WandbCallback(save_model=False)])
    run.finish()
    assert stored(run).summary["graph"] == model_graph(made)


def test_it_is_there_before_the_first_epoch_ends(start: Start) -> None:
    """A training that is interrupted in its first epoch has its graph."""
    run = start()

    class Interrupt(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model(), WandbCallback(), Interrupt())
    assert run.summary["graph"]["nodes"][-1]["id"] == "out"


def test_a_model_that_fit_builds_is_recorded(start: Start, stored: Stored) -> None:
    """A deferred Sequential model has no layers' shapes before its first data."""
    run = start()
    made = keras.Sequential([layers.Dense(1, name="out")])
    made.compile("sgd", "mse")
    fit(made, GraphLogger())
    run.finish()
    assert stored(run).summary["graph"]["nodes"][-1]["num_parameters"] == 4


def test_a_graph_that_is_there_is_not_recorded_again(start: Start, stored: Stored) -> None:
    """A second ``fit`` of the same model adds nothing; another model replaces it."""
    run = start()
    made = model()
    callback = GraphLogger()
    for trained in (made, made, keras.Sequential([keras.Input((3,)), layers.Dense(2)])):
        trained.compile("sgd", "mse")
        fit(trained, callback)
    run.finish()
    graphs = [
        event.body["update"]["graph"] for event in stored(run).events() if event.type == "summary"
    ]
    assert [graph["nodes"][-1]["output_shape"] for graph in graphs] == [[None, 1], [None, 2]]


def test_where_keras_keeps_its_graph_elsewhere_that_is_said(
    start: Start, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers are recorded, without edges."""
    monkeypatch.setattr("wandbkeras.callbacks.graph.traced_function", lambda model: None)
    run = start()
    part = GraphLogger()
    part.set_model(model())
    part.on_train_begin()
    graph = run.summary["graph"]
    assert ([found["id"] for found in graph["nodes"]], graph["edges"]) == (["out"], [])
    assert "keeps a model's graph where it is not looked for" in capfd.readouterr().err


def test_no_graph_unless_wanted(start: Start, stored: Stored) -> None:
    """``save_graph=False`` keeps it out."""
    run = start()
    fit(model(), WandbCallback(save_graph=False, save_model=False))
    run.finish()
    assert "graph" not in stored(run).summary
