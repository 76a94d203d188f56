"""The journal: it is made once, and a frame is in it as a whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.disks import FullDisk
from tests.journals import HEADER, write_journal
from wandbkeras.store.disk import Disk
from wandbkeras.store.journal import JournalWriter, encode_frame
from wandbkeras.store.journal_reader import read_journal


def test_a_journal_is_made_only_once(tmp_path: Path) -> None:
    """A writer never appends to another writer's journal."""
    write_journal(tmp_path / "j.wbk", [["a"]])
    with pytest.raises(FileExistsError):
        JournalWriter(Disk(), tmp_path / "j.wbk", HEADER)


@pytest.mark.parametrize("room", range(0, 60, 7))
def test_a_frame_that_a_full_disk_took_in_part_is_cut_off(tmp_path: Path, room: int) -> None:
    """After a partial write the journal ends with the frame before it, and goes on from there."""
    disk, path = FullDisk(), tmp_path / "j.wbk"
    journal = JournalWriter(disk, path, HEADER)
    journal.append(encode_frame(["before"]))
    disk.room = room
    with pytest.raises(OSError) as caught:
        journal.append(encode_frame(["x" * 60]))
    assert caught.value.errno == errno.ENOSPC
    assert path.stat().st_size == journal.size
    disk.room = None
    journal.append(encode_frame(["after"]))
    journal.close()
    found = read_journal(path)
    assert (found.records, found.damage, found.torn) == ([["before"], ["after"]], [], 0)


def test_a_piece_that_can_not_be_cut_off_at_once_goes_before_the_next_frame(tmp_path: Path) -> None:
    """Where truncating fails with the write, as on a full Btrfs, no sound frame is lost later."""

    class Stubborn(FullDisk):
        def cut(self, fd: int, size: int) -> None:
            if self.room is not None:
                raise OSError(errno.ENOSPC, "no space to truncate")
            super().cut(fd, size)

    disk, path = Stubborn(), tmp_path / "j.wbk"
    journal = JournalWriter(disk, path, HEADER)
    items = [["first"], ["second"], ["third"], ["fourth"]]
    for item in items:
        disk.room = 5
        with pytest.raises(OSError):
            journal.append(encode_frame(["lost" * 20]))
        disk.room = None
        journal.append(encode_frame(item))
    journal.close()
    found = read_journal(path)
    assert (found.records, found.damage, found.torn) == (items, [], 0)


def test_a_segment_that_could_not_be_begun_leaves_no_file(tmp_path: Path) -> None:
    """A header that does not fit is no journal: its name is free for the next try."""
    disk, path = FullDisk(room=5), tmp_path / "j.wbk"
    with pytest.raises(OSError):
        JournalWriter(disk, path, HEADER)
    assert not path.exists()
    disk.room = None
    JournalWriter(disk, path, HEADER).close()
    assert read_journal(path).header["version"] == 1
