"""Saving a model in another thread, while it trains on: a copy of it, and the thread's only job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from wandbkeras.callbacks.randomness import untouched_randomness
from wandbkeras.callbacks.saving import state_of, write_model
from wandbkeras.errors import WandbkerasError

Snapshot = Sequence["np.ndarray[Any, Any]"]


class NotClonedError(WandbkerasError):
    """The model can't be copied: its class doesn't say how it is made."""


class Clone:
    """A copy of a model on the host, to be saved by another thread.

    The model itself must not be touched there: a backend may be changing it.
    """

    def __init__(self, model: keras.Model, *, optimizer: bool) -> None:
        self._optimizer = optimizer
        # What `from_config` of a user's class may raise.
        errors = (TypeError, ValueError, AttributeError, LookupError, RuntimeError)
        try:
            # Keras draws the seeds of a new layer from Python's own generator.
            with untouched_randomness(), keras.device("cpu"):
                self._model = keras.models.clone_model(model)
                if optimizer and getattr(model, "optimizer", None) is not None:
                    self._model.compile_from_config(model.get_compile_config())
                    self._model.optimizer.build(self._model.trainable_variables)
        except errors as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
            raise NotClonedError(reason) from error
        if self._shapes(self._model) != self._shapes(model):
            raise NotClonedError("a model of its config has other variables")

    def snapshot(self, model: keras.Model) -> Snapshot:
        """Return a copy of the values of ``model``: all that training waits for."""
        return [variable.numpy() for variable in state_of(model, optimizer=self._optimizer)]

    def write(self, snapshot: Snapshot, path: Path, *, weights_only: bool) -> None:
        """Write the model as it was at the snapshot."""
        variables = state_of(self._model, optimizer=self._optimizer)
        with keras.device("cpu"):
            for variable, value in zip(variables, snapshot, strict=True):
                variable.assign(value)
            write_model(self._model, path, weights_only=weights_only, optimizer=self._optimizer)

    def _shapes(self, model: keras.Model) -> list[tuple[int, ...]]:
        return [tuple(variable.shape) for variable in state_of(model, optimizer=self._optimizer)]


class NewestWins:
    """One thread that does the newest job; one that has not begun gives way to a newer one."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="wandbkeras-saving")
        self._lock = threading.Lock()
        self._job: Callable[[], None] | None = None
        self._turns: list[Future[None]] = []

    def submit(self, job: Callable[[], None]) -> None:
        """Do ``job`` as soon as the thread is free; raise what an earlier one has raised."""
        while self._turns and self._turns[0].done():
            self._turns.pop(0).result()
        with self._lock:
            self._job = job
        self._turns.append(self._executor.submit(self._do_newest))

    def wait(self) -> None:
        """Return when all is done; raise what a job has raised."""
        while self._turns:
            self._turns.pop(0).result()

    def _do_newest(self) -> None:
        with self._lock:
            job, self._job = self._job, None
        if job is not None:
            job()
