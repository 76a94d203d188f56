"""The room that a run has on its disk: what it may take at most, and what is kept for its end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout

# Below this, a run has not even room for what every run holds.
MIN_CAP_BYTES = 64 << 10
# Under a cap, the reserve: an eighth of the cap at most. Half of it is for sealing, a quarter for
# beginning, the last quarter for the end. No segment is larger.
_RESERVE_BYTES = 16 << 20
# Taken from the disk for as long as the run goes on: what is missing and how it ended can be
# recorded though the disk is full, and the parts of a small run often fit too.
_HELD_BYTES = 64 << 10


class CapReachedError(OSError):
    """The run has as many bytes as it may have."""


class Room:
    """The disks that a run at ``root`` writes to, with at most ``max_bytes`` in all its files.

    ``disk`` is for its records and artifacts, ``sealing`` for its parts. Under a cap there is a
    reserve that rows and artifacts may not use: the parts need room beside the segment that they
    replace; a run at its cap is resumed all the same, and counts; and it can say how it ended.
    """

    def __init__(
        self, disk: Disk, root: Path, *, segment_bytes: int, max_bytes: int | None = None
    ) -> None:
        self._root = root
        self.disk = self.sealing = disk
        self.segment_bytes = segment_bytes
        self._records: CappedDisk | None = None
        self._reserve = 0
        self._held: int | None = None
        if max_bytes is not None:
            cap = Cap(max_bytes, root)
            self._reserve = min(max_bytes // 8, _RESERVE_BYTES)
            self.segment_bytes = min(segment_bytes, self._reserve)
            self._records = CappedDisk(disk, cap, keep=self._reserve // 4)
            self.disk, self.sealing = self._records, CappedDisk(disk, cap, keep=self._reserve // 2)

    def hold(self, directory: Path) -> None:
        """Take room from the disk for the end; a disk that has not got it is soon in trouble."""
        with suppress(OSError):
            self._held = self.disk.hold(directory, _HELD_BYTES)

    def begun(self) -> None:
        """Keep the whole reserve from now on."""
        if self._records is not None:
            self._records.keep = self._reserve

    def release(self) -> None:
        """Let the end of the run have what was kept for it."""
        if self._records is not None:
            self._records.keep = 0
        if self._held is not None:
            held, self._held = self._held, None
            with suppress(OSError):
                self.disk.release(held)

    def set_aside(self, size: int, least: int) -> int:
        """Count ``size`` bytes, a quarter of what the cap leaves at most; return how many.

        None are, if that would be less than ``least``.
        """
        if self._records is None:
            return size
        size = min(size, self._records.free(self._root) // 4)
        if size < least:
            return 0
        self._records.cap.take(size, self._records.keep)
        return size

    def check(self, size: int) -> None:
        """Return if the cap leaves ``size`` bytes for records and artifacts; else its error."""
        if self._records is not None:
            self._records.check(size)


class Cap:
    """The ``max_bytes`` of the run at ``root``, and how many of them are used.

    What counts are the sizes of its files at any moment, those being written included.
    """

    def __init__(self, max_bytes: int, root: Path) -> None:
        self.max_bytes = max_bytes
        self.used = Layout(root).size()
        self.lock = threading.Lock()

    def take(self, size: int, keep: int) -> None:
        """Count ``size`` bytes more; CapReachedError, unless ``keep`` bytes stay."""
        with self.lock:
            room = max(0, self.max_bytes - keep - self.used)
            if size > room:
                raise CapReachedError(
                    f"{size} bytes more, and max_bytes={self.max_bytes} leaves {room}"
                )
            self.used += size

    def give_back(self, size: int) -> None:
        """Count ``size`` bytes less."""
        with self.lock:
            self.used -= size


class CappedDisk(Disk):
    """Writes to ``disk`` as much as ``cap`` allows, and leaves ``keep`` bytes of that.

    What it removes must be the run's.
    """

    def __init__(self, disk: Disk, cap: Cap, keep: int) -> None:
        self.disk = disk
        self.cap = cap
        self.keep = keep

    def check(self, size: int) -> None:
        """Return if ``size`` bytes would be taken; else CapReachedError."""
        self.cap.take(size, self.keep)
        self.cap.give_back(size)

    def create(self, path: Path) -> int:
        return self.disk.create(path)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.cap.take(len(data), self.keep)
        taken = 0
        try:
            taken = self.disk.write(fd, data)
        finally:
            if taken != len(data):
                self.cap.give_back(len(data) - taken)
        return taken

    def cut(self, fd: int, size: int) -> None:
        before = os.fstat(fd).st_size
        self.disk.cut(fd, size)
        self.cap.give_back(before - size)

    def sync(self, fd: int) -> None:
        self.disk.sync(fd)

    def close(self, fd: int) -> None:
        self.disk.close(fd)

    def sync_directory(self, path: Path) -> None:
        self.disk.sync_directory(path)

    def make_directory(self, path: Path) -> None:
        self.disk.make_directory(path)

    def replace(self, source: Path, target: Path) -> None:
        before = target.stat().st_size if target.exists() else 0
        self.disk.replace(source, target)
        self.cap.give_back(before)

    def remove(self, path: Path) -> None:
        before = path.stat().st_size
        self.disk.remove(path)
        self.cap.give_back(before)

    def link(self, source: Path, target: Path) -> None:
        with self._taken(source.stat().st_size):
            self.disk.link(source, target)

    def adopt(self, source: Path, target: Path) -> None:
        with self._taken(source.stat().st_size):
            self.disk.adopt(source, target)

    def clone(self, source: int, fd: int) -> None:
        with self._taken(os.fstat(source).st_size):
            self.disk.clone(source, fd)

    def protect(self, fd: int) -> None:
        self.disk.protect(fd)

    @contextmanager
    def _taken(self, size: int) -> Iterator[None]:
        """Count ``size`` bytes more, unless what is done fails."""
        self.cap.take(size, self.keep)
        try:
            yield
        except BaseException:
            self.cap.give_back(size)
            raise

    def free(self, directory: Path) -> int:
        with self.cap.lock:
            room = self.cap.max_bytes - self.keep - self.cap.used
        return max(0, min(room, self.disk.free(directory)))

    def hold(self, directory: Path, size: int) -> int:
        return self.disk.hold(directory, size)

    def release(self, fd: int) -> None:
        self.disk.release(fd)
