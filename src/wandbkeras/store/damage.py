"""Damage: a place in a run that is not what was written, told in one way by all that find some."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Damage:
    """Bytes of a file that are not what was written.

    ``rows`` are the rows (of the stream) that are lost with them, None if that can't be told.
    """

    path: Path
    offset: int
    size: int
    reason: str
    rows: int | None = None

    @property
    def what(self) -> str:
        """Where in its file it is, and what it is."""
        return f"{self.size} bytes at offset {self.offset}: {self.reason}"

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"
