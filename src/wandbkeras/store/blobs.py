"""File contents by their SHA-256: written once, durable before anything names them."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from wandbkeras.store.disk import Disk, make_directories, write_all
from wandbkeras.store.layout import Layout
from wandbkeras.store.schema import ArtifactFile

_CHUNK = 1 << 20


def add_blob(disk: Disk, layout: Layout, source: Path) -> ArtifactFile:
    """Copy the file ``source`` into the run, hashing while copying; return what names it.

    A copy, never a link: the owner of ``source`` may write on.
    """
    make_directories(disk, layout.blobs)
    temporary = layout.blobs / f".{secrets.token_hex(8)}.tmp"
    # W&B's manifests name a file by its MD5, so both are made in the one pass.
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    fd = disk.create(temporary)
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                md5.update(chunk)
                size += len(chunk)
                write_all(disk, fd, chunk)
        disk.sync(fd)
    except BaseException:
        disk.remove(temporary)
        raise
    finally:
        disk.close(fd)
    target = layout.blob(sha256.hexdigest())
    if target.exists():
        disk.remove(temporary)
    else:
        make_directories(disk, target.parent)
        disk.replace(temporary, target)
        disk.sync_directory(target.parent)
    return ArtifactFile(sha256=sha256.hexdigest(), md5=md5.hexdigest(), size=size)
