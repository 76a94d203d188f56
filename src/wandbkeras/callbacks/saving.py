"""A model as a file: what is written of it, how, and what tells how to load it."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import keras

# Of the file of a saved model, beside the values: a group and a header for each variable.
_OVERHEAD_BYTES = 2 << 10


def write_model(model: keras.Model, path: Path, *, weights_only: bool, optimizer: bool) -> None:
    """Write the model, or its weights, to ``path``; the state of its optimizer only if wanted.

    Keras ignores its own ``include_optimizer=False``, so the optimizer is taken off meanwhile: the
    file is a third as large with Adam, and a loaded model begins with a fresh one.
    """
    with _undistributed(), nullcontext() if optimizer else _without_optimizer(model):
        if weights_only:
            model.save_weights(path, overwrite=True)
        else:
            model.save(path, overwrite=True)


def write_durably(path: Path, size: int, write: Callable[[Path], None]) -> None:
    """Let ``write`` write a file of ``size`` bytes and move it to ``path`` when it is on disk.

    A process that is killed meanwhile leaves what was at ``path`` before, and a hidden file beside
    it. OSError if there is no room: HDF5 must not find out by itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    # Keras goes by what the name ends in.
    temporary = path.with_name(f".{os.getpid()}.tmp-{path.name}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def how_to_load(model: keras.Model, *, weights_only: bool, optimizer: bool) -> dict[str, Any]:
    """Return what an artifact's metadata says of the file, for whoever loads it."""
    return {
        "format": "weights.h5" if weights_only else "keras",
        "what": "weights" if weights_only else "model",
        "optimizer": optimizer and _optimizer(model) is not None,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }


def saved_bytes(model: keras.Model, *, optimizer: bool = True) -> int:
    """Return how many bytes the file of a saved model has, a little more rather than less."""
    variables = state_of(model, optimizer=optimizer)
    values: int = sum(math.prod(v.shape) * _element_bytes(v.dtype) for v in variables)
    return values + _OVERHEAD_BYTES * (8 + len(variables))


def state_of(model: keras.Model, *, optimizer: bool) -> list[Any]:
    """Return the variables that make up a model, and its optimizer if wanted, in their order."""
    chosen = _optimizer(model) if optimizer else None
    return [*model.variables, *(() if chosen is None else chosen.variables)]


def _optimizer(model: keras.Model) -> Any | None:
    return getattr(model, "optimizer", None)


@contextmanager
def _undistributed() -> Iterator[None]:
    """Let the variables that Keras makes while it saves be this process's own.

    It makes an optimizer to compare with, whose variables all processes of a ``keras.distribution``
    would have to make together; and one saves.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        yield
        return
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


@contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    optimizer = _optimizer(model)
    if optimizer is None:
        yield
        return
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer


def _element_bytes(dtype: str) -> int:
    digits = "".join(filter(str.isdigit, str(dtype)))
    return max(1, int(digits) // 8) if digits else 1
