"""A callback that Keras 3 and ``tf_keras``, which is Keras 2, both take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras

_TRAIN_BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)


class AnyKerasCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Answers what ``tf_keras`` asks of a callback and Keras 3 no longer does.

    Which batch hooks there are: with none, ``tf_keras`` calls none. And whether the logs may be
    tensors: they are numbers, as Keras 3 passes them.
    """

    _supports_tf_logs = False

    def hook_batches(self, name: str, hook: Callable[..., None]) -> None:
        """Have ``hook`` called as the batch hook ``name``, before what a subclass has there.

        On the instance: a class that overrides a batch hook makes Keras wait for the device on
        every batch (JAX, Torch), also when nothing is logged.
        """
        both = partial(_hook_then_own, self, hook, name)
        setattr(self, name, both if self.has_own(name) else hook)

    def has_own(self, name: str) -> bool:
        """Whether a subclass has a batch hook ``name``, or its older name without ``train``."""
        return any(
            getattr(type(self), each) is not getattr(keras.callbacks.Callback, each)
            for each in (name, name.replace("train_", ""))
        )

    def _implements_train_batch_hooks(self) -> bool:
        return any(map(self._implements, _TRAIN_BATCH_HOOKS))

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False

    def _implements(self, hook: str) -> bool:
        # Batch hooks are often bound to an instance, so that others have none.
        of_keras = getattr(keras.callbacks.Callback, hook)
        return hook in vars(self) or getattr(type(self), hook) is not of_keras


def _hook_then_own(
    callback: AnyKerasCallback,
    hook: Callable[..., None],
    name: str,
    batch: int,
    logs: Mapping[str, Any] | None = None,
) -> None:
    hook(batch, logs)
    getattr(type(callback), name)(callback, batch, logs)
