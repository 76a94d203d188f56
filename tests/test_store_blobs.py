"""Blobs: file contents by their SHA-256."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.disks import FullDisk, InterruptedDisk
from wandbkeras.errors import DamagedError
from wandbkeras.store.blobs import add_blob, adopt_blob, remove_blob
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.room import CapReachedError, Room
from wandbkeras.store.schema import ArtifactFile
from wandbkeras.store.siblings import LATEST_RUNS, SHARED_BYTES

BIG = bytes(range(256)) * (SHARED_BYTES // 256)


class CloningDisk(Disk):
    """A disk that can share bytes, as one that is asked to write any proves.

    ``meanwhile`` is what somebody else does between sharing and hashing.
    """

    def __init__(self, source: Path) -> None:
        self.source = source

    def clone(self, source: int, fd: int) -> None:
        assert os.fstat(source).st_ino == self.source.stat().st_ino
        super().write(fd, self.source.read_bytes())
        self.source.write_bytes(b"written on")

    def write(self, fd: int, data: bytes | memoryview) -> int:
        raise AssertionError("bytes are written that could be shared")


class RefusingDisk(Disk):
    """A disk that answers to each attempt to share bytes, or to link, with an error."""

    def __init__(self, number: int) -> None:
        self.error = OSError(number, os.strerror(number))

    def clone(self, source: int, fd: int) -> None:
        raise self.error

    def link(self, source: Path, target: Path) -> None:
        raise self.error

    def adopt(self, source: Path, target: Path) -> None:
        raise self.error


def _source(layout: Layout, content: bytes) -> Path:
    path = layout.root / "source"
    path.write_bytes(content)
    return path


def _sibling(layout: Layout, name: str = "run-20261124_054500-sibling0") -> Layout:
    """Another run of the same store."""
    other = Layout(layout.root.parent / name)
    other.root.mkdir()
    return other


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


def test_bytes_are_shared_where_the_disk_can(layout: Layout) -> None:
    """Nothing is written, and the digests are those of what is in the run, not in the source."""
    source = _source(layout, b"before")
    added = add_blob(CloningDisk(source), layout, source)
    assert added.sha256 == hashlib.sha256(b"before").hexdigest()
    assert layout.blob(added.sha256).read_bytes() == b"before"


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY])
def test_a_disk_that_can_not_share_bytes_copies_them(layout: Layout, number: int) -> None:
    """Whatever it answers, the blob is there."""
    added = add_blob(RefusingDisk(number), layout, _source(layout, BIG))
    assert layout.blob(added.sha256).read_bytes() == BIG


def test_a_directory_that_leads_elsewhere_is_refused(layout: Layout, tmp_path: Path) -> None:
    """A stranger's run may have a link in the place of a directory: nothing goes through it."""
    source = _source(layout, b"weights")
    name = add_blob(Disk(), layout, source).sha256
    elsewhere = tmp_path / "elsewhere"
    layout.blob(name).parent.rename(elsewhere)
    layout.blob(name).parent.symlink_to(elsewhere)
    for change in (
        lambda: remove_blob(Disk(), layout, name),
        lambda: add_blob(Disk(), layout, source),
        lambda: adopt_blob(Disk(), layout, source),
    ):
        with pytest.raises(DamagedError, match="a link: the blobs of a run lie in it"):
            change()
    assert [path.name for path in elsewhere.iterdir()] == [name]
    assert list(layout.blobs.glob(".*")) == []


def test_the_kernel_knows_what_it_is_asked(layout: Layout) -> None:
    """A file system that can't share bytes says so; none takes the question for another one."""
    source, target = _source(layout, b"x" * 5000), layout.root / "target"
    fd = Disk().create(target)
    with source.open("rb") as file:
        try:
            Disk().clone(file.fileno(), fd)
        except OSError as error:
            assert error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL)
        else:
            assert target.read_bytes() == b"x" * 5000
    os.close(fd)


def test_nobody_may_write_on_a_blob(layout: Layout) -> None:
    """Its permissions say so, and grant no more than those of any new file."""
    added = add_blob(Disk(), layout, _source(layout, b"x"))
    mode = stat.S_IMODE(layout.blob(added.sha256).stat().st_mode)
    assert mode == stat.S_IMODE(layout.info.stat().st_mode) & 0o444


def test_a_file_that_is_given_away_is_moved(layout: Layout) -> None:
    """Its bytes are not written a second time."""
    source = _source(layout, BIG)
    inode = source.stat().st_ino
    added = adopt_blob(InterruptedDisk(), layout, source)
    blob = layout.blob(added.sha256)
    assert added == ArtifactFile(
        hashlib.sha256(BIG).hexdigest(), hashlib.md5(BIG).hexdigest(), len(BIG)
    )
    assert (blob.stat().st_ino, blob.stat().st_mode & 0o222) == (inode, 0)
    assert not source.exists()


def test_a_file_on_another_file_system_is_copied_when_given_away(layout: Layout) -> None:
    """It is gone from there all the same."""
    source = _source(layout, b"x")
    added = adopt_blob(RefusingDisk(errno.EXDEV), layout, source)
    assert layout.blob(added.sha256).read_bytes() == b"x"
    assert not source.exists()


def test_a_file_that_is_there_already_is_gone_when_given_away(layout: Layout) -> None:
    """One blob, and nothing beside it."""
    for _ in range(2):
        added = adopt_blob(Disk(), layout, _source(layout, b"same"))
    assert _files(layout) == [added.sha256]
    assert not (layout.root / "source").exists()


def test_runs_of_a_store_share_large_blobs(layout: Layout) -> None:
    """The same checkpoint in two runs is one file, and each keeps it without the other."""
    other = _sibling(layout)
    first = add_blob(Disk(), layout, _source(layout, BIG))
    second = adopt_blob(Disk(), other, _source(other, BIG))
    assert first == second
    mine, theirs = layout.blob(first.sha256), other.blob(first.sha256)
    assert mine.samefile(theirs)
    assert mine.stat().st_nlink == 2
    shutil.copytree(other.root, layout.root.parent / "copied")
    shutil.rmtree(other.root)
    assert mine.read_bytes() == BIG
    copied = Layout(layout.root.parent / "copied").blob(first.sha256)
    assert not copied.samefile(mine)
    remove_blob(Disk(), layout, first.sha256)
    assert copied.read_bytes() == BIG


def test_a_small_blob_is_a_file_of_its_own(layout: Layout) -> None:
    """Looking for it would cost more than it takes."""
    other = _sibling(layout)
    added = [add_blob(Disk(), run, _source(run, BIG[1:])) for run in (layout, other)]
    assert not layout.blob(added[0].sha256).samefile(other.blob(added[1].sha256))


def test_only_the_latest_runs_are_looked_at(layout: Layout) -> None:
    """However many runs a store has, looking takes so long and no longer."""
    oldest = _sibling(layout, "run-20200101_000000-oldest00")
    for number in range(LATEST_RUNS):
        _sibling(layout, f"run-2025{number:04d}_000000-x")
    added = [add_blob(Disk(), run, _source(run, BIG)) for run in (oldest, layout)]
    assert not layout.blob(added[0].sha256).samefile(oldest.blob(added[0].sha256))


@pytest.mark.parametrize("trouble", ["damaged", "writable", "link", "directory link", "directory"])
def test_a_blob_that_is_not_what_it_says_is_not_shared(layout: Layout, trouble: str) -> None:
    """The run gets its own, with the right bytes."""
    other = _sibling(layout)
    elsewhere = layout.root.parent / "elsewhere"
    added = add_blob(Disk(), other, _source(other, BIG))
    theirs = other.blob(added.sha256)
    if trouble == "damaged":
        theirs.chmod(0o644)
        with theirs.open("r+b") as file:
            file.write(b"!")
        theirs.chmod(0o444)
    elif trouble == "writable":
        theirs.chmod(0o644)
    elif trouble == "link":
        theirs.rename(elsewhere)
        theirs.symlink_to(elsewhere)
    elif trouble == "directory link":
        theirs.parent.rename(elsewhere)
        theirs.parent.symlink_to(elsewhere)
    else:
        theirs.unlink()
        theirs.mkdir()
    add_blob(Disk(), layout, _source(layout, BIG))
    mine = layout.blob(added.sha256)
    assert mine.read_bytes() == BIG
    assert (mine.stat().st_nlink, mine.is_symlink()) == (1, False)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOENT])
def test_a_blob_that_can_not_be_linked_is_a_file_of_its_own(layout: Layout, number: int) -> None:
    """On another file system, with too many links, or deleted at this moment."""
    other = _sibling(layout)
    added = add_blob(Disk(), other, _source(other, BIG))
    add_blob(RefusingDisk(number), layout, _source(layout, BIG))
    assert not layout.blob(added.sha256).samefile(other.blob(added.sha256))


@pytest.mark.parametrize("kind", ["copy", "adopt", "link"])
def test_interrupted_at_any_step_a_blob_is_whole_or_not_there(
    layout: Layout, kind: str, tmp_path: Path
) -> None:
    """No file with the name of a digest has other bytes, and what failed leaves nothing."""
    other = _sibling(layout)
    if kind == "link":
        add_blob(Disk(), other, _source(other, BIG))
    add = adopt_blob if kind == "adopt" else add_blob
    steps, done = 0, False
    while not done:
        run = _sibling(layout, f"run-20261125_054500-at{steps:06d}")
        if kind != "link":
            run = Layout(tmp_path / f"alone-{steps}" / run.root.name)
            run.root.mkdir(parents=True)
        try:
            add(InterruptedDisk(steps), run, _source(run, BIG))
            done = True
        except OSError as error:
            assert "interrupted" in str(error)
        assert all(hashlib.sha256(run.blob(n).read_bytes()).hexdigest() == n for n in _named(run))
        steps += 1
    assert len(_named(run)) == 1
    assert steps > 5


def _named(layout: Layout) -> list[str]:
    return [name for name in _files(layout) if not name.startswith(".")]


def test_every_way_into_a_run_is_counted_under_its_cap(layout: Layout) -> None:
    """Copied, shared, given away or linked: what is too much is refused, and removed it counts
    no more."""
    other = _sibling(layout)
    shared = add_blob(Disk(), other, _source(other, BIG))
    cap = 3 * len(BIG)
    room = Room(Disk(), layout.root, segment_bytes=1 << 16, max_bytes=cap)
    add_blob(room.disk, layout, _source(layout, BIG))
    assert layout.blob(shared.sha256).samefile(other.blob(shared.sha256))
    with pytest.raises(CapReachedError):
        adopt_blob(room.disk, layout, _source(layout, BIG * 3))
    with pytest.raises(CapReachedError):
        add_blob(room.disk, layout, _source(layout, BIG * 3))
    remove_blob(room.disk, layout, shared.sha256)
    adopt_blob(room.disk, layout, _source(layout, b"!" + BIG))
    assert _files(layout) == [hashlib.sha256(b"!" + BIG).hexdigest()]
