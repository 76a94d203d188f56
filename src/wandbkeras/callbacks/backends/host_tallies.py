"""What the steps of JAX and Torch count, added up on the host."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

from wandbkeras.binning import Numbers
from wandbkeras.callbacks.bit_counts import BitCounts


class HostTallies:
    """The counts of each variable's gradients since they were last taken; any thread may add."""

    def __init__(self) -> None:
        self.updates = 0
        self._lock = threading.Lock()
        self._found: dict[int, tuple[Any, BitCounts]] = {}

    def add(self, variables: Sequence[Any], counts: Numbers, moments: Numbers) -> None:
        """Add an update: a row of buckets and one of moments for each variable."""
        with self._lock:
            self.updates += 1
            for variable, row, found in zip(variables, counts, moments, strict=True):
                _, tally = self._found.setdefault(id(variable), (variable, BitCounts()))
                tally.add(row, found)

    def take(self) -> Iterable[tuple[Any, BitCounts]]:
        """Return the counts by variable, and begin anew."""
        with self._lock:
            found, self._found, self.updates = self._found, {}, 0
        return found.values()
