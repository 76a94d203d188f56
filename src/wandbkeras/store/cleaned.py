"""Which blobs were removed from a run on purpose, so that nobody takes them for lost.

``cleaned.json`` names them, durable before the first one goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.checks import Sha256, convert
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.schema import FORMAT_VERSION

CLEANED_FORMAT = "wandbkeras-cleaned"


@dataclass(frozen=True)
class _Cleaned:
    blobs: list[Sha256]


def cleaned_blobs(layout: Layout) -> frozenset[str]:
    """Return the SHA-256 of the blobs that were removed; a damaged list names none."""
    try:
        members = document.read(layout.cleaned, layout.root)
        if (members.get("format"), members.get("version")) == (CLEANED_FORMAT, FORMAT_VERSION):
            return frozenset(convert(members, _Cleaned).blobs)
    except (FileNotFoundError, DamagedError, ValueError):
        pass
    return frozenset()


def write_cleaned(disk: Disk, layout: Layout, blobs: Iterable[str]) -> None:
    """Add to the list."""
    members = {"format": CLEANED_FORMAT, "version": FORMAT_VERSION}
    every = sorted(cleaned_blobs(layout).union(blobs))
    document.write(disk, layout.cleaned, {**members, "blobs": every})
