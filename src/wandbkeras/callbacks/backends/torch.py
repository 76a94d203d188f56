"""Gradients on Torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import torch

from wandbkeras.callbacks import bit_counts
from wandbkeras.callbacks.backends.host_tallies import HostTallies
from wandbkeras.callbacks.bit_counts import BitCounts
from wandbkeras.callbacks.training_loss import scaled_loss


def gradient_step(model: keras.Model, variables: Sequence[Any]) -> Callable[..., list[Any]]:
    """Return ``step(sums, x, y, sample_weight)``: the sums with the gradients of a batch added.

    There is a sum for each variable, in float32. The gradients are those of the loss that ``fit``
    minimises; nothing of the model changes.
    """

    def step(sums: Sequence[Any], *batch: Any) -> list[Any]:
        values = [variable.value for variable in variables]
        with torch.enable_grad(), _training_mode(model):
            loss, scale = scaled_loss(model, list(zip(variables, values, strict=True)), *batch)
            gradients = torch.autograd.grad(loss, values, allow_unused=True)
        return [
            total if gradient is None else total + gradient.float() / scale
            for total, gradient in zip(sums, gradients, strict=True)
        ]

    return step


@contextmanager
def _training_mode(model: keras.Model) -> Iterator[None]:
    """Put the model in training mode; afterwards put back that and what its modules keep.

    What modules of Torch keep in buffers, as statistics, is no variable of Keras.
    """
    was_training = model.training
    # A Keras layer does not register the layers in it as Torch's modules.
    layers = getattr(model, "_flatten_layers", lambda: [model])()
    kept = {id(buffer): buffer for layer in layers for buffer in layer.buffers()}
    buffers = [(buffer, buffer.clone()) for buffer in kept.values()]
    model.train()
    try:
        yield
    finally:
        model.train(was_training)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _count_bits(values: Any) -> Any:
    bits = values.view(torch.int32)
    magnitude = bits & bit_counts.MAGNITUDE
    bucket = (bits >> bit_counts.LOWER_BITS) & (bit_counts.BUCKETS - 1)
    bucket = torch.where(magnitude > bit_counts.INFINITY, bit_counts.NAN, bucket)
    bucket = torch.where(magnitude == 0, bit_counts.ZERO, bucket)
    return torch.bincount(bucket, minlength=bit_counts.BUCKETS)


class UpdateCounter:
    """Counts the gradients of updates inside of the training step; the host adds them up."""

    def __init__(self, model: keras.Model) -> None:
        self._tallies = HostTallies()

    @torch.compiler.disable
    @torch.no_grad()
    def record(self, optimizer: Any, variables: Sequence[Any], gradients: Sequence[Any]) -> None:
        """Add an update's gradients, called inside of the step."""
        flat = [gradient.detach().float().reshape(-1) for gradient in gradients]
        counts = torch.stack([_count_bits(values) for values in flat])
        moments = torch.stack([bit_counts.moments(values) for values in flat])
        self._tallies.add(variables, counts.cpu().numpy(), moments.cpu().numpy())

    def updates(self) -> int:
        """Return the number of updates since the last :meth:`take`."""
        return self._tallies.updates

    def take(self) -> Iterable[tuple[Any, BitCounts]]:
        """Return what was counted of each variable, and begin anew."""
        return self._tallies.take()
