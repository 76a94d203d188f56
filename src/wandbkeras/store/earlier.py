"""A run as it was before one of its attempts began."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from wandbkeras.store.attempts import AttemptView
from wandbkeras.store.reader import StoredRun


class EarlierRun(StoredRun):
    """The run at ``path`` without attempt ``number`` and those after it."""

    def __init__(self, path: Path | str, number: int, *, strict: bool = False) -> None:
        super().__init__(path, strict=strict)
        self._number = number

    @cached_property
    def attempts(self) -> list[AttemptView]:
        return [view for view in super().attempts if view.number < self._number]
