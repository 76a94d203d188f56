"""Sealing is safe to be interrupted at each of its steps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.disks import InterruptedDisk
from tests.strategies import canonical
from wandbkeras.errors import DamagedError, NewerFormatError
from wandbkeras.store import document
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.manifest import read_manifest
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.seal import seal
from wandbkeras.store.writer import RunWriter

HISTOGRAM = {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}


@pytest.fixture
def dead(layout: Layout) -> Layout:
    """A run whose process ended without a word, with several segments."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0}, segment_bytes=1000)
    writer.event("config", {"update": {"lr": 0.1}, "remove": []})
    writer.event("metric", {"name": "loss", "summary": ["min", "mean"]})
    for step in range(40):
        values = {"loss": 1 / (step + 1), "n": step if step < 20 else step + 0.5}
        if step % 7 == 0:
            values["w"] = HISTOGRAM
        writer.history(step, float(step), float(step), values, complete=step % 3 != 0)
    writer.event("summary", {"update": {"best": 0.5}, "remove": []})
    writer.abandon()
    assert 4 <= len(layout.segment_numbers(0, 0)) <= 8
    return layout


def _content(layout: Layout) -> Any:
    run = StoredRun(layout.root)
    rows = [(r.step, r.timestamp, r.runtime, r.values) for r in run.rows()]
    return canonical([rows, run.summary, run.config, run.row_count, run.damage])


def _copy(layout: Layout, to: Path) -> Layout:
    return Layout(Path(shutil.copytree(layout.root, to)))


@pytest.mark.parametrize(("sealed_before", "compact"), [(0, False), (2, True)])
def test_sealing_interrupted_at_any_step_loses_nothing(
    dead: Layout, tmp_path: Path, sealed_before: int, compact: bool
) -> None:
    """After each step the run reads the same, and sealing again completes it."""
    if sealed_before:
        seal(Disk(), dead, 0, 0, before=sealed_before, compact=False)
    expected = _content(dead)
    end = dead.segment_numbers(0, 0)[-1] + 1
    whole = InterruptedDisk()
    seal(whole, _copy(dead, tmp_path / "whole"), 0, 0, before=end, compact=compact)
    assert whole.done > 15
    for steps in range(whole.done):
        layout = _copy(dead, tmp_path / f"interrupted-{steps}")
        with pytest.raises(OSError, match="interrupted"):
            seal(InterruptedDisk(steps), layout, 0, 0, before=end, compact=compact)
        assert _content(layout) == expected
        manifest = seal(Disk(), layout, 0, 0, before=end, compact=True)
        assert _content(layout) == expected
        assert layout.segment_numbers(0, 0) == []
        named = {part.name for part in manifest.parts}
        there = {f"{path.parent.name}/{path.name}" for path in layout.root.glob("*/000-000*")}
        assert there == named
        assert len(named) == 3  # one part a stream


def test_sealing_part_by_part_and_compacting_gives_what_sealing_at_once_gives(
    dead: Layout, tmp_path: Path
) -> None:
    """How often a run was sealed leaves no trace in what is read from it."""
    other = _copy(dead, tmp_path / "other")
    end = dead.segment_numbers(0, 0)[-1] + 1
    expected = _content(dead)
    seal(Disk(), dead, 0, 0, before=end, compact=True)
    for before in range(1, end + 1):
        seal(Disk(), other, 0, 0, before=before, compact=False)
        assert _content(other) == expected
    seal(Disk(), other, 0, 0, before=end, compact=True)
    assert _content(other) == _content(dead) == expected
    states = [read_manifest(layout, 0, 0).state.to_document() for layout in (other, dead)]
    assert states[0] == states[1]


def test_what_no_manifest_names_is_not_read(dead: Layout) -> None:
    """A part that a killed process left unnamed is no second copy of its rows."""
    expected = _content(dead)
    end = dead.segment_numbers(0, 0)[-1] + 1
    seal(Disk(), dead, 0, 0, before=end, compact=False)
    part = next((dead.root / "history").iterdir())
    shutil.copy(part, part.with_name("000-000-777.parquet"))
    assert _content(dead) == expected


def test_damage_outlives_the_journal_it_was_found_in(dead: Layout) -> None:
    """What could not be read is written into the manifest when the rest is sealed."""
    path = dead.journal(0, 0, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    (line,) = StoredRun(dead.root).damage
    assert StoredRun(dead.root).lost == []
    rows = StoredRun(dead.root).row_count
    end = dead.segment_numbers(0, 0)[-1] + 1
    seal(Disk(), dead, 0, 0, before=end, compact=True)
    assert (StoredRun(dead.root).damage, StoredRun(dead.root).lost) == ([], [line])
    assert StoredRun(dead.root).row_count == rows
    assert path.relative_to(dead.root).as_posix() in line
    assert dead.damaged(path).read_bytes() == bytes(data)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"version": 2}, NewerFormatError, "format version 2"),
        ({"parts": None}, DamagedError, "not a manifest"),
        ({"parts": [{"name": "history/000-000-000.parquet"}]}, DamagedError, "not a manifest"),
        ({"state": {}}, DamagedError, "not a manifest"),
        ({"state": {"nonsense": 1, "metrics": {}}}, DamagedError, "not a manifest"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    dead: Layout, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A newer manifest and a malformed one are refused by name, not guessed at."""
    seal(Disk(), dead, 0, 0, before=1, compact=True)
    path = dead.manifest(0, 0)
    document.write(Disk(), path, {**document.read(path), **change})
    with pytest.raises(error, match=message):
        StoredRun(dead.root).attempts  # noqa: B018


@pytest.mark.parametrize(
    "name",
    [
        "../run.json",
        "history/../../secret.parquet",
        "/etc/passwd",
        "history/../history/000-000.parquet",
        "secrets/000-000.parquet",
        "history/000-000.parquet/x",
        "history",
    ],
)
def test_a_manifest_leads_nowhere_outside_of_the_run(dead: Layout, name: str) -> None:
    """A part's name is the name of a part, whatever a stranger wrote."""
    seal(Disk(), dead, 0, 0, before=1, compact=True)
    path = dead.manifest(0, 0)
    members = document.read(path)
    members["parts"][0]["name"] = name
    document.write(Disk(), path, members)
    with pytest.raises(DamagedError, match="which is no part"):
        StoredRun(dead.root).attempts  # noqa: B018
