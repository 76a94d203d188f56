"""The disk seam: files and directories appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disks import FullDisk, InterruptedDisk
from wandbkeras.store.disk import Disk, make_directories, write_all, write_file


def _steps_of(path: Path) -> int:
    disk = InterruptedDisk()
    write_file(disk, path, b"new")
    return disk.done


def test_a_file_is_the_old_one_or_the_new_one_at_every_step(tmp_path: Path) -> None:
    """An interrupted replacement leaves the old content, a finished one the new, none a mixture."""
    steps = _steps_of(tmp_path / "other")
    for done in range(steps):
        path = tmp_path / f"file-{done}"
        write_file(Disk(), path, b"old")
        with pytest.raises(OSError, match="interrupted"):
            write_file(InterruptedDisk(done), path, b"new")
        assert path.read_bytes() in (b"old", b"new")
        write_file(Disk(), path, b"newer")
        assert path.read_bytes() == b"newer"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file that did not fit is taken away again, and the old one stays."""
    path = tmp_path / "file"
    write_file(Disk(), path, b"old")
    with pytest.raises(OSError, match="No space"):
        write_file(FullDisk(room=3), path, b"longer than that")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_disk_that_takes_a_little_at_a_time_gets_all(tmp_path: Path) -> None:
    """A short write is continued where it ended."""

    class Slow(Disk):
        def write(self, fd: int, data: bytes | memoryview) -> int:
            return super().write(fd, memoryview(data)[:3])

    fd = Slow().create(tmp_path / "file")
    write_all(Slow(), fd, b"0123456789")
    Disk().close(fd)
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_directories_are_made_with_what_is_missing_above(tmp_path: Path) -> None:
    """Directories that are there, or that another process makes meanwhile, are fine."""
    make_directories(Disk(), tmp_path / "a" / "b" / "c")
    disk = InterruptedDisk(0)
    make_directories(disk, tmp_path / "a" / "b" / "c")
    assert disk.done == 0

    class Beaten(Disk):
        def make_directory(self, path: Path) -> None:
            super().make_directory(path)
            super().make_directory(path)

    make_directories(Beaten(), tmp_path / "d")
    assert (tmp_path / "d").is_dir()
