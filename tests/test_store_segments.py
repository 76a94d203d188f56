"""Segments end when they are full or old, and what is sealed stays few files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.damage import flipped
from wandbkeras.store.layout import STREAMS, Layout
from wandbkeras.store.manifest import read_manifest
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.segments import SEAL_SECONDS
from wandbkeras.store.writer import RunWriter


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_795_412_700.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow(layout: Layout, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunWriter]:
    """A writer that does nothing by itself: the test says when a second has passed."""
    monkeypatch.setattr("wandbkeras.store.writer.SYNC_SECONDS", 1e6)
    writer = RunWriter(layout, {**describe_process(), "from_step": 0}, clock=clock)
    yield writer
    if writer._thread.is_alive():
        writer.abandon()


def _log(writer: RunWriter, step: int, *, complete: bool = True, **values: Any) -> None:
    with writer.lock:
        values = values or {"loss": 1 / (step + 1)}
        writer.history(step, writer._clock(), float(step), values, complete)


def _pass(writer: RunWriter, clock: Clock, seconds: float) -> None:
    """Let time pass: the writer's threads come by at its end, and then once more."""
    clock.now += seconds
    for _ in range(2):
        writer.tick()
        writer._segments.seal_waiting()


def _rows_of_parts(layout: Layout) -> list[int]:
    return [part.rows for part in read_manifest(layout, 0, 0).parts if part.stream == "history"]


def _sealed(layout: Layout) -> int:
    return sum(part.rows for part in read_manifest(layout, 0, 0).parts if part.stream == "history")


def _files(layout: Layout) -> list[Path]:
    return [path for stream in STREAMS for path in layout.part_files(stream, 0, 0)]


def test_rows_of_a_slow_run_are_sealed_after_some_minutes(
    slow: RunWriter, layout: Layout, clock: Clock
) -> None:
    """However few they are: they are in Parquet while the run goes on, each of them once."""
    _pass(slow, clock, 0)
    _log(slow, 0)
    _pass(slow, clock, SEAL_SECONDS - 1)
    assert _sealed(layout) == 0
    _pass(slow, clock, 1)
    assert _sealed(layout) == 1
    _log(slow, 1)
    assert [row.step for row in StoredRun(layout.root).rows()] == [0, 1]
    assert StoredRun(layout.root).state == "running"
    slow.close(0, 2.0)
    assert [row.step for row in StoredRun(layout.root).rows()] == [0, 1]


def test_a_run_without_new_rows_makes_no_files(
    slow: RunWriter, layout: Layout, clock: Clock
) -> None:
    """Heartbeats alone are not worth a segment of their own."""
    _log(slow, 0)
    for _ in range(20):
        _pass(slow, clock, SEAL_SECONDS)
    assert layout.segment_numbers(0, 0) == [1]
    assert [path.parent.name for path in _files(layout)] == ["history", "events"]


def test_an_open_row_is_not_parted(slow: RunWriter, layout: Layout, clock: Clock) -> None:
    """A segment that is old ends with the row that is open, however long that is."""
    _pass(slow, clock, 0)
    _log(slow, 0)
    _log(slow, 1, complete=False, loss=0.5)
    _pass(slow, clock, 2 * SEAL_SECONDS)
    assert layout.segment_numbers(0, 0) == [0]
    _log(slow, 1, complete=False, acc=0.25)
    _log(slow, 2, loss=0.125)
    _pass(slow, clock, 0)
    assert _sealed(layout) == 2
    rows = [(row.step, row.values) for row in StoredRun(layout.root).rows()]
    assert rows[1:] == [(1, {"loss": 0.5, "acc": 0.25}), (2, {"loss": 0.125})]


def test_a_slow_run_is_few_files_all_the_time(
    slow: RunWriter, layout: Layout, clock: Clock
) -> None:
    """Small parts become larger ones; at its end there is one a stream."""
    seals, most = 40, 0
    for step in range(seals):
        _log(slow, step)
        _pass(slow, clock, SEAL_SECONDS)
        most = max(most, len(layout.part_files("history", 0, 0)))
    assert _sealed(layout) == seals
    assert most <= 6  # the binary digits of how often was sealed
    assert [row.step for row in StoredRun(layout.root).rows()] == list(range(seals))
    slow.close(0, float(seals))
    assert [row.step for row in StoredRun(layout.root).rows()] == list(range(seals))
    files = [path for path in layout.root.rglob("*") if path.is_file()]
    assert len(files) == 4  # run.json, the manifest, history and events


def test_large_parts_are_left_alone_until_the_end(
    slow: RunWriter, layout: Layout, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is large enough is not written again and again."""
    monkeypatch.setattr("wandbkeras.store.seal._LARGE_ROWS", 2)
    for step in range(9):
        _log(slow, step)
        _pass(slow, clock, SEAL_SECONDS)
    assert _rows_of_parts(layout) == [2, 2, 2, 2, 1]


def test_parts_that_are_not_small_are_merged_at_once(
    slow: RunWriter, layout: Layout, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait until together they are large: a fast run writes few rows anew."""
    monkeypatch.setattr("wandbkeras.store.seal._SMALL_ROWS", 0)
    monkeypatch.setattr("wandbkeras.store.seal._LARGE_ROWS", 4)
    _pass(slow, clock, 0)
    seen = []
    for step in range(6):
        _log(slow, step)
        _pass(slow, clock, SEAL_SECONDS)
        seen.append(_rows_of_parts(layout))
    assert seen == [[1], [1, 1], [1, 1, 1], [4], [4, 1], [4, 1, 1]]
    assert [row.step for row in StoredRun(layout.root).rows()] == list(range(6))


def test_a_damaged_part_holds_up_no_sealing(slow: RunWriter, layout: Layout, clock: Clock) -> None:
    """What can't be merged with it is sealed beside it, while the run goes on and at its end."""
    for step in range(2):
        _log(slow, step)
        _pass(slow, clock, SEAL_SECONDS)
    (path,) = layout.part_files("history", 0, 0)
    with flipped(path, path.stat().st_size // 2):
        for step in range(2, 4):
            _log(slow, step)
            _pass(slow, clock, SEAL_SECONDS)
        assert _sealed(layout) == 4
        slow.close(0, 4.0)
        assert layout.segment_numbers(0, 0) == []
    assert [row.step for row in StoredRun(layout.root).rows()] == list(range(4))
