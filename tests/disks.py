"""Disks that fail on purpose, at the seam through which the store changes the real one.

And what a power cut leaves of what was done through it.
"""

from __future__ import annotations

import errno
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, Literal

from wandbkeras.store.disk import Disk


class FullDisk(Disk):
    """Takes ``room`` bytes more, the last write in part; None is as much as there is.

    ``why`` is what it says then: that it is full, or that the user's quota is used up.
    """

    def __init__(self, room: int | None = None, why: int = errno.ENOSPC) -> None:
        self.room = room
        self.why = why

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if self.room is None:
            return super().write(fd, data)
        if self.room == 0:
            raise OSError(self.why, os.strerror(self.why))
        taken = super().write(fd, memoryview(data)[: self.room])
        self.room -= taken
        return taken

    def clone(self, source: int, fd: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


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

    def link(self, source: Path, target: Path) -> None:
        self.step("link", super().link, source, target)

    def adopt(self, source: Path, target: Path) -> None:
        self.step("adopt", super().adopt, source, target)

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
    and not done: what a killed process wrote is there without them. ``done`` are the names of the
    steps, and ``again`` says of each whether it writes on in a file that has a temporary name.
    """

    def __init__(self, kill_at: float = math.inf, moment: Moment = "before") -> None:
        super().__init__()
        self.kill_at = kill_at
        self.moment = moment
        self.done: list[str] = []
        self.again: list[bool] = []

    def step(self, name: str, do: Callable[..., Any], *arguments: Any) -> Any:
        now = len(self.done) == self.kill_at
        self.done.append(name)
        self.again.append(name == "write" and _is_begun_and_temporary(arguments[0]))
        if now and self.moment == "within" and name == "write":
            fd, data = arguments
            do(fd, memoryview(data)[: len(data) // 2])
        if now and self.moment != "after":
            os.kill(os.getpid(), signal.SIGKILL)
        result = None if name in ("sync", "sync_directory") else do(*arguments)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def _is_begun_and_temporary(fd: int) -> bool:
    path = Path(f"/proc/self/fd/{fd}").readlink()
    return path.suffix == ".tmp" and os.fstat(fd).st_size > 0


@dataclass(frozen=True)
class Step:
    """A change of the disk that was done. Paths are relative; ``file`` numbers the files made.

    A step ``mark`` changes nothing: its ``mark`` is what the disk's user knew at that moment.
    """

    name: str
    path: Path = Path()
    target: Path = Path()
    file: int = -1
    data: bytes = b""
    size: int = 0
    mark: Any = None


class RecordingDisk(SteppedDisk):
    """Notes every step that succeeded below ``root``, with its data. Syncs are noted, not done."""

    def __init__(self, root: Path, first_file: int = 1) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._root = root
        self._numbers: dict[int, int] = {}  # of inodes
        self._next_file = first_file
        self._lock = Lock()

    def mark(self, mark: Any) -> None:
        with self._lock:
            self.steps.append(Step("mark", mark=mark))

    def step(self, name: str, do: Callable[..., Any], *arguments: Any) -> Any:
        with self._lock:
            result = None if name in ("sync", "sync_directory") else do(*arguments)
            self.steps.append(self._note(name, result, *arguments))
            return result

    def _note(self, name: str, result: Any, what: Any, *more: Any) -> Step:
        if name == "create":
            return Step(name, self._relative(what), file=self._number(os.fstat(result).st_ino))
        if name == "adopt":
            file = self._number(more[0].stat().st_ino)
            return Step(name, self._relative(more[0]), file=file, data=more[0].read_bytes())
        if name in ("write", "cut", "sync"):
            file = self._numbers[os.fstat(what).st_ino]
            if name == "write":
                return Step(name, file=file, data=bytes(more[0][:result]))
            return Step(name, file=file, size=more[0] if more else 0)
        return Step(name, *map(self._relative, (what, *more)))

    def _number(self, inode: int) -> int:
        """Return the number of a file that is new in the directory."""
        self._numbers[inode] = self._next_file
        self._next_file += 1
        return self._numbers[inode]

    def _relative(self, path: Path) -> Path:
        return path.relative_to(self._root)


Kept = Literal["synced", "all", "any"]
_BLOCK = 512


@dataclass
class _File:
    synced: bytes = b""
    content: bytes = b""

    def after(self, keep: Kept, random: Random) -> bytes:
        """Return what a power cut leaves of the bytes."""
        if keep != "any" or self.content == self.synced:
            return self.content if keep == "all" else self.synced
        size = len(self.synced)
        if not self.content.startswith(self.synced):  # it was cut
            return random.choice((self.content, self.synced))
        end = random.randint(size, len(self.content))
        match random.choice(("none", "all", "beginning", "zeros", "holes")):
            case "none":
                return self.synced
            case "all":
                return self.content
            case "beginning":
                return self.content[:end]
            case "zeros":
                return self.synced + bytes(end - size)
            case _:
                return self.synced + self._with_holes(random)[size:]

    def _with_holes(self, random: Random) -> bytes:
        blocks = (self.content[at : at + _BLOCK] for at in range(0, len(self.content), _BLOCK))
        return b"".join(random.choice((block, bytes(len(block)))) for block in blocks)


# The states of one name, oldest first: when it changed, and to what (None: nothing). Files have
# positive numbers, directories negative ones, the outermost 0.
_Entry = list[tuple[int, int | None]]
_NOTHING = 1 << 62


class Volume:
    """What a disk holds after recorded steps: what is durable, and what a power cut may take.

    Durable are the bytes of a file at its last sync, and the names in a directory at its last sync;
    neither makes the other durable. A power cut keeps of later bytes all, none, a beginning, zeros
    in their place or some blocks, and of later names any combination; but when it keeps that a
    renamed file has left its old name, it keeps that it has its new one.
    """

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._directories: dict[int, dict[str, _Entry]] = {0: {}}
        self._renames: list[tuple[tuple[int, str], tuple[int, str], int]] = []
        self._now = 0

    def do(self, step: Step) -> None:
        self._now += 1
        if step.name == "create":
            self._files[step.file] = _File()
            self._set(self._place(step.path), step.file)
        elif step.name == "adopt":
            self._files[step.file] = _File(content=step.data)
            self._set(self._place(step.path), step.file)
        elif step.name == "link":
            self._set(self._place(step.target), self._find(step.path))
        elif step.name == "write":
            self._files[step.file].content += step.data
        elif step.name == "cut":
            file = self._files[step.file]
            file.content = file.content[: step.size]
        elif step.name == "sync":
            file = self._files[step.file]
            file.synced = file.content
        elif step.name == "make_directory":
            self._directories[-self._now] = {}
            self._set(self._place(step.path), -self._now)
        elif step.name == "remove":
            self._set(self._place(step.path), None)
        elif step.name == "replace":
            source, target = self._place(step.path), self._place(step.target)
            self._set(target, self._find(step.path))
            self._set(source, None)
            self._renames.append((source, target, self._now))
        elif step.name == "sync_directory":
            for entry in self._directories[self._find(step.path)].values():
                del entry[:-1]

    def after(self, names: Kept, data: Kept, random: Random) -> dict[Path, bytes | None]:
        """Return the files that a power cut leaves, and the directories (None)."""
        kept = {
            (directory, name): self._keep(entry, names, random)
            for directory, entries in self._directories.items()
            for name, entry in entries.items()
        }
        for source, target, when in reversed(self._renames):
            if kept[source][0] >= when > kept[target][0]:
                moved = (state for state in self._entry(target) if state[0] == when)
                kept[target] = next(moved, kept[target])
        found: dict[Path, bytes | None] = {}

        def visit(directory: int, path: Path) -> None:
            for name in self._directories[directory]:
                _, node = kept[directory, name]
                if node in self._files:
                    found[path / name] = self._files[node].after(data, random)
                elif node is not None:
                    found[path / name] = None
                    visit(node, path / name)

        visit(0, Path())
        return found

    def synced_size(self, path: Path) -> int:
        """Return how many bytes of the file are durable; 0 if there is none."""
        node = self._find(path)
        return len(self._files[node].synced) if node in self._files else 0

    def _keep(self, entry: _Entry, names: Kept, random: Random) -> tuple[int, int | None]:
        if names == "any":
            return random.choice(entry)
        return entry[-1] if names == "all" else entry[0]

    def _find(self, path: Path) -> int:
        """Return the file or directory that has the name now; a number that none has if none."""
        node: int | None = 0
        for name in path.parts:
            entries = self._directories.get(node, {})
            node = entries[name][-1][1] if name in entries else None
            if node is None:
                return _NOTHING
        return node

    def _place(self, path: Path) -> tuple[int, str]:
        return self._find(path.parent), path.name

    def _entry(self, place: tuple[int, str]) -> _Entry:
        directory, name = place
        return self._directories[directory].setdefault(name, [(0, None)])

    def _set(self, place: tuple[int, str], node: int | None) -> None:
        self._entry(place).append((self._now, node))
