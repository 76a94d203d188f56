"""The order of batches, where Keras tells of their ends in many threads at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any


class BatchOrder:
    """Hands on the ends of executions in the order in which these began.

    On JAX and Torch Keras doesn't wait for the device if all callbacks of batches are
    ``async_safe``: ``on_train_batch_begin`` comes in the training's thread, ``on_train_batch_end``
    in any, in any order. An execution is one batch, or several (``steps_per_execution``).

    >>> order = BatchOrder()
    >>> order.begin(0); order.begin(1)
    >>> list(order.end(1, "logs of 1"))
    []
    >>> list(order.end(0, "logs of 0"))
    [(0, 'logs of 0'), (1, 'logs of 1')]
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: deque[int] = deque()
        self._ended: dict[int, Any] = {}

    def __reduce__(self) -> tuple[type[BatchOrder], tuple[()]]:
        return BatchOrder, ()  # a lock can't be copied; a copied callback begins anew

    def clear(self) -> None:
        """Forget an execution that was interrupted: an epoch begins, or ends."""
        self._begun.clear()
        self._ended.clear()

    def begin(self, batch: int) -> None:
        """Note that an execution begins with this batch."""
        self._begun.append(batch)

    def end(self, batch: int, logs: Any) -> Iterator[tuple[int, Any]]:
        """Yield this end, the last batch of an execution, and others that have waited for it.

        Nothing while an earlier one is missing. No other thread gets any until all are taken.
        """
        with self._lock:
            begun, ended = self._begun, self._ended
            ended[batch] = logs
            while ended:
                first = min(ended)
                # Later than the first one begun that has not ended: that one is missing.
                if len(begun) > 1 and first >= begun[1]:
                    return
                if begun:
                    begun.popleft()
                yield first, ended.pop(first)
