"""Owning a new attempt: by making its directory, so that two processes never share one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.layout import Layout


class Claim:
    """What a writer of the run at ``layout`` began; nothing, where it joins another's attempt."""

    def __init__(self, disk: Disk, layout: Layout) -> None:
        self._disk = disk
        self._layout = layout
        self._owned: Path | None = None

    def take(self, number: int | None) -> int:
        """Own the attempt of this number, and return it; None: the next free one.

        FileExistsError if another process has it.
        """
        attempts = self._layout.attempts
        make_directories(self._disk, attempts, within=self._layout.root)
        if number is not None:
            self._make(number)
            return number
        while True:
            number = max(self._layout.attempt_numbers(), default=-1) + 1
            with contextlib.suppress(FileExistsError):
                self._make(number)
                return number

    def give_up(self) -> None:
        """Remove the directories that were begun; the run too, if nothing else has begun."""
        layout = self._layout
        with contextlib.suppress(OSError):
            for directory in (self._owned, layout.attempts):
                if directory is not None and directory.is_dir():
                    directory.rmdir()
            if [path.name for path in layout.root.iterdir()] == [layout.info.name]:
                layout.info.unlink()
            layout.root.rmdir()

    def _make(self, number: int) -> None:
        directory = self._layout.attempt(number)
        self._disk.make_directory(directory)
        self._owned = directory
        self._disk.sync_directory(self._layout.attempts)
