"""What a Torch program computes: it runs once, and each operation that it dispatches is counted."""

from __future__ import annotations

import math
from typing import Any

from wandbkeras.callbacks.cost.count import Flops

# Operations on each element that is put out: those that TensorFlow's profiler counts.
_ON_EACH = {
    **dict.fromkeys(("add", "sub", "rsub", "mul", "div", "pow", "square", "addcmul"), 1),
    **dict.fromkeys(("maximum", "minimum", "clamp", "clamp_min", "clamp_max"), 1),
    **dict.fromkeys(("gt", "ge", "lt", "le", "eq", "ne", "log", "neg", "reciprocal"), 1),
    **dict.fromkeys(("rsqrt", "native_batch_norm", "cudnn_batch_norm"), 2),
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "batch_norm"), 2),
    "_softmax": 5,
}
_REDUCTIONS = {"sum", "amax", "amin", "argmax", "argmin"}
# They add a bias to what their matrix product puts out.
_WITH_BIAS = {"addmm": 0, "baddbmm": 0, "convolution": 2, "_convolution": 2}
_POOLS = {"avg_pool2d", "max_pool2d_with_indices", "avg_pool3d", "max_pool3d_with_indices"}
# They compute, and there is no formula for them.
_OPAQUE = ("rnn", "lstm", "gru", "attention", "fft", "linalg", "sparse", "trilinear", "int_mm")


def count(call: Any, inputs: Any) -> Flops:
    """Return what ``call`` computes of ``inputs``, a structure of shapes and dtypes."""
    import keras
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    products = FlopCounterMode(display=False, custom_mapping=_products(torch.ops.aten))

    class Counter(TorchDispatchMode):  # type: ignore[misc]
        """Adds up what is not a matrix product or a convolution."""

        total = Flops()

        def __torch_dispatch__(
            self, operation: Any, types: Any, arguments: Any = (), keywords: Any = None
        ) -> Any:
            result = operation(*arguments, **(keywords or {}))
            name = operation.overloadpacket.__name__
            if any(part in name for part in _OPAQUE):
                if operation.overloadpacket not in products.flop_registry:
                    self.total = self.total.not_knowing(name)
            else:
                self.total += _elementwise(name, arguments, result)
            return result

    zeros = keras.tree.map_structure(lambda spec: keras.ops.zeros(spec.shape, spec.dtype), inputs)
    with torch.no_grad(), Counter() as counter, products:
        call(zeros)
    elementwise: Flops = counter.total
    return elementwise + Flops(multiply_adds=products.get_total_flops() // 2)


def _products(aten: Any) -> dict[Any, Any]:
    """Return formulas, in operations of shapes, that Torch's counter lacks."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])

    def matrix_and_vector(matrix: Any, *_: Any, **__: Any) -> Any:
        return 2 * math.prod(matrix)

    formulas = {
        "_scaled_dot_product_flash_attention_for_cpu": attention,
        "mv": matrix_and_vector,
        "dot": matrix_and_vector,
        "addmv": lambda bias, matrix, *_, **__: matrix_and_vector(matrix),
    }
    return {getattr(aten, n): formula for n, formula in formulas.items() if hasattr(aten, n)}


def _elementwise(name: str, arguments: Any, result: Any) -> Flops:
    put_out = result[0] if isinstance(result, (tuple, list)) and result else result
    if not hasattr(put_out, "numel"):
        return Flops()
    size = put_out.numel()
    count = _ON_EACH.get(name.removesuffix("_"), _ON_EACH.get(name, 0)) * size
    if name in _WITH_BIAS and arguments[_WITH_BIAS[name]] is not None:
        count += size
    if name == "mean":
        count += arguments[0].numel()
    if name in _REDUCTIONS:
        count += arguments[0].numel() - size
    if name in _POOLS:
        count += math.prod(arguments[1]) * size
    return Flops(elementwise=count)
