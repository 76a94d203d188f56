"""The shapes and dtypes of what a model takes, for a batch as small as it can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from wandbkeras.callbacks.graph import traced_function
from wandbkeras.errors import UsageError


class SampleNeededError(UsageError):
    """The model doesn't tell the sizes of what it takes."""


@dataclass(frozen=True)
class Spec:
    """The shape of an input, the batch included, and its dtype by name."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Inputs:
    """Specs in the structure that the model takes, and how many samples they are."""

    specs: Any
    samples: int


def inputs_of(model: keras.Model, sample: Any = None) -> Inputs:
    """Return what the model takes: what ``sample``, a batch of inputs, is, else what it tells.

    Raises:
        UsageError: the model is not built.
        SampleNeededError: it doesn't tell what it takes, or a size varies.
    """
    if not model.built:
        raise UsageError(f"the model {model.name!r} is not built yet: call it on a batch first")
    if sample is not None:
        return _inputs(sample, model, None)
    function = traced_function(model)
    if function is not None:
        # The structure is private to Keras; the list is not.
        structure = getattr(function, "_inputs_struct", function.inputs)
        return _inputs(structure, model, _fixed_batch(function.inputs))
    shapes = model.get_build_config() or {}
    if shapes.get("input_shape") is None:
        raise SampleNeededError(
            f"the model {model.name!r} doesn't tell what it takes: pass a batch of inputs as sample"
        )
    structure = keras.tree.map_shape_structure(
        lambda shape: Spec(shape, model.input_dtype), shapes["input_shape"]
    )
    return _inputs(_untracked(structure), model, None)


def _inputs(structure: Any, model: keras.Model, batch: int | None) -> Inputs:
    samples = batch or 1
    specs = keras.tree.map_structure(
        lambda leaf: Spec(
            (samples, *_sizes(leaf.shape, model)), keras.backend.standardize_dtype(leaf.dtype)
        ),
        structure,
    )
    return Inputs(specs, samples)


def _untracked(structure: Any) -> Any:
    """Return the structure of plain dicts and lists: Keras keeps it in containers of its own."""
    if isinstance(structure, Mapping):
        return {name: _untracked(part) for name, part in structure.items()}
    if isinstance(structure, list):
        return [_untracked(part) for part in structure]
    return structure


def _sizes(shape: Sequence[int | None], model: keras.Model) -> tuple[int, ...]:
    """Return the sizes of one sample."""
    sizes = tuple(size for size in shape[1:] if size is not None)
    if len(sizes) != len(shape) - 1:
        raise SampleNeededError(
            f"the model {model.name!r} takes inputs of varying sizes, {tuple(shape)}: pass a batch "
            "of inputs as sample"
        )
    return sizes


def _fixed_batch(inputs: Sequence[Any]) -> int | None:
    """Return the size of the only batches that the model takes, as those of a stateful RNN."""
    return next((tensor.shape[0] for tensor in inputs if tensor.shape[0] is not None), None)
