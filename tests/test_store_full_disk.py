"""A disk that takes no more: training goes on, and what is missing is counted and said."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.disks import FullDisk
from wandbkeras.errors import UsageError
from wandbkeras.recording import session
from wandbkeras.store.journal import read_journal
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.writer import RunWriter


def _writer(layout: Layout, disk: FullDisk, **options: Any) -> RunWriter:
    return RunWriter(layout, {**describe_process(), "from_step": 0}, disk=disk, **options)


def _log(writer: RunWriter, steps: range) -> None:
    for step in steps:
        writer.history(step, float(step), float(step), {"loss": step / 2}, complete=True)


@pytest.mark.parametrize("room", [0, 1, 100, 333])
def test_dropped_rows_are_counted_exactly(layout: Layout, room: int) -> None:
    """Rows recorded and rows counted as dropped add up to the rows logged."""
    disk = FullDisk()
    writer = _writer(layout, disk)
    _log(writer, range(10))
    disk.room = room
    _log(writer, range(10, 30))
    disk.room = None
    _log(writer, range(30, 40))
    before_close = StoredRun(layout.root)
    steps = [row.step for row in before_close.rows()]
    assert steps[:10] == list(range(10))
    assert steps[-10:] == list(range(30, 40))
    assert before_close.folded.dropped == 40 - len(steps) > 0
    writer.close(0, 40.0)
    sealed = StoredRun(layout.root)
    assert [row.step for row in sealed.rows()] == steps
    assert sealed.folded.dropped == 40 - len(steps)
    assert sealed.damage == []


def test_trouble_is_said_once(layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, however many rows are lost."""
    disk = FullDisk()
    writer = _writer(layout, disk)
    for begin in (0, 20, 40):
        disk.room = 0
        _log(writer, range(begin, begin + 10))
        disk.room = None
        _log(writer, range(begin + 10, begin + 20))
    writer.close(0, 1.0)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"wandbkeras: {layout.root}: not everything is recorded from here on")
    assert "No space left on device" in line
    assert StoredRun(layout.root).folded.dropped == 30


@given(rooms=st.lists(st.none() | st.integers(0, 200), min_size=1, max_size=6))
def test_the_state_is_that_of_what_is_recorded(
    tmp_path_factory: pytest.TempPathFactory, rooms: list[int | None]
) -> None:
    """``run.summary`` of a process whose disk was full is the summary that a reader finds."""
    layout = Layout(tmp_path_factory.mktemp("run"))
    disk = FullDisk()
    writer = _writer(layout, disk)
    for i, room in enumerate(rooms):
        disk.room = room
        _log(writer, range(10 * i, 10 * i + 5))
    found = [row for row in read_journal(layout.journal(0, 0, 0)).records if row[0] == "history"]
    assert writer.state.rows == len(found)
    assert writer.state.summary.get("loss") == (found[-1][4]["loss"] if found else None)
    disk.room = None
    writer.abandon()


def test_space_that_comes_back_late_is_used_by_a_heartbeat(layout: Layout) -> None:
    """A run that logs nothing more still writes down what it lost."""
    told = threading.Event()

    class Watched(FullDisk):
        def write(self, fd: int, data: bytes | memoryview) -> int:
            taken = super().write(fd, data)
            if b"dropped" in bytes(data):
                told.set()
            return taken

    disk = Watched()
    moment = [0.0]
    writer = _writer(layout, disk, clock=lambda: moment[0])
    disk.room = 0
    _log(writer, range(5))
    disk.room, moment[0] = None, 20.0
    assert told.wait(timeout=60)
    writer.abandon()
    assert StoredRun(layout.root).folded.dropped == 5


def test_a_segment_that_can_not_be_begun_is_begun_later(layout: Layout) -> None:
    """Rotation that failed on a full disk works again when there is room."""
    disk = FullDisk()
    writer = _writer(layout, disk, segment_bytes=200)
    _log(writer, range(10))
    segments = len(layout.segment_numbers(0, 0))
    disk.room = 20
    _log(writer, range(10, 20))
    assert len(layout.segment_numbers(0, 0)) == segments
    disk.room = None
    _log(writer, range(20, 40))
    assert len(layout.segment_numbers(0, 0)) > segments
    writer.close(0, 1.0)
    run = StoredRun(layout.root)
    assert run.row_count + run.folded.dropped == 40
    assert list(layout.attempt(0).glob("*.wbk")) == []


def test_a_run_that_can_not_be_sealed_stays_readable(
    layout: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk without room for the Parquet parts leaves the journal, which holds everything."""
    disk = FullDisk()
    writer = _writer(layout, disk)
    _log(writer, range(20))
    disk.room = 100  # enough for the finish record
    writer.close(0, 1.0)
    run = StoredRun(layout.root)
    assert (run.state, run.row_count) == ("finished", 20)
    assert "the run stays unsealed, its records are in the journal" in capfd.readouterr().err


def test_a_store_that_takes_nothing_is_refused_at_the_beginning(tmp_path: Path) -> None:
    """``init`` says where it can't write, in one line, before training begins."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no run can be written there"):
        session.init(dir=tmp_path / "file")
    with pytest.raises(UsageError, match="no run can be written there"):
        session.init(dir=tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="no run can be written there"):
        session.init(dir="/proc/runs")
