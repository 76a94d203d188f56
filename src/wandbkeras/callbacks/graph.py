"""The graph of the model, its layers and what flows between them, in the run's summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import keras

from wandbkeras.callbacks.when_built import WhenBuilt
from wandbkeras.store.schema import GRAPH


class GraphLogger(WhenBuilt):
    """Records :func:`model_graph` as the summary's ``graph`` as soon as the model is built.

    A graph that the run has already is not recorded again.
    """

    def record(self) -> None:
        graph = model_graph(self.model)
        if traced_function(self.model) is None and getattr(self.model, "inputs", None):
            print(  # noqa: T201
                f"wandbkeras: Keras {keras.__version__} keeps a model's graph where it is not "
                "looked for: the summary's graph has the layers, and no edges",
                file=sys.stderr,
            )
        if self.run.summary.get(GRAPH) != graph:
            self.run.summary[GRAPH] = graph


def model_graph(model: keras.Model) -> dict[str, Any]:
    """Return the graph of a built model, in the form of ``wandb.Graph``.

    Each node is a layer, or a plain operation of ``keras.ops``, with its name, class, output shape
    (None is a size that varies; a list of shapes if there are several) and number of parameters. A
    layer that is called several times is one node. Nested models are not nodes: their layers
    are, with the model's name before theirs, and the edges lead through. A model that only its
    ``call`` describes has no edges, and of layers without a shape of their own none is known.

    >>> import keras
    >>> layer = keras.layers.Dense(2, name="out")
    >>> model_graph(keras.Sequential([keras.Input((3,), name="in"), layer]))["nodes"][1]
    {'name': 'out', 'id': 'out', 'class_name': 'Dense', ... 'num_parameters': 8}
    >>> model_graph(keras.Sequential([keras.Input((3,), name="in"), layer]))["edges"]
    [['in', 'out']]
    """
    graph = _Graph()
    graph.add_model(model, "")
    return {
        "_type": GRAPH,
        "format": "keras",
        "nodes": list(graph.nodes.values()),
        "edges": [list(edge) for edge in graph.edges],
    }


class _Graph:
    """Nodes by the operations that they stand for, and edges as pairs of their ids, in order."""

    def __init__(self) -> None:
        self.nodes: dict[int, dict[str, Any]] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self._ids: set[str] = set()

    def add_model(self, model: keras.Model, prefix: str) -> None:
        function = traced_function(model)
        if function is not None:
            self._add_function(function, prefix)
            return
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                self.add_model(layer, f"{prefix}{layer.name}/")
            else:
                self._add_node(layer, prefix, _declared_shape(layer))

    def _add_function(self, function: Any, prefix: str) -> None:
        calls = _calls(function)
        shapes: dict[int, list[Any]] = {}
        for call in calls:
            shapes.setdefault(id(call.operation), []).append(_shape(call.outputs))
        for operation in function.operations:
            inner = traced_function(operation)
            if inner is None:
                self._add_node(operation, prefix, _one_or_all(shapes[id(operation)]))
            else:
                self._add_function(inner, f"{prefix}{operation.name}/")
        for call in calls:
            inner = traced_function(call.operation)
            entered = repeat(call.operation) if inner is None else map(_producer, inner.inputs)
            for tensor, operation in zip(call.input_tensors, entered, strict=False):
                self._add_edge(_producer(tensor), operation)

    def _add_node(self, operation: Any, prefix: str, shape: list[Any] | None) -> None:
        if id(operation) in self.nodes:
            return  # of a layer that several models share
        name = unique = f"{prefix}{operation.name}"
        number = 0
        while unique in self._ids:  # layers of a model without a graph may share a name
            number += 1
            unique = f"{name}_{number}"
        self._ids.add(unique)
        self.nodes[id(operation)] = {
            "name": unique,
            "id": unique,
            "class_name": type(operation).__name__,
            "output_shape": shape,
            "num_parameters": _parameters(operation),
        }

    def _add_edge(self, source: Any, target: Any) -> None:
        self.edges[self.nodes[id(source)]["id"], self.nodes[id(target)]["id"]] = None


def traced_function(operation: Any) -> Any | None:
    """Return Keras's own graph of a model: what it calls, in order; None if it has none.

    A Sequential model keeps it in ``_functional``. These names are private to Keras: where it lacks
    them a model is described by its list of layers.
    """
    function = getattr(operation, "_functional", None) or operation
    has_graph = all(hasattr(function, n) for n in ("operations", "_nodes_by_depth", "inputs"))
    return function if has_graph else None


def _calls(function: Any) -> list[Any]:
    """Return the calls that belong to this model: a layer may be called by others, too."""
    depths = sorted(function._nodes_by_depth, reverse=True)
    return [call for depth in depths for call in function._nodes_by_depth[depth]]


def _producer(tensor: Any) -> Any:
    """Return the operation that puts out ``tensor``: of a nested model the one within it."""
    operation, _, index = tensor._keras_history
    inner = traced_function(operation)
    return operation if inner is None else _producer(inner.outputs[index])


def _shape(outputs: Sequence[Any]) -> Any:
    """Return the shape of what a call puts out, a list of them if it puts out several tensors."""
    shapes = [list(tensor.shape) for tensor in outputs]
    return shapes[0] if len(shapes) == 1 else shapes


def _one_or_all(shapes: Sequence[Any]) -> Any:
    """Return the shape that all calls of a layer have, else a list of the different ones."""
    different = [shape for n, shape in enumerate(shapes) if shape not in shapes[:n]]
    return different[0] if len(different) == 1 else different


def _declared_shape(layer: keras.Layer) -> list[Any] | None:
    """Return the output shape that a layer computes from the input shape it was built with."""
    built_with = layer.get_build_config() or {}
    shape = built_with.get("input_shape")
    if shape is None or not _computes_its_shape(layer):
        return None
    try:
        return list(layer.compute_output_shape(shape))
    except (TypeError, ValueError):
        return None


def _computes_its_shape(layer: keras.Layer) -> bool:
    """Whether the layer's class says how; Keras's own way is to trace the call."""
    return type(layer).compute_output_shape is not keras.Layer.compute_output_shape


def _parameters(operation: Any) -> int | None:
    """Return the number of parameters, 0 of a plain operation, None of a layer not built yet."""
    if not isinstance(operation, keras.Layer):
        return 0
    return int(operation.count_params()) if operation.built else None
