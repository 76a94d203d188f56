"""Verifying finds every changed byte and names its place; what is no damage is not called so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.damage import KILLED_ROWS, copy, files, flipped, only_the_killed_attempt, record
from wandbkeras.errors import DamagedError, NotFoundError
from wandbkeras.store import document
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.manifest import read_manifest
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.verify import verify_run
from wandbkeras.store.writer import RunWriter

JOURNAL = "attempts/000/journal-000-000.wbk"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return record(tmp_path_factory.mktemp("verify") / "run-20261123_054500-k3j9x2ab")


@pytest.fixture
def run(recorded: Layout, tmp_path: Path) -> Layout:
    """A copy that the test may damage."""
    return copy(recorded, tmp_path / recorded.root.name)


def _places(layout: Layout) -> list[str]:
    return [damage.path.as_posix() for damage in verify_run(layout.root).damage]


def _changed_bytes_that_are_missed(layout: Layout, mask: int, step: int) -> list[str]:
    missed = []
    for name in files(layout):
        path = layout.root / name
        for offset in range(0, path.stat().st_size, step):
            with flipped(path, offset, mask):
                if name not in _places(layout):
                    missed.append(f"{name} at {offset}")
    return missed


def test_a_sound_run_is_sound(recorded: Layout) -> None:
    """Every file is checked, and nothing is found."""
    found = verify_run(recorded.root)
    sizes = [(recorded.root / name).stat().st_size for name in files(recorded)]
    assert (found.damage, found.lost, found.torn) == ([], [], 0)
    assert (found.files, found.bytes) == (len(sizes), sum(sizes))


def test_every_changed_byte_is_found_and_its_file_named(recorded: Layout) -> None:
    """One bit of every byte of every file of a run, changed alone, is found."""
    assert _changed_bytes_that_are_missed(recorded, mask=0x10, step=1) == []


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_it_does_not_matter_which_bits_are_changed(recorded: Layout, mask: int) -> None:
    """The lowest bit, the highest and all of them are found as well."""
    assert _changed_bytes_that_are_missed(recorded, mask, step=29) == []


def test_a_place_holds_the_byte_that_was_changed(recorded: Layout) -> None:
    """The offset and the size of a damage in a journal or a part lie around the byte."""
    parts = [part.name for part in read_manifest(recorded, 1, 0).parts]
    for name in (JOURNAL, *parts):
        path = recorded.root / name
        for offset in range(0, path.stat().st_size, 11):
            with flipped(path, offset):
                (damage,) = verify_run(recorded.root).damage
                # A changed length of the footer leaves nothing to say where it begins.
                assert damage.offset <= offset < damage.offset + damage.size


def test_damage_to_a_journal_is_between_steps(recorded: Layout) -> None:
    """What was in a damaged record is told from the steps of the rows around it."""
    data = (recorded.root / JOURNAL).read_bytes()
    with flipped(recorded.root / JOURNAL, len(data) - 150):
        (damage,) = verify_run(recorded.root).damage
    assert damage.reason.endswith("after step 0, before step 2")
    with flipped(recorded.root / JOURNAL, len(data) - 1):
        (damage,) = verify_run(recorded.root).damage
    assert damage.reason.endswith("after step 1")


def test_a_journal_cut_anywhere_is_no_damage(run: Layout) -> None:
    """A cut leaves the rows before it; the rest of a record is counted, and is no damage."""
    only_the_killed_attempt(run)
    path = run.root / JOURNAL
    data = path.read_bytes()
    rows = 0
    for size in range(len(data)):
        path.write_bytes(data[:size])
        found = verify_run(run.root)
        steps = StoredRun(run.root).history(columns=[])["_step"].to_pylist()
        assert found.damage == []
        assert steps == list(range(len(steps)))
        assert len(steps) in (rows, rows + 1)
        rows = len(steps)
        assert found.torn or size == 0 or rows or not steps
    assert rows == KILLED_ROWS - 1


def test_zeros_at_the_end_of_a_journal_are_no_damage(run: Layout) -> None:
    """A power cut may leave blocks of zeros where the disk did not get the bytes."""
    path = run.root / JOURNAL
    data = path.read_bytes()
    path.write_bytes(data + bytes(100))
    assert (verify_run(run.root).damage, verify_run(run.root).torn) == ([], 100)
    frame = b"\x00\x20\x00\x00\x12\x34\x56\x78"  # 8,192 bytes, of which the first block arrived
    body = b"x" * (4096 - len(data) - len(frame))
    path.write_bytes(data + frame + body + bytes(len(frame) + 8192 - 4096))
    assert verify_run(run.root).damage == []
    path.write_bytes(data + frame + b"x" * 8192)
    assert _places(run) == [JOURNAL]


@pytest.mark.parametrize("name", ["artifacts", "attempts/001/manifest", "blobs", "history", "run"])
def test_a_missing_file_is_found(run: Layout, name: str) -> None:
    """A file that another one names, or that every run has, is missed by its name."""
    (missing,) = [file for file in files(run) if file.startswith(name)]
    (run.root / missing).unlink()
    assert _places(run) == [missing]


def test_a_manifest_is_missed_though_nothing_else_is_left_of_its_writer(run: Layout) -> None:
    """Parts that no manifest names, whose journal is gone, tell of the one that named them."""
    shutil.rmtree(run.attempt(1))
    assert _places(run) == ["attempts/001/manifest-000.json"]


def test_parts_of_an_interrupted_sealing_are_no_damage(run: Layout) -> None:
    """What no manifest names is left over, as long as its journal is there."""
    shutil.copy(run.part("events", 1, 0, 0), run.part("events", 0, 0, 0))
    shutil.copy(run.part("events", 1, 0, 0), run.part("events", 1, 0, 7))
    assert _places(run) == []


def test_a_segment_in_the_wrong_place_is_found(run: Layout) -> None:
    """A segment says which one it is; its records are not those of its place."""
    shutil.copy(run.journal(0, 0, 0), run.journal(0, 0, 2))
    missing, misplaced = verify_run(run.root).damage
    assert missing.reason == "missing: a later segment is there"
    assert misplaced.reason.startswith("misplaced")
    assert misplaced.path.name == "journal-000-002.wbk"


def test_bytes_behind_a_part_are_found(run: Layout) -> None:
    """A part that has grown is damaged, and none of its rows is lost."""
    with run.part("history", 1, 0, 0).open("ab") as file:
        file.write(b"more")
    (damage,) = verify_run(run.root).damage
    assert (damage.size, damage.rows) == (4, 0)


def test_a_link_is_found(run: Layout) -> None:
    """A link leads out of the run, even to the very bytes."""
    (blob,) = run.blobs.glob("*/*")
    elsewhere = run.root.with_suffix(".blob")
    blob.rename(elsewhere)
    blob.symlink_to(elsewhere)
    assert _places(run) == [blob.relative_to(run.root).as_posix()]
    assert "'model'" in verify_run(run.root).artifacts["001-000-0000.json"]


def test_a_directory_of_blobs_that_is_a_link_is_found(run: Layout) -> None:
    """Nothing behind it is looked at, and what lies there is no content of the run."""
    (directory,) = run.blobs.iterdir()
    elsewhere = run.root.with_suffix(".blobs")
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)
    assert _places(run) == [directory.relative_to(run.root).as_posix()]
    assert "is a link" in verify_run(run.root).artifacts["001-000-0000.json"]
    with pytest.raises(DamagedError, match="the blob is missing"):
        StoredRun(run.root).blob(next(elsewhere.iterdir()).name)


def test_a_run_that_is_being_recorded_is_verified(layout: Layout) -> None:
    """Sealing while a run is verified changes nothing of what is found."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0}, segment_bytes=200)
    for step in range(20):
        with writer.lock:
            writer.history(step, 0.0, 0.0, {"loss": 0.5}, complete=True)
        if step == 10:
            writer.sync()
        assert verify_run(layout.root).damage == []
    writer.close(0, 1.0)
    assert verify_run(layout.root).damage == []


def test_a_document_that_was_made_to_be_none_is_reported(run: Layout) -> None:
    """A good checksum under nonsense is said too, and nothing stops at it."""
    for path in (run.manifest(1, 0), run.info, run.artifact(1, 0, 0)):
        document.write(Disk(), path, {"format": "nonsense"})
    assert len(verify_run(run.root).damage) == 3


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    """A directory without a run in it is not called sound."""
    with pytest.raises(NotFoundError, match="not a run"):
        verify_run(tmp_path)
