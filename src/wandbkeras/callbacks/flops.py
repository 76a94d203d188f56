"""What one inference of the model computes, in the run's summary."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import keras

from wandbkeras.callbacks.cost.count import Flops
from wandbkeras.callbacks.cost.inputs import SampleNeededError, inputs_of
from wandbkeras.callbacks.validation_data import ValidationData
from wandbkeras.callbacks.when_built import WhenBuilt
from wandbkeras.errors import UsageError

_BACKENDS = ("tensorflow", "jax", "torch")


class FlopsLogger(WhenBuilt):
    """Records :func:`model_flops` in the summary as soon as the model is built.

    ``GFLOPs`` is what wandb's callback recorded under this name, the multiply-adds and half of the
    rest. ``GMACs`` are the multiply-adds alone, and ``GFLOPs_total`` is twice as much. What can't
    be counted is said, and recorded as a failure.

    Args:
        sample: a batch of inputs, for a model that doesn't tell what it takes or takes sizes that
            vary; or a function that is called for it when the training begins.
        data: without it, a row of these data is the sample where the model needs one; default: a
            row of what ``fit`` validates with or, if it trains on arrays, of those.
    """

    needs = "model"

    def __init__(self, sample: Any = None, data: ValidationData | None = None) -> None:
        super().__init__()
        self.sample = sample
        self.data = data or ValidationData()

    def record(self) -> None:
        flops = self._flops()
        self.run.summary.update(
            {
                "GFLOPs": flops.gflops,
                "GMACs": flops.gmacs,
                "GFLOPs_total": flops.gflops_total,
            }
        )
        if flops.unresolved:
            missing = "; ".join(flops.unresolved)
            self.run.record_failure("FlopsLogger", f"not counted: {missing}")
            print(  # noqa: T201
                f"wandbkeras: GFLOPs and GMACs are too small, not counted: {missing}",
                file=sys.stderr,
            )

    def _flops(self) -> Flops:
        sample = self.sample() if callable(self.sample) else self.sample
        try:
            return model_flops(self.model, sample)
        except SampleNeededError:
            sample = self.data.sample_inputs(self.model)
            if sample is None:
                raise
            return model_flops(self.model, sample)


def model_flops(model: keras.Model, sample: Any = None) -> Flops:
    """Return what an inference of one sample computes; :class:`Flops` says what is counted.

    It is read from the program that the backend makes of the model: TensorFlow's graph, JAX's
    jaxpr, and what Torch dispatches while one sample of zeros goes through. Matrix products and
    convolutions are exact on each backend, in loops of a known length too. The rest depends on
    what the backend makes of a layer; with TensorFlow it is what its profiler counts.

    Args:
        model: a built model. Nothing of it is changed.
        sample: a batch of inputs (arrays in the structure that the model takes), of which only
            shapes and dtypes matter. It is needed where sizes of the inputs vary, and for a model
            of one's own ``build``.

    Raises:
        UsageError: the model is not built, it needs a sample, or the backend is another.

    >>> import keras
    >>> model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    >>> flops = model_flops(model)
    >>> flops.multiply_adds, flops.elementwise, flops.gflops
    (7840, 10, 7.845e-06)
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise UsageError(f"compute_flops: the backend is {backend}; expected {_BACKENDS}")
    inputs = inputs_of(model, sample)
    counter = importlib.import_module(f"wandbkeras.callbacks.cost.{backend}")

    def call(taken: Any) -> Any:
        with keras.StatelessScope():  # states of layers and of seeds stay as they are
            return model(taken, training=False)

    flops: Flops = counter.count(call, inputs.specs)
    return flops.shared_by(inputs.samples)
