"""What is recorded of a model once, as soon as it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandbkeras.callbacks.part import Part, never_raises


class WhenBuilt(Part):
    """A part that calls :meth:`record` once in each ``fit``.

    Keras builds a model before the training begins where it can, else in its first epoch. No hook
    of batches is needed for that, and none of Keras's displays.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_done = False

    def record(self) -> None:
        """Record what there is of the model, which is built now."""
        raise NotImplementedError

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._is_done = False
        self._record_if_built()

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._record_if_built()

    def _record_if_built(self) -> None:
        if not self._is_done and self.model.built:
            self._is_done = True  # also if it fails: it would fail the same way each epoch
            self.record()
