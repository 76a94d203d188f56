"""Opening what lies in a run directory: plain files, within the run, no larger than they may be.

A run directory may come from a stranger, and every file of it that is read is opened here. No link
is followed below the directory, nothing but plain files is opened, nothing is read beyond a limit.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from wandbkeras.errors import DamagedError

# Of a directory; documented in docs/format.md, "Limits".
MAX_ENTRIES = 100_000

REFUSED = "a link, or no plain file or directory: a run's files lie in the run, nothing was opened"


def open_file(path: Path, root: Path | None = None) -> BinaryIO:
    """Open a file of the run at ``root`` (default: the file's directory) for reading.

    DamagedError unless it is a plain file, in plain directories below ``root``: a link leads out of
    the run, a pipe never ends. FileNotFoundError if it isn't there.
    """
    return os.fdopen(_open(path, root), "rb")


def read_file(path: Path, limit: int, root: Path | None = None) -> bytes:
    """Return the bytes of a file as :func:`open_file` opens it; DamagedError beyond ``limit``."""
    fd = _open(path, root)  # most files are small, and a file object costs as much as reading them
    try:
        left, pieces = check_size(fd, path, limit), []
        while left and (piece := os.read(fd, left)):
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(fd)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check_size(fd: int, path: Path, limit: int | None) -> int:
    """Return the bytes that an open file has; DamagedError, naming ``path``, beyond ``limit``."""
    size = os.fstat(fd).st_size
    if limit is not None and size > limit:
        raise DamagedError(f"{path}: {size} bytes, a file of this kind has {limit} at most")
    return size


def _open(path: Path, root: Path | None) -> int:
    """Open a file as :func:`open_file` does; return its descriptor."""
    try:
        directory = _open_directory(path.parent, root or path.parent)
        try:
            return _open_plain(directory, path)
        finally:
            os.close(directory)
    except OSError as error:
        error.filename = str(path)
        raise


def _open_directory(path: Path, root: Path) -> int:
    """Open the directory ``path`` at or below ``root``, following no link below ``root``."""
    parts, outside = path.parts, root.parts
    depth = len(outside)
    if parts[:depth] != outside:
        raise ValueError(f"{path} is not in {root}")
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    fd = os.open(root, flags)
    for name in parts[depth:]:
        outer = fd
        try:
            fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=outer)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise DamagedError(f"{path}: {REFUSED}") from error
            raise
        finally:
            os.close(outer)
    return fd


def _open_plain(directory: int, path: Path) -> int:
    """Open a plain file for reading; asked before, too: opening a device may do things."""
    if not stat.S_ISREG(os.stat(path.name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise DamagedError(f"{path}: {REFUSED}")
    # Whoever swaps it in between gets an error, too, and no reader that waits for a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path.name, flags, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DamagedError(f"{path}: {REFUSED}")
    return fd


def entries_of(directory: Path, root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what a directory of the run holds, MAX_ENTRIES at most."""
    fd = _open_directory(directory, root)
    try:
        with os.scandir(fd) as entries:
            for number, entry in enumerate(entries):
                if number == MAX_ENTRIES:
                    raise DamagedError(f"{directory}: more than {MAX_ENTRIES} entries: not a run")
                yield entry
    finally:
        os.close(fd)


def files_below(directory: Path, depth: int = 4) -> Iterator[os.DirEntry[str]]:
    """Yield what isn't a directory, ``depth`` directories down: nothing of a run lies deeper."""
    waiting = [(os.fspath(directory), depth)]
    while waiting:
        place, below = waiting.pop()
        with suppress(FileNotFoundError), os.scandir(place) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    yield entry
                elif below:
                    waiting.append((entry.path, below - 1))


def plain_size(file: os.DirEntry[str]) -> int:
    try:
        return file.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # of a running run, replaced since it was listed
        return 0
