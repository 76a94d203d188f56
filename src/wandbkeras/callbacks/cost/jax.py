"""What a JAX program computes: the operations of its jaxpr and of those in it, scans unrolled.

XLA's own cost analysis counts the body of a loop once, so it is not asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from wandbkeras.callbacks.cost.count import Flops, largest

# Operations on each element that is put out: those that TensorFlow's profiler counts.
_ON_EACH = {
    **dict.fromkeys(("add", "add_any", "sub", "mul", "div", "pow", "integer_pow", "square"), 1),
    **dict.fromkeys(("max", "min", "gt", "ge", "lt", "le", "eq", "ne", "log", "neg"), 1),
    "rsqrt": 2,
}
_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin"}
# They compute, and the jaxpr doesn't tell how much.
_OPAQUE = (
    "pallas_call",
    "ffi_call",
    "custom_call",
    "dot_product_attention",
    "ragged_dot",
    "bcoo_",
    "triangular_solve",
    "cholesky",
    "svd",
    "fft",
)


def count(call: Any, inputs: Any) -> Flops:
    """Return what ``call`` computes of ``inputs``, a structure of shapes and dtypes."""
    import jax
    import keras

    specs = keras.tree.map_structure(
        lambda spec: jax.ShapeDtypeStruct(spec.shape, spec.dtype), inputs
    )
    return _jaxpr(jax.make_jaxpr(call)(specs).jaxpr)


def _jaxpr(jaxpr: Any) -> Flops:
    total = Flops()
    for equation in jaxpr.eqns:
        total += _equation(equation)
    return total


def _equation(equation: Any) -> Flops:
    kind, parameters = equation.primitive.name, equation.params
    if kind == "scan":
        return _jaxpr(parameters["jaxpr"].jaxpr).times(parameters["length"])
    if kind == "while":
        body = _jaxpr(parameters["body_jaxpr"].jaxpr)
        return body.not_knowing("a loop: one round of a number not known")
    if kind == "cond":
        return largest([_jaxpr(branch.jaxpr) for branch in parameters["branches"]])
    if kind.startswith(_OPAQUE):
        return Flops(unresolved=(kind,))
    if kind == "dot_general":
        return Flops(multiply_adds=_matrix_product(equation))
    if kind == "conv_general_dilated":
        return Flops(multiply_adds=_convolution(equation))
    total = Flops(elementwise=_elementwise(equation))
    for inner in _inner(parameters):
        total += _jaxpr(inner)
    return total


def _elementwise(equation: Any) -> int:
    kind = equation.primitive.name
    if kind in _ON_EACH:
        return _ON_EACH[kind] * _size(equation.outvars[0])
    if kind in _REDUCTIONS:
        return _size(equation.invars[0]) - _size(equation.outvars[0])
    if kind.startswith("reduce_window"):
        window: tuple[int, ...] = equation.params["window_dimensions"]
        return math.prod(window) * _size(equation.outvars[0])
    return 0


def _matrix_product(equation: Any) -> int:
    (summed, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    length: int = math.prod(shape[axis] for axis in summed)
    return length * _size(equation.outvars[0])


def _convolution(equation: Any) -> int:
    """The kernel of a group at each place that is put out, of a transposed one that is taken in."""
    parameters = equation.params
    kernel = equation.invars[1].aval.shape
    filters, channels, *places = parameters["dimension_numbers"].rhs_spec
    area: int = math.prod(kernel[axis] for axis in places)
    if math.prod(parameters["lhs_dilation"]) == 1:
        return area * int(kernel[channels]) * _size(equation.outvars[0])
    reached = int(kernel[filters]) // int(parameters["feature_group_count"])
    return area * reached * _size(equation.invars[0])


def _inner(parameters: Any) -> Iterator[Any]:
    """Yield the jaxprs of a call: ``jit``, ``custom_jvp_call``, ``checkpoint`` and others."""
    for value in parameters.values():
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns"):
            yield inner


def _size(variable: Any) -> int:
    shape: tuple[int, ...] = variable.aval.shape
    return math.prod(shape)
