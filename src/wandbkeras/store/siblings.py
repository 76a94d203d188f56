"""Blobs that another run of the same store has already: one file under two names.

A hard link, and only to what nobody writes on: a read-only blob of our own user, its bytes compared
first. Each run keeps its name when the other one is deleted, and a copied run is whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout

# Looking costs a listing of the store and a question a run, which a smaller blob doesn't earn.
SHARED_BYTES = 1 << 20
# Runs with the same checkpoint are mostly neighbours, and a store may hold thousands.
LATEST_RUNS = 64
_CHUNK = 1 << 20


def link_sibling(disk: Disk, layout: Layout, sha256: str, content: Path) -> bool:
    """Link the blob that one of the store's latest runs has; False if none has it.

    ``content`` holds the bytes that it must have.
    """
    target = layout.blob(sha256)
    for candidate in _candidates(layout, target):
        try:
            if _can_be_shared(candidate) and _same_bytes(candidate, content):
                disk.link(candidate, target)
                return True
        except OSError:  # the run was just deleted, or its file system is another
            continue
    return False


def _candidates(layout: Layout, target: Path) -> Iterator[Path]:
    """Yield where the store's latest runs would have the blob."""
    inside = target.relative_to(layout.root)
    store = layout.root.parent
    try:
        # A path object for each of thousands of runs takes as long as all the rest.
        names = [name for name in os.listdir(store) if name.startswith("run-")]  # noqa: PTH208
    except OSError:
        return
    for name in sorted(names, reverse=True)[:LATEST_RUNS]:  # the names begin with the time
        if name != layout.root.name:
            yield store / name / inside


def _can_be_shared(path: Path) -> bool:
    """Whether the file is one of ours that nobody writes on, and no way to somewhere else."""
    status = path.lstat()
    return (
        stat.S_ISREG(status.st_mode)
        and not status.st_mode & 0o222
        and status.st_uid == os.geteuid()
        and path.parent.resolve() == path.parents[4].resolve().joinpath(*path.parts[-5:-1])
    )


def _same_bytes(one: Path, other: Path) -> bool:
    """Whether two files are equal: a name alone may be wrong, by damage or on purpose."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while chunk := first.read(_CHUNK):
            if chunk != second.read(_CHUNK):
                return False
        return not second.read(1)
