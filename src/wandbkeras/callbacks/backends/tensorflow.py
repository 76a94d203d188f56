"""Gradients on TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wandbkeras.callbacks import bit_counts
from wandbkeras.callbacks.bit_counts import BitCounts
from wandbkeras.callbacks.training_loss import scaled_loss


def gradient_step(model: keras.Model, variables: Sequence[Any]) -> Callable[..., list[Any]]:
    """Return ``step(sums, x, y, sample_weight)``: the sums with the gradients of a batch added.

    There is a sum for each variable, in float32. The gradients are those of the loss that ``fit``
    minimises; nothing of the model changes.
    """

    def step(sums: Sequence[Any], x: Any, y: Any, sample_weight: Any) -> list[Any]:
        values = [tf.identity(variable.value) for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            state = list(zip(variables, values, strict=True))
            loss, scale = scaled_loss(model, state, x, y, sample_weight)
        gradients = tape.gradient(loss, values)
        # In the scope of a strategy each loss is divided by the replicas; this is no replica's.
        factor = tf.distribute.get_strategy().num_replicas_in_sync / scale
        return [
            total if gradient is None else total + factor * _dense(gradient)
            for total, gradient in zip(sums, gradients, strict=True)
        ]

    if model.run_eagerly:
        return step
    plain = tf.autograph.experimental.do_not_convert(step)
    compiled: Callable[..., list[Any]] = tf.function(
        plain, reduce_retracing=True, jit_compile=model.jit_compile
    )
    return compiled


def _dense(gradient: Any) -> Any:
    """Return a gradient in float32; of an embedding's slices, those of the same row add up."""
    return tf.cast(tf.convert_to_tensor(gradient), tf.float32)


def _counted(values: Any) -> tuple[Any, Any]:
    """Return how many values are in each bucket, and their moments.

    Passes over the values are what it costs. There are few where all values are finite and no sum
    of squares can overflow or vanish: then zeros alone are not in the bucket of their leading bits,
    and nothing needs a scale.
    """
    bits = tf.bitcast(values, tf.int32)
    leading = tf.bitwise.right_shift(tf.bitcast(values, tf.uint32), bit_counts.LOWER_BITS)
    leading = tf.bitcast(leading, tf.int32)
    counts = _counts_of(leading)
    low, high = tf.reduce_min(values), tf.reduce_max(values)
    largest = tf.maximum(-low, high)
    all_finite = tf.reduce_sum(tf.gather(counts, bit_counts.NOT_FINITE)) == 0

    def plainly() -> tuple[Any, Any]:
        sums = tf.reduce_sum(values), 2.0 * tf.nn.l2_loss(values)
        return _with_zeros_apart(counts, bits), tf.stack([low, high, 1.0, *sums])

    # One condition: TensorFlow takes twice as long for two of which one needs the other.
    return tf.cond(  # type: ignore[no-any-return]
        all_finite & (largest > 2.0**-40) & (largest < 2.0**40),
        plainly,
        lambda: (_counts_of(_buckets(bits, leading)), bit_counts.moments(values)),
    )


def _with_zeros_apart(counts: Any, bits: Any) -> Any:
    """Return the counts of leading bits, of which zeros have those of denormal numbers."""
    for zero in (0, tf.int32.min):  # and the negative one
        leading = zero >> bit_counts.LOWER_BITS & bit_counts.BUCKETS - 1
        zeros = tf.cond(
            counts[leading] > 0,
            lambda zero=zero: tf.reduce_sum(tf.cast(bits == zero, tf.int32)),
            lambda: tf.constant(0),
        )
        moved = tf.cast(tf.stack([-zeros, zeros]), tf.int64)
        counts = tf.tensor_scatter_nd_add(counts, [[leading], [bit_counts.ZERO]], moved)
    return counts


def _buckets(bits: Any, leading: Any) -> Any:
    """Return the bucket of each value: its leading bits, unless it is zero or not a number."""
    # Of integers: denormal numbers are zeros to some kernels, and fast math takes no NaN for one.
    magnitude = tf.bitwise.bitwise_and(bits, bit_counts.MAGNITUDE)
    buckets = tf.where(magnitude > bit_counts.INFINITY, bit_counts.NAN, leading)
    return tf.where(magnitude == 0, bit_counts.ZERO, buckets)


def _counts_of(buckets: Any) -> Any:
    # Not tf.math.bincount: XLA doesn't compile that.
    counts = tf.raw_ops.DenseBincount(
        input=buckets,
        size=tf.constant(bit_counts.BUCKETS),
        weights=tf.constant([], tf.int32),
        binary_output=False,
    )
    return tf.cast(counts, tf.int64)


@functools.cache
def _feature_test(jit_compile: bool) -> Callable[..., Any]:
    compiled: Callable[..., Any] = tf.function(_counted, jit_compile=jit_compile)
    return compiled


class UpdateCounter:
    """Counts the gradients of updates inside of the training step, on the device.

    Raises an error of TensorFlow if the device can't.
    """

    def __init__(self, model: keras.Model) -> None:
        self._tallies: list[_Tally] = []
        strategy = model.distribute_strategy
        self._strategy = strategy if strategy.num_replicas_in_sync > 1 else None
        with strategy.scope():
            self._updates = _on_each_replica(tf.zeros((), tf.int64))
            if self._strategy is not None:
                # In a replica's own step it is too late.
                self._tallies.append(_Tally(model.trainable_variables))
        _feature_test(bool(model.jit_compile))(tf.zeros(1))

    def record(self, optimizer: Any, variables: Sequence[Any], gradients: Sequence[Any]) -> None:
        """Add an update's gradients, called inside of the step."""
        if self._strategy is not None:
            replica = tf.distribute.get_replica_context()
            gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        self._tally(variables).add(variables, gradients)
        self._updates.assign_add(1)

    def _tally(self, variables: Sequence[Any]) -> _Tally:
        """Return the tally of the variables; an optimizer of several updates some of them."""
        for tally in self._tallies:
            if tally.has(variables):
                return tally
        with tf.init_scope():
            tally = _Tally(variables)
        self._tallies.append(tally)
        return tally

    def updates(self) -> int:
        """Return the number of updates since the last :meth:`take`."""
        return int(self._updates.numpy())

    def take(self) -> Iterable[tuple[Any, BitCounts]]:
        """Return what was counted of each variable, and begin anew."""
        self._updates.assign(0)
        return [counted for tally in self._tallies for counted in tally.take()]


class _Tally:
    """The counts of gradients, their extremes and their sums, on the device: a row a variable."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self._variables = tuple(variables)
        nothing = _nothing(len(self._variables))
        self._counts, self._extremes, self._sums = map(_on_each_replica, nothing)

    def has(self, variables: Sequence[Any]) -> bool:
        return set(map(id, variables)) <= set(map(id, self._variables))

    def add(self, variables: Sequence[Any], gradients: Sequence[Any]) -> None:
        """Add gradients of these variables; the others have none in this update."""
        counted = dict(zip(map(id, variables), map(_row_of, gradients), strict=True))
        nothing = [part[0] for part in _nothing(1)]
        rows = [counted.get(id(variable), nothing) for variable in self._variables]
        counts, extremes, sums = (tf.stack(parts) for parts in zip(*rows, strict=True))
        self._counts.assign_add(counts)
        self._extremes.assign(tf.maximum(self._extremes, extremes))
        self._sums.assign_add(sums)

    def take(self) -> Iterable[tuple[Any, BitCounts]]:
        held = self._counts, self._extremes, self._sums
        counts, extremes, sums = (each.numpy() for each in held)
        for each, nothing in zip(held, _nothing(len(self._variables)), strict=True):
            each.assign(nothing)
        for variable, row, (below, high), (total, squares) in zip(
            self._variables, counts, extremes.tolist(), sums.tolist(), strict=True
        ):
            yield variable, BitCounts(row, -below, high, total, squares)


def _row_of(gradient: Any) -> tuple[Any, Any, Any]:
    """Return the counts of a gradient's values, their extremes and their sums."""
    counts, moments = _counted(tf.reshape(_dense(gradient), [-1]))
    low, high, scale, ratios, squares = tf.unstack(tf.cast(moments, tf.float64))
    return counts, tf.stack([-low, high]), tf.stack([scale * ratios, scale * scale * squares])


def _nothing(rows: int) -> tuple[Any, Any, Any]:
    """Return the counts, extremes and sums of no values.

    The smallest is kept negated: of both extremes the larger counts.
    """
    return (
        tf.zeros([rows, bit_counts.BUCKETS], tf.int64),
        tf.fill([rows, 2], tf.constant(-np.inf, tf.float64)),
        tf.zeros([rows, 2], tf.float64),
    )


def _on_each_replica(initial: Any) -> Any:
    """Return a variable of which each replica has its own and the first one's is read."""
    return tf.Variable(
        initial,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
