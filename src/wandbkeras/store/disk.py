"""The one seam through which the store changes the disk.

Every durable step (a write, a sync, a rename, a directory made, a file removed) is one method,
so that a test can record the steps, fail one of them, or kill the process at it.

What this does not promise: a file system that acknowledges a sync and loses it anyway loses it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Of linux/fs.h; no other system has it, where it is no request that a file answers to.
_FICLONE = 0x40049409


class Disk:
    """The real disk."""

    def create(self, path: Path) -> int:
        """Make a new file for appending, return its descriptor; FileExistsError if it is there."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        return beside_standard(os.open(path, flags, 0o644))

    # Append what fits and return the number of bytes taken. Every row passes here, and a function
    # around it would be one more to be fetched into the processor's caches.
    write: Callable[[int, bytes | memoryview], int] = staticmethod(os.write)

    def cut(self, fd: int, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Return when the file's bytes survive a power cut."""
        # macOS has no fdatasync.
        getattr(os, "fdatasync", os.fsync)(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def sync_directory(self, path: Path) -> None:
        """Return when the directory's entries survive a power cut."""
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_directory(self, path: Path) -> None:
        """Make one directory; FileExistsError if it is there."""
        path.mkdir()

    def replace(self, source: Path, target: Path) -> None:
        """Rename atomically over whatever ``target`` was."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink()

    def link(self, source: Path, target: Path) -> None:
        """Give the file ``source`` a second name; FileExistsError if ``target`` is there."""
        os.link(source, target)

    def adopt(self, source: Path, target: Path) -> None:
        """Rename a file that was not written here: from now on it is one of the run's."""
        source.replace(target)

    def clone(self, source: int, fd: int) -> None:
        """Let the empty file ``fd`` share the bytes of ``source`` until one of them is written.

        Both are descriptors. OSError where the file system has no such copies.
        """
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        # Linux clones into no file that is open for appending.
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_APPEND)
        try:
            fcntl.ioctl(fd, _FICLONE, source)
        finally:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags)

    def protect(self, fd: int) -> None:
        """Take everybody's right to write from the file, where the file system knows such."""
        with suppress(OSError):
            os.fchmod(fd, os.fstat(fd).st_mode & 0o444)

    def free(self, directory: Path) -> int:
        """Return how many bytes the directory's file system still takes; quotas may be tighter."""
        system = os.statvfs(directory)
        return system.f_bavail * system.f_frsize

    def hold(self, directory: Path, size: int) -> int:
        """Take ``size`` bytes of room under no name, until :meth:`release` or the process's end."""
        path = directory / f".{secrets.token_hex(8)}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        fd = beside_standard(os.open(path, flags, 0o600))
        try:
            path.unlink()
            # Not zeros: a file system that compresses would hold no room for them.
            left = memoryview(os.urandom(size))
            while left:
                left = left[os.write(fd, left) :]
        except OSError:
            os.close(fd)
            raise
        return fd

    def release(self, fd: int) -> None:
        """Give back what :meth:`hold` took, though a forked process may have it open too."""
        try:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)


def beside_standard(fd: int) -> int:
    """Return the descriptor ``fd``, moved to another number if it has that of a standard stream.

    A program may run without those. What is opened next gets their numbers, and whatever a child or
    native code prints would go into it.
    """
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def write_all(disk: Disk, fd: int, data: bytes) -> None:
    """Append all of ``data``; OSError when the disk takes no more."""
    view = memoryview(data)
    while view:
        view = view[disk.write(fd, view) :]


def write_file(disk: Disk, path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``: after a crash there is the old file or the new one, never half."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    fd = disk.create(temporary)
    try:
        try:
            write_all(disk, fd, data)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.replace(temporary, path)
    except OSError:
        disk.remove(temporary)
        raise
    disk.sync_directory(path.parent)


def make_directories(disk: Disk, path: Path, *, within: Path | None = None) -> None:
    """Make ``path`` and what is missing above it, each one durable.

    Those ``within`` a directory are made durable even if they are there already: who made them
    may not have got as far.
    """
    if path == within or (within is None and path.is_dir()):
        return
    make_directories(disk, path.parent, within=within)
    with suppress(FileExistsError):
        disk.make_directory(path)
    disk.sync_directory(path.parent)
