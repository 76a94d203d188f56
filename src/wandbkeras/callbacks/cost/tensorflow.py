"""What a TensorFlow graph computes: its operations, those of its functions, its loops unrolled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from wandbkeras.callbacks.cost.count import Flops, largest

# Operations on each element that is put out, as TensorFlow's own profiler counts them
# (`tensorflow/python/profiler/internal/flops_registry.py`). What it doesn't count costs nothing.
_ON_EACH = {
    **dict.fromkeys(("Add", "AddV2", "BiasAdd", "Sub", "Mul", "RealDiv", "Pow"), 1),
    **dict.fromkeys(("Maximum", "Minimum", "Greater", "GreaterEqual", "Less", "LessEqual"), 1),
    **dict.fromkeys(("Equal", "NotEqual", "Reciprocal", "Square", "Log", "Neg"), 1),
    "SquaredDifference": 2,
    "Rsqrt": 2,
    "Softmax": 5,
}
_REDUCTIONS = {"Sum", "ArgMax", "ArgMin"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_LOOPS = {"While", "StatelessWhile"}
_BRANCHES = {"If", "StatelessIf", "Case", "StatelessCase"}
# They compute, and the graph doesn't tell how much.
_OPAQUE = ("Sparse", "Quantized", "Xla", "PyFunc", "EagerPyFunc", "FFT", "Cholesky", "Svd", "Qr")


def count(call: Callable[[Any], Any], inputs: Any) -> Flops:
    """Return what ``call`` computes of ``inputs``, a structure of shapes and dtypes."""
    import keras
    import tensorflow as tf

    specs = keras.tree.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), inputs)
    return _graph(tf.function(call).get_concrete_function(specs).graph)


def _graph(graph: Any) -> Flops:
    total = Flops()
    for operation in _live(output.op for output in graph.outputs):
        total += _operation(operation)
    return total


def _live(outputs: Iterable[Any]) -> Iterator[Any]:
    """Yield the operations that the outputs depend on: a graph keeps others, too."""
    waiting, seen = list(outputs), set()
    while waiting:
        operation = waiting.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            yield operation
            waiting.extend(tensor.op for tensor in operation.inputs)


def _operation(operation: Any) -> Flops:
    kind = operation.type
    if kind in _CALLS:
        return _graph(_function(operation, "f"))
    if kind in _LOOPS:
        return _loop(operation)
    if kind in _BRANCHES:
        return largest([_graph(branch) for branch in _branches(operation)])
    if kind.startswith(_OPAQUE):
        return Flops(unresolved=(kind,))
    try:
        if kind in _PRODUCTS:
            return Flops(multiply_adds=_PRODUCTS[kind](operation))
        return Flops(elementwise=_elementwise(operation))
    except ValueError:  # the number of elements of a shape that is not known
        return Flops(unresolved=(f"{kind} of an unknown shape",))


def _elementwise(operation: Any) -> int:
    kind = operation.type
    if kind in _ON_EACH:
        return _ON_EACH[kind] * _size(operation.outputs[0])
    if kind == "Mean":
        return _size(operation.inputs[0])
    if kind in _REDUCTIONS:
        return _size(operation.inputs[0]) - _size(operation.outputs[0])
    if kind in ("AvgPool", "MaxPool"):
        window: list[int] = operation.get_attr("ksize")
        return math.prod(window) * _size(operation.outputs[0])
    if kind == "AddN":
        return (len(operation.inputs) - 1) * _size(operation.outputs[0])
    return 0


def _matrix_product(transposed: str) -> Callable[[Any], int]:
    def multiply_adds(operation: Any) -> int:
        first = _shape(operation.inputs[0])
        return first[-2 if operation.get_attr(transposed) else -1] * _size(operation.outputs[0])

    return multiply_adds


def _einsum(operation: Any) -> int:
    """One multiply-add for each combination of indices; an ellipsis is what it is in the output."""
    *_, output = terms = operation.get_attr("equation").decode().replace("->", ",").split(",")
    if len(terms) < 3:
        return 0
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, [*operation.inputs, operation.outputs[0]], strict=True):
        shape = _shape(tensor)
        before, ellipsis, after = term.partition("...")
        sizes.update(zip(before, shape, strict=False))
        sizes.update(zip(after, shape[len(shape) - len(after) :], strict=True))
        if ellipsis and term is output:
            sizes["..."] = math.prod(shape[len(before) : len(shape) - len(after)])
    return math.prod(sizes.values())


def _convolution(operation: Any) -> int:
    """The kernel of ``(…, input channels of a group, filters)`` at each place that is put out.

    On a CPU a dilated convolution is a plain one of rearranged blocks, larger than it needs be:
    what is put out in the end counts.
    """
    *places, _ = _shape(operation.inputs[1])
    return math.prod(places) * _size(_rearranged(operation.outputs[0]))


def _depthwise_convolution(operation: Any) -> int:
    height, width, _, _ = _shape(operation.inputs[1])
    return height * width * _size(_rearranged(operation.outputs[0]))


def _transposed_convolution(operation: Any) -> int:
    """The kernel of ``(…, filters, input channels)`` at each place that is taken in."""
    *places, _ = _shape(operation.inputs[1])
    return math.prod(places) * _size(operation.inputs[2])


def _cudnn_rnn(operation: Any) -> int:
    """One layer, in one direction: kernel and recurrent kernel of each gate at each step."""
    steps, batch, features = _shape(operation.inputs[0])
    *_, units = _shape(operation.inputs[1])
    gates = {"lstm": 4, "gru": 3}[operation.get_attr("rnn_mode").decode()]
    return steps * batch * gates * units * (features + units)


_PRODUCTS: dict[str, Callable[[Any], int]] = {
    "MatMul": _matrix_product("transpose_a"),
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _matrix_product("adj_x")),
    "Einsum": _einsum,
    **dict.fromkeys(("Conv2D", "Conv3D"), _convolution),
    "DepthwiseConv2dNative": _depthwise_convolution,
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _transposed_convolution),
    **dict.fromkeys(("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"), _cudnn_rnn),
}


def _loop(operation: Any) -> Flops:
    condition, body = _function(operation, "cond"), _function(operation, "body")
    rounds = _rounds(operation, condition, body)
    if rounds is None:
        return _graph(body).not_knowing("a loop: one round of a number not known")
    return _graph(body).times(rounds) + _graph(condition).times(rounds + 1)


def _rounds(operation: Any, condition: Any, body: Any) -> int | None:
    """Return how often a loop runs that counts up to a constant; None if it is not such a one."""
    found = []
    for bound in _live_bounds(condition.outputs[0].op):
        counter, limit = bound.inputs
        index = _position(counter, condition)
        if index is None:
            continue
        start = _constant(operation.inputs[index])
        end = _value(limit, condition, operation)
        step = _step(body, index)
        if start is not None and end is not None and step:
            found.append(max(0, math.ceil((end - start) / step)))
    return min(found, default=None)


def _live_bounds(operation: Any) -> Iterator[Any]:
    """Yield the comparisons ``counter < limit`` that must all hold for another round."""
    if operation.type == "Less":
        yield operation
    elif operation.type in ("Identity", "LogicalAnd"):
        for tensor in operation.inputs:
            yield from _live_bounds(tensor.op)


def _step(body: Any, index: int) -> int | None:
    """Return by how much a round of the loop raises its variable of this number."""
    operation = body.outputs[index].op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    if operation.type == "AddV2" and _position(operation.inputs[0], body) == index:
        return _constant(operation.inputs[1])
    return None


def _value(tensor: Any, function: Any, operation: Any) -> int | None:
    """Return a constant of a loop's function, or one that is handed to it."""
    index = _position(tensor, function)
    return _constant(tensor if index is None else operation.inputs[index])


def _position(tensor: Any, function: Any) -> int | None:
    names = [given.name for given in function.inputs]
    return names.index(tensor.name) if tensor.name in names else None


def _constant(tensor: Any) -> int | None:
    import tensorflow as tf

    value = tf.get_static_value(tensor)
    return None if value is None else int(value)


def _branches(operation: Any) -> list[Any]:
    if "Case" in operation.type:
        names = [branch.name for branch in operation.get_attr("branches")]
    else:
        names = [operation.get_attr(branch).name for branch in ("then_branch", "else_branch")]
    return [operation.graph._get_function(name).graph for name in names]


def _function(operation: Any, attribute: str) -> Any:
    return operation.graph._get_function(operation.get_attr(attribute).name).graph


def _rearranged(tensor: Any) -> Any:
    """Return what blocks are put together to, the tensor itself if they aren't."""
    consumers = tensor.consumers()
    if len(consumers) == 1 and consumers[0].type == "BatchToSpaceND":
        return consumers[0].outputs[0]
    return tensor


def _shape(tensor: Any) -> list[int]:
    """Return the shape; ValueError if a size is not known."""
    shape: list[int | None] = tensor.shape.as_list()
    known = [size for size in shape if size is not None]
    if len(known) != len(shape):
        raise ValueError(f"{tensor.name}: the shape {shape} is not known")
    return known


def _size(tensor: Any) -> int:
    return math.prod(_shape(tensor))
