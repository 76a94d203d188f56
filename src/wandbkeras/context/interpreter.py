"""The interpreter of this program, for the processes that are started beside it."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def interpreter() -> str:
    """Return its path; OSError where this is a program of another kind, to start again."""
    path = sys.executable or ""
    if getattr(sys, "frozen", False) or not re.search("python|pypy", Path(path).name.lower()):
        raise OSError(f"{path!r} is no Python interpreter that could be started beside it")
    return path
