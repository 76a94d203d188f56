"""Where wandb may write what it writes beside: to a directory that goes when the process ends."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_environment = threading.Lock()
_users: Counter[str] = Counter()
_before: dict[str, str | None] = {}


@contextmanager
def beside(variable: str) -> Iterator[None]:
    """Let ``variable`` of the environment, one of wandb's, name that directory.

    The environment belongs to all threads: the first one in changes it, the last one out puts it
    back.
    """
    with _environment:
        if not _users[variable]:
            _before[variable] = os.environ.get(variable)
            os.environ[variable] = _scratch()
        _users[variable] += 1
    try:
        yield
    finally:
        with _environment:
            _users[variable] -= 1
            if not _users[variable]:
                before = _before.pop(variable)
                del os.environ[variable]
                if before is not None:
                    os.environ[variable] = before


@functools.cache
def _scratch() -> str:
    directory = tempfile.mkdtemp(prefix="wandbkeras-readback-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
