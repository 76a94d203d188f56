"""Disks that fail on purpose, at the seam through which the store changes the real one."""

from __future__ import annotations

import errno
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

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


class SteppedDisk(FullDisk):
    """Does every durable step through :meth:`step`."""

    def create(self, path: Path) -> int:
        made: int = self.step("create", super().create, path)
        return made

    def write(self, fd: int, data: bytes | memoryview) -> int:
        taken: int = self.step("write", super().write, fd, data)
        return taken

    def cut(self, fd: int, size: int) -> None:
        self.step("cut", super().cut, fd, size)

    def sync(self, fd: int) -> None:
        self.step("sync", super().sync, fd)

    def sync_directory(self, path: Path) -> None:
        self.step("sync_directory", super().sync_directory, path)

    def make_directory(self, path: Path) -> None:
        self.step("make_directory", super().make_directory, path)

    def replace(self, source: Path, target: Path) -> None:
        self.step("replace", super().replace, source, target)

    def remove(self, path: Path) -> None:
        self.step("remove", super().remove, path)

    def step(self, name: str, do: Callable[..., Any], *arguments: Any) -> Any:
        return do(*arguments)


def _fail(step: str) -> None:
    raise OSError(errno.EIO, f"interrupted at {step}")


class InterruptedDisk(SteppedDisk):
    """Does ``steps`` steps and calls ``interrupt`` instead of every later one; ``done`` counts."""

    def __init__(self, steps: float = math.inf, interrupt: Callable[[str], None] = _fail) -> None:
        super().__init__()
        self.steps = steps
        self.interrupt = interrupt
        self.done = 0

    def step(self, name: str, do: Callable[..., Any], *arguments: Any) -> Any:
        if self.done >= self.steps:
            self.interrupt(name)
        self.done += 1
        return do(*arguments)


Moment = Literal["before", "within", "after"]


class KillingDisk(SteppedDisk):
    """Kills its process at step number ``kill_at``: ``before`` it, ``after`` it, or ``within``.

    Within a write, half of the bytes are written; any other step has no middle. Syncs are counted
    and not done: what a killed process wrote is there without them.
    """

    def __init__(self, kill_at: float = math.inf, moment: Moment = "before") -> None:
        super().__init__()
        self.kill_at = kill_at
        self.moment = moment
        self.done: list[str] = []

    def step(self, name: str, do: Callable[..., Any], *arguments: Any) -> Any:
        now = len(self.done) == self.kill_at
        self.done.append(name)
        if now and self.moment == "within" and name == "write":
            fd, data = arguments
            do(fd, memoryview(data)[: len(data) // 2])
        if now and self.moment != "after":
            os.kill(os.getpid(), signal.SIGKILL)
        result = None if name in ("sync", "sync_directory") else do(*arguments)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


@dataclass(frozen=True)
class Step:
    """One change of the disk that was done: ``file`` numbers the files, in the order of creation.

    A step ``mark`` changes nothing: ``mark`` is what whoever used the disk knew at that moment.
    """

    name: str
    path: Path | None = None
    target: Path | None = None
    file: int = -1
    data: bytes = b""
    size: int = 0
    mark: Any = None


class RecordingDisk(SteppedDisk):
    """Notes every step that succeeded, with its data, in order. Syncs are noted and not done."""

    def __init__(self, first_file: int = 0) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._files: dict[int, int] = {}
        self._next_file = first_file
        self._lock = Lock()

    def mark(self, mark: Any) -> None:
        with self._lock:
            self.steps.append(Step("mark", mark=mark))

    def step(self, name: str, do: Callable[..., Any], *arguments: Any) -> Any:
        with self._lock:
            result = None if name in ("sync", "sync_directory") else do(*arguments)
            self.steps.append(self._note(name, arguments, result))
            return result

    def _note(self, name: str, arguments: tuple[Any, ...], result: Any) -> Step:
        first, *rest = arguments
        if name == "create":
            self._files[result] = self._next_file
            self._next_file += 1
            return Step(name, path=first, file=self._files[result])
        if name == "write":
            return Step(name, file=self._files[first], data=bytes(rest[0][:result]))
        if name == "cut":
            return Step(name, file=self._files[first], size=rest[0])
        if name == "sync":
            return Step(name, file=self._files[first])
        return Step(name, path=first, target=rest[0] if rest else None)
