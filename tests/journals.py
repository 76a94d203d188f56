"""Journals as a writer leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wandbkeras.store.disk import Disk
from wandbkeras.store.journal import JournalWriter, encode_frame

HEADER = {"attempt": 0, "writer": 0, "segment": 0}


def write_journal(path: Path, items: list[Any]) -> list[int]:
    """Write a journal of ``items``; return the file's size after the header and each item."""
    path.unlink(missing_ok=True)
    journal = JournalWriter(Disk(), path, HEADER)
    sizes = [journal.size]
    for item in items:
        journal.append(encode_frame(item))
        sizes.append(journal.size)
    journal.close()
    assert path.stat().st_size == sizes[-1]
    return sizes
