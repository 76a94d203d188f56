"""The loss that ``fit`` minimises, computed once more without a trace in the model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras


def scaled_loss(
    model: keras.Model, state: Sequence[tuple[Any, Any]], x: Any, y: Any, sample_weight: Any
) -> tuple[Any, Any]:
    """Return the loss of a batch in training mode, times the scale of the optimizer, and the scale.

    The loss is the compiled one or that of an overridden ``compute_loss``, with loss and sample
    weights, ``add_loss`` and regularisers. ``state`` gives variables and their values; what layers,
    metrics and seed generators assign goes nowhere.
    """
    with keras.StatelessScope(state_mapping=state, collect_losses=True):
        # As `train_step` does it: an explicit argument would reach layers that `call` doesn't tell.
        has_argument = getattr(model, "_call_has_training_arg", True)
        predicted = model(x, training=True) if has_argument else model(x)
        arguments = {"x": x, "y": y, "y_pred": predicted, "sample_weight": sample_weight}
        if "training" in inspect.signature(model.compute_loss).parameters:
            arguments["training"] = True
        loss = model.compute_loss(**arguments)
        one = keras.ops.ones((), "float32")
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return loss, one
        return optimizer.scale_loss(loss), optimizer.scale_loss(one)
