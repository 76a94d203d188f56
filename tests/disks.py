"""Disks that fail on purpose, at the seam through which the store changes the real one."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path

from wandbkeras.store.disk import Disk


class FullDisk(Disk):
    """Takes ``room`` bytes more, the last write in part; None is as much as there is."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if self.room is None:
            return super().write(fd, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = super().write(fd, memoryview(data)[: self.room])
        self.room -= taken
        return taken


def _fail(step: str) -> None:
    raise OSError(errno.EIO, f"interrupted at {step}")


class InterruptedDisk(Disk):
    """Does ``steps`` steps and calls ``interrupt`` instead of every later one; ``done`` counts."""

    def __init__(self, steps: float = math.inf, interrupt: Callable[[str], None] = _fail) -> None:
        self.steps = steps
        self.interrupt = interrupt
        self.done = 0

    def create(self, path: Path) -> int:
        self._step("create")
        return super().create(path)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._step("write")
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        self._step("sync")
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        self._step("sync_directory")
        super().sync_directory(path)

    def make_directory(self, path: Path) -> None:
        self._step("make_directory")
        super().make_directory(path)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        super().replace(source, target)

    def remove(self, path: Path) -> None:
        self._step("remove")
        super().remove(path)

    def _step(self, name: str) -> None:
        if self.done >= self.steps:
            self.interrupt(name)
        self.done += 1
