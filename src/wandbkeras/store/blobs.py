"""File contents by their SHA-256: written once, durable before anything names them."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wandbkeras.errors import DamagedError, UsageError
from wandbkeras.store.disk import Disk, make_directories, write_all
from wandbkeras.store.layout import Layout
from wandbkeras.store.schema import ArtifactFile
from wandbkeras.store.siblings import SHARED_BYTES, link_sibling

_CHUNK = 1 << 20


def add_blob(disk: Disk, layout: Layout, source: Path) -> ArtifactFile:
    """Copy the file ``source`` into the run, hashing while copying; return what names it.

    A copy (one that shares its bytes where the file system can), never a link: the owner of
    ``source`` may write on. UsageError if it can't be read, OSError if the run's disk does not take
    it (then nothing of it stays).
    """
    make_directories(disk, layout.blobs)
    temporary = layout.blobs / f".{secrets.token_hex(8)}.tmp"
    fd = disk.create(temporary)
    with _gone_if_failed(disk, temporary):
        try:
            content = _fill(disk, fd, source, temporary)
            _place(disk, layout, temporary, fd, content)
        finally:
            disk.close(fd)
    return content


def adopt_blob(disk: Disk, layout: Layout, source: Path) -> ArtifactFile:
    """Move the file ``source`` into the run: it is given away, and gone if this fails."""
    make_directories(disk, layout.blobs)
    temporary = layout.blobs / f".{secrets.token_hex(8)}.tmp"
    try:
        disk.adopt(source, temporary)
    except OSError:  # on another file system, perhaps
        content = add_blob(disk, layout, source)
        source.unlink()
        return content
    with _gone_if_failed(disk, temporary):
        fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = _content(_chunks(temporary))
            _place(disk, layout, temporary, fd, content)
        finally:
            disk.close(fd)
    return content


def remove_blob(disk: Disk, layout: Layout, sha256: str) -> None:
    """Remove a blob that nothing in the run names any more; other runs keep theirs."""
    with suppress(FileNotFoundError):
        disk.remove(_place_of(layout, sha256))


def _place_of(layout: Layout, sha256: str) -> Path:
    """Return where a blob lies; DamagedError if a stranger made that lie outside of the run."""
    path = layout.blob(sha256)
    if layout.has_link(path.parent):
        raise DamagedError(f"{path.parent}: a link: the blobs of a run lie in it")
    return path


@contextmanager
def _gone_if_failed(disk: Disk, path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            disk.remove(path)
        raise


def _fill(disk: Disk, fd: int, source: Path, path: Path) -> ArtifactFile:
    """Bring the bytes of ``source`` into the empty file at ``path``, open as ``fd``."""
    if _is_cloned(disk, fd, source):
        # Not hashed in the source: that may be written meanwhile.
        return _content(_chunks(path))

    def copied() -> Iterator[bytes]:
        for chunk in _chunks(source):
            write_all(disk, fd, chunk)
            yield chunk

    return _content(copied())


def _is_cloned(disk: Disk, fd: int, source: Path) -> bool:
    try:
        with source.open("rb") as file:
            disk.clone(file.fileno(), fd)
    except OSError:
        return False  # what is wrong, if anything is, copying will say
    return True


def _place(disk: Disk, layout: Layout, path: Path, fd: int, content: ArtifactFile) -> None:
    """Make the file at ``path``, open as ``fd``, the blob; it goes if the blob is there already."""
    target = _place_of(layout, content.sha256)
    make_directories(disk, target.parent, within=layout.root)
    if not target.is_symlink() and target.is_file() and target.stat().st_size == content.size:
        is_there = True
    else:
        shared = content.size >= SHARED_BYTES
        is_there = shared and link_sibling(disk, layout, content.sha256, path)
    if is_there:
        disk.remove(path)
    else:
        disk.protect(fd)
        disk.sync(fd)
        disk.replace(path, target)
    # Also of one that was there: who wrote it may have been killed before.
    disk.sync_directory(target.parent)


def _content(chunks: Iterable[bytes]) -> ArtifactFile:
    # W&B's manifests name a file by its MD5, so both are made in the one pass.
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    for chunk in chunks:
        sha256.update(chunk)
        md5.update(chunk)
        size += len(chunk)
    return ArtifactFile(sha256=sha256.hexdigest(), md5=md5.hexdigest(), size=size)


def _chunks(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise UsageError(f"{source}: can't be read ({error})") from error
