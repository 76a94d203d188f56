"""Blobs: file contents by their SHA-256."""

from __future__ import annotations

import hashlib

import pytest

from tests.disks import FullDisk
from wandbkeras.errors import DamagedError
from wandbkeras.store.blobs import add_blob
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.schema import ArtifactFile


def _files(layout: Layout) -> list[str]:
    return [path.name for path in layout.blobs.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 5, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_a_blob_holds_the_bytes_that_its_name_says(layout: Layout, size: int) -> None:
    """The file is found by its SHA-256; its MD5 and size are those of the bytes."""
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    source = layout.root / "source"
    source.write_bytes(content)
    added = add_blob(Disk(), layout, source)
    sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
    assert added == ArtifactFile(sha256=sha256, md5=md5, size=size)
    assert layout.blob(sha256).read_bytes() == content


def test_the_same_content_is_stored_once(layout: Layout) -> None:
    """Two files of the same bytes are one blob."""
    for name in ("a", "b"):
        (layout.root / name).write_bytes(b"same")
        added = add_blob(Disk(), layout, layout.root / name)
    assert _files(layout) == [added.sha256]


def test_a_blob_is_a_copy(layout: Layout) -> None:
    """Writing on in the source changes nothing in the run."""
    source = layout.root / "source"
    source.write_bytes(b"before")
    added = add_blob(Disk(), layout, source)
    with source.open("r+b") as file:
        file.write(b"after!")
    assert layout.blob(added.sha256).read_bytes() == b"before"


def test_a_full_disk_leaves_no_half_blob(layout: Layout) -> None:
    """What did not fit is taken away again."""
    (layout.root / "source").write_bytes(b"x" * 1000)
    with pytest.raises(OSError, match="No space"):
        add_blob(FullDisk(room=500), layout, layout.root / "source")
    assert _files(layout) == []


@pytest.mark.parametrize("name", ["", "../../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_a_blob_is_asked_for_only_by_a_digest(layout: Layout, name: str) -> None:
    """A name that is no SHA-256 leads nowhere."""
    with pytest.raises(DamagedError, match="not the SHA-256 of a blob"):
        layout.blob(name)
