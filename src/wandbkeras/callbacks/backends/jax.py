"""Gradients on JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.experimental import io_callback

from wandbkeras.callbacks import bit_counts
from wandbkeras.callbacks.backends.host_tallies import HostTallies
from wandbkeras.callbacks.bit_counts import BitCounts
from wandbkeras.callbacks.training_loss import scaled_loss


def gradient_step(model: keras.Model, variables: Sequence[Any]) -> Callable[..., list[Any]]:
    """Return ``step(sums, x, y, sample_weight)``: the sums with the gradients of a batch added.

    There is a sum for each variable, in float32. The gradients are those of the loss that ``fit``
    minimises; nothing of the model changes.
    """
    others = _others(model, variables)

    def loss(values: Any, held: Any, *batch: Any) -> tuple[Any, Any]:
        state = [*zip(variables, values, strict=True), *zip(others, held, strict=True)]
        return scaled_loss(model, state, *batch)

    def step(sums: Any, values: Any, held: Any, *batch: Any) -> list[Any]:
        gradients, scale = jax.grad(loss, has_aux=True)(values, held, *batch)
        return [
            total + gradient.astype(jnp.float32) / scale
            for total, gradient in zip(sums, gradients, strict=True)
        ]

    compiled = step if model.run_eagerly or not model.jit_compile else jax.jit(step)

    def with_state(sums: Sequence[Any], *batch: Any) -> list[Any]:
        # As arguments: what a compiled function reads by itself stays what it was then.
        values, held = [v.value for v in variables], [v.value for v in others]
        return compiled(sums, values, held, *batch)

    return with_state


def _others(model: keras.Model, variables: Sequence[Any]) -> list[Any]:
    """Return all further variables that the loss may read: of layers, metrics and optimizer."""
    optimizer = getattr(getattr(model, "optimizer", None), "variables", ())
    every = {id(v): v for v in (*model.variables, *model.metrics_variables, *optimizer)}
    return [v for key, v in every.items() if key not in set(map(id, variables))]


def _count_bits(values: Any) -> Any:
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    magnitude = bits & bit_counts.MAGNITUDE
    bucket = jax.lax.shift_right_logical(bits, bit_counts.LOWER_BITS)
    bucket = jnp.where(magnitude > bit_counts.INFINITY, bit_counts.NAN, bucket)
    bucket = jnp.where(magnitude == 0, bit_counts.ZERO, bucket)
    return jnp.bincount(bucket, length=bit_counts.BUCKETS)


@jax.jit  # for a step that is not compiled: operation by operation this is slow
def _counted(gradients: Sequence[Any]) -> tuple[Any, Any]:
    """Return a row of buckets and one of moments for each gradient."""
    flat = [gradient.astype(jnp.float32).reshape(-1) for gradient in gradients]
    moments = [bit_counts.moments(values) for values in flat]
    return jnp.stack([_count_bits(values) for values in flat]), jnp.stack(moments)


class UpdateCounter:
    """Counts the gradients of updates inside of the training step; the host adds them up.

    The step is a pure function, and its updates may lie inside of conditions: the counts leave it
    by a callback of JAX's own, for which no step waits.

    Raises an error of JAX if the device has no such callbacks.
    """

    def __init__(self, model: keras.Model) -> None:
        self._tallies = HostTallies()

        def feature_test(values: Any) -> None:
            io_callback(lambda *counted: None, None, *_counted([values]))

        jax.jit(feature_test)(jnp.zeros(1))
        jax.effects_barrier()

    def record(self, optimizer: Any, variables: Sequence[Any], gradients: Sequence[Any]) -> None:
        """Add an update's gradients, called inside of the step."""
        steps = optimizer.gradient_accumulation_steps
        # On JAX Keras computes an update in every step and keeps that of each so many. What it
        # counts in public are those kept.
        is_update = not steps or (optimizer._iterations + 1) % steps == 0
        receive = partial(self._receive, tuple(variables))
        io_callback(receive, None, *_counted(list(gradients)), is_update)

    def _receive(self, variables: Sequence[Any], counts: Any, moments: Any, is_update: Any) -> None:
        if is_update:
            self._tallies.add(variables, np.asarray(counts), np.asarray(moments))

    def updates(self) -> int:
        """Return the number of updates since the last :meth:`take`."""
        jax.effects_barrier()
        return self._tallies.updates

    def take(self) -> Iterable[tuple[Any, BitCounts]]:
        """Return what was counted of each variable, and begin anew."""
        jax.effects_barrier()
        return self._tallies.take()
