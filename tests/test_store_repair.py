"""A repaired run is sound, has all that could be read before, and keeps what was damaged."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.damage import INFO, content, copy, files, only_the_killed_attempt, record
from tests.disks import InterruptedDisk
from wandbkeras.errors import DamagedError, RunningError
from wandbkeras.store import document
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.manifest import read_manifest
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.repair import repair_run
from wandbkeras.store.verify import verify_run
from wandbkeras.store.writer import RunWriter

NAME = "run-20261123_054500-k3j9x2ab"
JOURNAL = "attempts/000/journal-000-000.wbk"
MANIFEST = "attempts/001/manifest-000.json"
HISTORY = "history/001-000-000.parquet"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return record(tmp_path_factory.mktemp("repair") / NAME)


@pytest.fixture
def run(recorded: Layout, tmp_path: Path) -> Layout:
    """A copy that the test may damage."""
    return copy(recorded, tmp_path / NAME)


def _flip(layout: Layout, name: str, offset: int) -> bytes:
    """Change a byte for good; return the file's bytes."""
    path = layout.root / name
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)
    return bytes(data)


def _kept(layout: Layout) -> list[bytes]:
    return [path.read_bytes() for path in (layout.root / "damaged").glob("*")]


def _snapshot(layout: Layout) -> dict[str, tuple[int, bytes]]:
    paths = {name: layout.root / name for name in files(layout)}
    return {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in paths.items()}


def _left(layout: Layout) -> frozenset[tuple[str, bytes]]:
    """What a repair left: the files, and of those that it was writing that they are there."""
    names = [(name, re.sub("[0-9a-f]{8,16}[.]tmp$", "tmp", name)) for name in files(layout)]
    contents = [
        (kind, b"" if kind.endswith("tmp") else (layout.root / n).read_bytes()) for n, kind in names
    ]
    return frozenset(contents)


def _without_artifacts(found: list[Any]) -> list[Any]:
    rows, events, summary, config, _, *rest = found
    return [rows, [e for e in events if e[0] != "artifact_dropped"], summary, config, *rest]


def _assert_repaired(layout: Layout, before: list[Any], *originals: bytes) -> None:
    """The run is sound, strictly read it is what was read before, and the originals are there."""
    found = verify_run(layout.root)
    assert found.damage == []
    stored = StoredRun(layout.root, strict=True)
    assert _without_artifacts(content(stored)) == _without_artifacts(before)
    for version in stored.artifacts:
        for file in version.files.values():
            assert stored.blob(file.sha256).stat().st_size == file.size
    for original in originals:
        assert original in _kept(layout)
    snapshot = _snapshot(layout)
    assert repair_run(layout.root).damage == []
    assert _snapshot(layout) == snapshot


def test_a_byte_anywhere_is_repaired(recorded: Layout, tmp_path: Path) -> None:
    """Whichever byte is damaged, what was read before is sealed and the original kept."""
    for name in files(recorded):
        size = (recorded.root / name).stat().st_size
        for offset in range(0, size, max(1, size // 12)):
            layout = copy(recorded, tmp_path / NAME)
            original = _flip(layout, name, offset)
            before = content(StoredRun(layout.root))
            report = repair_run(layout.root)
            assert {d.path.as_posix() for d in report.damage} == {name}
            assert report.moved == [f"damaged/{name.replace('/', '-')}"]
            _assert_repaired(layout, before, original)
            shutil.rmtree(layout.root)


def test_a_sound_run_is_not_touched(run: Layout) -> None:
    """Not a byte of a sound run changes, nor a time."""
    snapshot = _snapshot(run)
    report = repair_run(run.root)
    assert (report.damage, report.moved, report.rows_kept, report.rows_lost) == ([], [], 9, 0)
    assert _snapshot(run) == snapshot


def test_what_is_lost_is_said(run: Layout) -> None:
    """Rows that the manifest counted are counted; those of a journal are said to be unknown."""
    _flip(run, HISTORY, -1)
    report = repair_run(run.root)
    assert (report.rows_kept, report.rows_lost, report.is_exact) == (3, 6, True)
    _flip(run, JOURNAL, -1)
    report = repair_run(run.root)
    assert (report.rows_kept, report.rows_lost, report.is_exact) == (2, 0, False)
    assert report.damage[0].reason.endswith("after step 1")
    lost = StoredRun(run.root).lost
    assert [line.split(":")[0] for line in lost] == [JOURNAL, HISTORY]
    assert StoredRun(run.root).damage == []


def test_a_dry_run_says_the_same_and_changes_nothing(run: Layout) -> None:
    """What a repair would cost is known before."""
    for name in (HISTORY, JOURNAL, "run.json"):
        _flip(run, name, 120)
    snapshot = _snapshot(run)
    expected = repair_run(run.root, dry_run=True)
    assert _snapshot(run) == snapshot
    report = repair_run(run.root)
    assert len(report.moved) == 3
    report.moved = []
    assert report == expected


def test_everything_at_once_is_repaired(run: Layout) -> None:
    """Damage to every file of a run leaves a sound run of what is left.

    Of an artifact whose manifest is damaged, too, nobody knows which its tables were.
    """
    unknown = "tables/model"
    names = [name for name in files(run) if name != MANIFEST and not name.startswith(unknown)]
    originals = [_flip(run, name, 120 if name.endswith("parquet") else 5) for name in names]
    before = content(StoredRun(run.root))
    report = repair_run(run.root)
    assert len(report.moved) == len(names)
    assert report.artifacts == ["artifact 001-000-0000.json: its manifest is damaged or missing"]
    _assert_repaired(run, before, *originals)
    assert StoredRun(run.root).info == INFO


def test_an_artifact_without_its_content_is_dropped(run: Layout) -> None:
    """The version is named, dropped with an event of its own, and its blob is kept apart."""
    (blob,) = run.blobs.glob("*/*")
    original = _flip(run, blob.relative_to(run.root).as_posix(), 0)
    last_seen = StoredRun(run.root).folded.last_seen
    report = repair_run(run.root)
    assert report.artifacts == ["artifact 'model': 'model.keras' is damaged"]
    stored = StoredRun(run.root, strict=True)
    assert (stored.artifacts, stored.events()[-1].type) == ([], "artifact_dropped")
    assert stored.folded.last_seen == last_seen
    assert original in _kept(run)
    assert any("artifact 'model'" in line for line in stored.lost)
    assert verify_run(run.root).damage == []


def test_a_directory_of_blobs_that_is_a_link_is_taken_away(run: Layout) -> None:
    """What it leads to stays as it is, and where it is; the version goes."""
    (directory,) = run.blobs.iterdir()
    elsewhere = run.root.with_suffix(".blobs")
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)
    report = repair_run(run.root)
    assert report.artifacts == ["artifact 'model': 'model.keras' is a link"]
    assert [path.read_bytes() for path in elsewhere.iterdir()] == [b"weights"]
    assert not directory.is_symlink()
    assert verify_run(run.root).damage == []


def test_a_saved_file_without_its_content_is_dropped(layout: Layout, tmp_path: Path) -> None:
    """The file goes from the run's files, sealed or not; the others stay."""
    writer = RunWriter(layout, {**describe_process(), "host": "elsewhere", "from_step": 0})
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        file = writer.files.add(tmp_path / name)
        writer.event("file", {"path": name, **vars(file)})
    writer.close(0, 1.0)
    blob = layout.blob(StoredRun(layout.root).files["a"].sha256)
    blob.unlink()
    report = repair_run(layout.root)
    assert report.saved_files == ["saved file 'a': missing"]
    stored = StoredRun(layout.root, strict=True)
    assert list(stored.files) == ["b"]
    assert [e.body["path"] for e in stored.events() if e.type == "file"] == ["b"]
    assert verify_run(layout.root).damage == []


def test_a_run_that_is_being_recorded_is_refused(layout: Layout) -> None:
    """Nobody but its writer touches a living run."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0})
    _flip(layout, "run.json", 20)
    snapshot = _snapshot(layout)
    with pytest.raises(RunningError, match="still running"):
        repair_run(layout.root)
    assert _snapshot(layout) == snapshot
    writer.abandon()


def test_a_run_that_goes_on_after_a_repair_is_whole(run: Layout) -> None:
    """A later attempt of a repaired run, and a second damage, are like any other."""
    first = _flip(run, "run.json", 20)
    repair_run(run.root)
    writer = RunWriter(run, {**describe_process(), "host": "elsewhere", "from_step": 9})
    with writer.lock:
        writer.history(9, 2000.0, 40.0, {"loss": 0.0}, complete=True)
    writer.close(0, 40.0)
    second = _flip(run, "run.json", 50)
    repair_run(run.root)
    assert _kept(run).count(first) == _kept(run).count(second) == 1
    assert [row.step for row in StoredRun(run.root, strict=True).rows()] == list(range(10))


def test_a_part_of_a_later_version_is_kept_unless_it_is_damaged(run: Layout) -> None:
    """What this version can't read it doesn't lose, and doesn't call sound when it isn't."""
    later = run.root / "later/001-000-000.parquet"
    later.parent.mkdir()
    shutil.copy(run.root / HISTORY, later)
    members = document.read(run.manifest(1, 0))
    part = next(part for part in members["parts"] if part["name"] == HISTORY)
    members["parts"].append({**part, "name": "later/001-000-000.parquet"})
    document.write(Disk(), run.manifest(1, 0), members)
    _flip(run, HISTORY, 120)
    repair_run(run.root)
    assert "later/001-000-000.parquet" in [p.name for p in read_manifest(run, 1, 0).parts]
    _flip(run, "later/001-000-000.parquet", 120)
    assert len(verify_run(run.root).damage) == 1
    repair_run(run.root)
    assert "later" not in [part.stream for part in read_manifest(run, 1, 0).parts]
    assert verify_run(run.root).damage == []


def test_what_was_made_to_be_no_part_of_a_run_is_not_repaired(run: Layout) -> None:
    """A document with a good checksum and nonsense in it is for its maker to explain."""
    members = document.read(run.manifest(1, 0))
    document.write(Disk(), run.manifest(1, 0), {**members, "parts": None})
    snapshot = _snapshot(run)
    with pytest.raises(DamagedError, match="not a manifest"):
        repair_run(run.root)
    assert _snapshot(run) == snapshot


def _damage_history(layout: Layout) -> list[bytes]:
    return [_flip(layout, HISTORY, 120)]


def _damage_footer(layout: Layout) -> list[bytes]:
    return [_flip(layout, HISTORY, -1)]


def _damage_documents(layout: Layout) -> list[bytes]:
    return [_flip(layout, "run.json", 20), _flip(layout, MANIFEST, 200)]


def _damage_journal(layout: Layout) -> list[bytes]:
    only_the_killed_attempt(layout)
    return [_flip(layout, JOURNAL, -150)]


def _damage_artifact(layout: Layout) -> list[bytes]:
    (blob,) = layout.blobs.glob("*/*")
    return [_flip(layout, blob.relative_to(layout.root).as_posix(), 0)]


def _lose_manifest(layout: Layout) -> list[bytes]:
    shutil.rmtree(layout.attempt(1))
    return []


@pytest.mark.parametrize(
    "damage",
    [
        _damage_history,
        _damage_footer,
        _damage_documents,
        _damage_journal,
        _damage_artifact,
        _lose_manifest,
    ],
)
def test_a_repair_can_be_interrupted_at_any_step(
    run: Layout, tmp_path: Path, damage: Callable[[Layout], list[bytes]]
) -> None:
    """After each durable step no less can be read than before, and a second repair completes it.

    Where two steps leave the same, as one that only syncs does, that is looked at once.
    """
    originals = damage(run)
    before = content(StoredRun(run.root))
    seen = set()
    whole = InterruptedDisk()
    repair_run(copy(run, tmp_path / "whole" / NAME).root, disk=whole)
    assert whole.done > 5
    for steps in range(whole.done):
        layout = copy(run, tmp_path / "copy" / NAME)
        with pytest.raises(OSError, match="interrupted"):
            repair_run(layout.root, disk=InterruptedDisk(steps))
        left = _left(layout)
        if left not in seen:
            seen.add(left)
            assert _without_artifacts(content(StoredRun(layout.root))) == _without_artifacts(before)
            repair_run(layout.root)
            _assert_repaired(layout, before, *originals)
        shutil.rmtree(layout.root)
    assert len(seen) > 5
