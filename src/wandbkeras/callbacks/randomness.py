"""The user's random generators, left as they were."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Put the global generators of Python, NumPy and Torch back when the context ends.

    Reading data may draw from them: a Torch DataLoader does each time it is iterated, a user's
    dataset may when it augments; and so does making a layer. Training must go on with the numbers
    it would have had.
    """
    torch = sys.modules.get("torch")
    python, numpy = random.getstate(), np.random.get_state()
    of_torch = torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch:
            torch.set_rng_state(of_torch)
