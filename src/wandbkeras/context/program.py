"""What a program may change while it runs, so it is looked at first."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """Its arguments, the program's own path first; its working directory; its variables."""

    args: tuple[str, ...]
    directory: Path
    environ: Mapping[str, str]

    @classmethod
    def now(cls) -> Program:
        """Return what holds at this moment for this process."""
        try:
            directory = Path.cwd()
        except OSError:  # it was removed, or is not ours to read
            directory = Path("/")
        return cls(tuple(sys.argv), directory, dict(os.environ))

    @property
    def path(self) -> Path:
        """The program, as an absolute path."""
        return self.directory / (self.args[0] if self.args else "")
