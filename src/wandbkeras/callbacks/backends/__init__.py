"""What the gradients need of each backend; only the module of the one in use is imported.

Each has the same two names: ``gradient_step`` and ``UpdateCounter``.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import keras

from wandbkeras.errors import WandbkerasError

NAMES = ("tensorflow", "jax", "torch")


def backend_module() -> ModuleType:
    """Return the module for Keras's backend."""
    name = keras.backend.backend()
    if name not in NAMES:
        raise WandbkerasError(f"no gradients on the backend {name}; expected {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")
