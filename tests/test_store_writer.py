"""The writer: what it recorded reads the same while it runs, when sealed, and when rotated."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import canonical, rows
from wandbkeras.store import document
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.manifest import read_manifest
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import RunInfo
from wandbkeras.store.writer import RunWriter

# What a run records unless something is printed.
RECORDED = ("history", "histograms", "events")
HISTOGRAM = {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}


def _writer(layout: Layout, **options: Any) -> RunWriter:
    return RunWriter(layout, {**describe_process(), "from_step": 0}, **options)


def _log(writer: RunWriter, contents: list[dict[str, Any]]) -> None:
    for step, values in enumerate(contents):
        writer.history(step, 100.0 + step, 0.5 * step, values, complete=True)


def _read(layout: Layout) -> Any:
    return canonical(
        [(r.step, r.timestamp, r.runtime, r.values) for r in StoredRun(layout.root).rows()]
    )


def _expected(contents: list[dict[str, Any]]) -> Any:
    return canonical([(i, 100.0 + i, 0.5 * i, values) for i, values in enumerate(contents)])


def _new_layout(directory: Path) -> Layout:
    root = directory / f"run-{len(list(directory.iterdir()))}"
    root.mkdir()
    document.write(Disk(), Layout(root).info, RunInfo("k3j9x2ab", 0.0).to_document())
    return Layout(root)


@settings(max_examples=40)
@given(contents=st.lists(rows, max_size=12), segment_bytes=st.sampled_from([50, 400, 1 << 24]))
def test_rows_read_the_same_while_running_and_when_sealed(
    tmp_path: Path, contents: list[dict[str, Any]], segment_bytes: int
) -> None:
    """A second reader sees every row at once; sealing and rotating change none."""
    layout = _new_layout(tmp_path)
    writer = _writer(layout, segment_bytes=segment_bytes)
    _log(writer, contents)
    assert _read(layout) == _expected(contents)
    assert StoredRun(layout.root).state == "running"
    writer.close(0, 9.0)
    assert _read(layout) == _expected(contents)
    sealed = StoredRun(layout.root)
    assert (sealed.state, sealed.row_count, sealed.damage) == ("finished", len(contents), [])


def test_a_finished_run_is_one_part_a_stream_and_nothing_else(layout: Layout) -> None:
    """However many segments there were, closing leaves no journal and no temporary file."""
    writer = _writer(layout, segment_bytes=100)
    _log(writer, [{"loss": 0.5, "w": HISTOGRAM}] * 50)
    assert len(layout.segment_numbers(0, 0)) > 10
    writer.close(0, 1.0)
    seals = read_manifest(layout, 0, 0).seals
    left = sorted(path.relative_to(layout.root).as_posix() for path in layout.root.rglob("*.*"))
    assert left == [
        "attempts/000/manifest-000.json",
        *sorted(f"{stream}/000-000-{seals - 1:03d}.parquet" for stream in RECORDED),
        "run.json",
    ]


def _open_files() -> set[str]:
    """Return the paths of the files that this process holds open."""
    links = Path("/proc/self/fd").iterdir()
    return {str(link.readlink()) for link in links if link.is_symlink()}


def test_a_closed_writer_holds_no_file(layout: Layout) -> None:
    """Every segment's descriptor is closed, also of those that were never sealed one by one."""
    before = _open_files()
    writer = _writer(layout, segment_bytes=100)
    _log(writer, [{"loss": 0.5}] * 100)
    writer.close(0, 1.0)
    assert _open_files() <= before


def test_full_segments_are_sealed_while_the_run_goes_on(layout: Layout) -> None:
    """The background thread turns retired segments into parts; the rows stay as they are."""

    class Watched(Disk):
        def __init__(self) -> None:
            self.removed = threading.Event()

        def remove(self, path: Path) -> None:
            super().remove(path)
            if path.suffix == ".wbk" and path.stem[-3:] > "000":  # the first has no rows
                self.removed.set()

    disk = Watched()
    writer = _writer(layout, disk=disk, segment_bytes=100)
    contents = [{"loss": 0.5 + i, "w": HISTOGRAM} for i in range(30)]
    _log(writer, contents)
    assert disk.removed.wait(timeout=60)
    assert list((layout.root / "history").glob("000-000-*.parquet"))
    assert _read(layout) == _expected(contents)
    writer.close(0, 1.0)
    assert _read(layout) == _expected(contents)


def test_a_quiet_run_says_that_it_lives(layout: Layout) -> None:
    """A heartbeat is recorded when nothing else was for a while."""
    writer: RunWriter
    beaten = threading.Event()

    class Watched(Disk):
        def write(self, fd: int, data: bytes | memoryview) -> int:
            if b"heartbeat" in bytes(data):
                beaten.set()
            return super().write(fd, data)

    moments = iter([0.0, 100.0])
    writer = _writer(layout, disk=Watched(), clock=lambda: next(moments, 101.0))
    assert beaten.wait(timeout=60)
    writer.abandon()
    assert StoredRun(layout.root).folded.last_seen == 101.0


def test_a_writer_beside_others_holds_back_no_row(layout: Layout) -> None:
    """Once it has said that it leaves the history to them, unless it logs rows all the same."""
    first = _writer(layout)
    beside = _writer(layout, attempt=0)
    first.history(0, 1.0, 0.1, {"a": 1}, complete=True)
    assert StoredRun(layout.root).settled_steps == 0
    beside.event("beside", {})
    assert StoredRun(layout.root).settled_steps == 1
    first.history(1, 2.0, 0.2, {"a": 2}, complete=True)
    assert StoredRun(layout.root).settled_steps == 2
    beside.history(0, 2.0, 0.2, {"b": 1}, complete=True)
    assert StoredRun(layout.root).settled_steps == 1
    for writer in (first, beside):
        writer.close(0, 1.0)
    assert StoredRun(layout.root).settled_steps is None


def test_pieces_of_one_step_are_one_row(layout: Layout) -> None:
    """An uncommitted row grows, has the time of its last piece, and ends where the next begins."""
    writer = _writer(layout)
    writer.history(3, 1.0, 0.1, {"a": 1, "b": 1}, complete=False)
    writer.history(3, 2.0, 0.2, {"b": 2}, complete=False)
    assert _read(layout) == [[3, 2.0, 0.2, {"a": 1, "b": 2}]]
    assert StoredRun(layout.root).settled_steps == 3
    writer.history(4, 3.0, 0.3, {"c": 1}, complete=True)
    writer.history(9, 4.0, 0.4, {"d": 1}, complete=False)
    writer.close(0, 1.0)
    assert _read(layout) == [
        [3, 2.0, 0.2, {"a": 1, "b": 2}],
        [4, 3.0, 0.3, {"c": 1}],
        [9, 4.0, 0.4, {"d": 1}],
    ]
    assert StoredRun(layout.root).summary == {"a": 1, "b": 2, "c": 1, "d": 1}


def test_two_writers_of_one_run_have_an_attempt_each(layout: Layout) -> None:
    """Neither writes into the other's files, and the rows of both are kept."""
    first = _writer(layout)
    second = RunWriter(layout, {**describe_process(), "from_step": 1})
    assert (first.attempt, second.attempt) == (0, 1)
    first.history(0, 1.0, 0.0, {"a": 1}, complete=True)
    second.history(1, 2.0, 0.0, {"a": 2}, complete=True)
    second.close(0, 1.0)
    first.close(0, 1.0)
    rows_read = list(StoredRun(layout.root).rows())
    assert [(r.attempt, r.step, r.values) for r in rows_read] == [
        (0, 0, {"a": 1}),
        (1, 1, {"a": 2}),
    ]


def test_an_attempt_directory_taken_meanwhile_is_passed_over(layout: Layout) -> None:
    """Two processes that count the attempts at the same moment still own one each."""

    class Beaten(Disk):
        beaten = False

        def make_directory(self, path: Path) -> None:
            if path.parent == layout.attempts and not self.beaten:
                self.beaten = True
                path.mkdir()
            super().make_directory(path)

    writer = _writer(layout, disk=Beaten())
    assert writer.attempt == 1
    writer.close(0, 0.0)


@pytest.mark.parametrize("exit_code", [0, 1, 3, 130])
def test_the_exit_code_is_recorded(layout: Layout, exit_code: int) -> None:
    """A run is finished with code 0 and failed with any other."""
    _writer(layout).close(exit_code, 2.5)
    run = StoredRun(layout.root)
    assert run.exit_code == exit_code
    assert run.state == ("failed" if exit_code else "finished")
    assert run.folded.runtime == 2.5
