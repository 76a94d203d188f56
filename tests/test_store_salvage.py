"""Of a damaged run, exactly what is not damaged is read, and all of the rest is noted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.damage import INFO, KILLED_ROWS, content, copy, flipped, only_the_killed_attempt, record
from tests.disks import InterruptedDisk
from wandbkeras.errors import DamagedError
from wandbkeras.store import document, parquet
from wandbkeras.store.chunks import TAIL, Chunk, chunks_of
from wandbkeras.store.directory import Store
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.seal import seal
from wandbkeras.store.writer import RunWriter

TIMES = ("_timestamp", "_runtime")
GROUP_ROWS = 30
GAPS = range(100, 100 + 10 * GROUP_ROWS, 10)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return record(tmp_path_factory.mktemp("salvage") / "run-20261123_054500-k3j9x2ab")


@pytest.fixture
def run(recorded: Layout, tmp_path: Path) -> Layout:
    """A copy that the test may damage."""
    return copy(recorded, tmp_path / recorded.root.name)


@pytest.fixture
def groups(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A sealed run whose history has row groups, one of which has gaps in its steps."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", GROUP_ROWS)
    writer = RunWriter(layout, {**describe_process(), "from_step": 0})
    for steps in (range(GROUP_ROWS), GAPS, range(400, 400 + GROUP_ROWS)):
        base = steps.start
        for step in steps:
            values = {"loss": step / 7, "name": f"step {step}", "mixed": step if base else "x"}
            with writer.lock:
                writer.history(step, 1000.0 + step, float(step), values, complete=True)
        with writer.lock:
            writer._rotate()
    writer.close(0, 430.0)
    return layout


def _columns(path: Path) -> Iterator[tuple[Chunk, str]]:
    """Yield each column chunk of a part with the name of its column."""
    with pq.ParquetFile(path) as file:
        footer = path.stat().st_size - TAIL - file.metadata.serialized_size
        for chunk in chunks_of(file.metadata, footer):
            yield chunk, file.schema_arrow.names[chunk.column]


def _rows(run: StoredRun) -> list[tuple[int, dict[str, Any]]]:
    return [(row.step, dict(row.values)) for row in run.rows()]


def test_a_damaged_column_costs_its_values_alone(groups: Layout) -> None:
    """All other columns and row groups are read as they were written, whichever byte it is."""
    path = groups.part("history", 0, 0, 3)
    good = _rows(StoredRun(groups.root))
    ranges = ((0, 30), (30, 60), (60, 90))
    for chunk, name in _columns(path):
        if name.startswith("_"):
            continue
        start, end = ranges[chunk.group]
        expected = [
            (step, {k: v for k, v in values.items() if k != name or not start <= index < end})
            for index, (step, values) in enumerate(good)
        ]
        for offset in range(chunk.offset, chunk.offset + chunk.size, 17):
            with flipped(path, offset):
                run = StoredRun(groups.root)
                assert _rows(run) == expected
                (line,) = run.damage
                assert f"column {name!r} of row group {chunk.group}, steps " in line
                assert f"the values of {end - start} rows are lost" in line


def test_steps_without_gaps_are_known_from_the_footer(groups: Layout) -> None:
    """A damaged `_step` costs nothing where the footer leaves no choice, else the row group."""
    path = groups.part("history", 0, 0, 3)
    good = _rows(StoredRun(groups.root))
    for chunk, name in _columns(path):
        if name == "_step":
            with flipped(path, chunk.offset + chunk.size - 1):
                run = StoredRun(groups.root)
                has_gaps = chunk.group == 1
                assert _rows(run) == [row for row in good if not (has_gaps and row[0] in GAPS)]
                assert ("30 rows are lost" in run.damage[0]) == has_gaps
                assert run.row_count == len(good) - GROUP_ROWS * has_gaps


def test_times_are_estimated_within_their_bounds(groups: Layout) -> None:
    """Damage to when rows were logged costs no row: the other clock, or the bounds, say about."""
    path = groups.part("history", 0, 0, 3)
    good = StoredRun(groups.root).history()
    places = {(chunk.group, name): chunk for chunk, name in _columns(path)}
    for name in TIMES:
        with flipped(path, places[1, name].offset + 30):
            run = StoredRun(groups.root)
            assert run.history() == good  # both clocks ran alike here
            assert "30 times are estimated" in run.damage[0]
    first, second = (places[2, name].offset + 30 for name in TIMES)
    with flipped(path, first), flipped(path, second):
        table = StoredRun(groups.root).history()
        assert table.drop_columns(list(TIMES)) == good.drop_columns(list(TIMES))
        for name in TIMES:
            times = table[name].to_pylist()
            assert times == sorted(times)
            assert (times[60], times[-1]) == (good[name][60].as_py(), good[name][-1].as_py())


def test_a_damaged_footer_costs_the_rows_of_its_part(run: Layout) -> None:
    """Without a footer a part can't be read, and the manifest says how many rows it held."""
    path = run.part("history", 1, 0, 0)
    size = path.stat().st_size
    for offset in (size - 1, size - 5, size - 100, size - 600):
        with flipped(path, offset):
            stored = StoredRun(run.root)
            assert [row.step for row in stored.rows()] == list(range(KILLED_ROWS))
            assert "the footer: its 6 rows are lost" in stored.damage[0]
            assert stored.summary["best"] == 0.5  # of the manifest


def test_a_missing_part_costs_its_rows(run: Layout) -> None:
    """The rest of the run is read, and the part is named with the count of its rows."""
    run.part("history", 1, 0, 0).unlink()
    stored = StoredRun(run.root)
    assert [row.step for row in stored.rows()] == list(range(KILLED_ROWS))
    (line,) = stored.damage
    assert line.startswith("history/001-000-000.parquet")
    assert "missing, with 6 rows" in line
    with pytest.raises(DamagedError, match=r"history/001-000-000\.parquet: missing"):
        StoredRun(run.root, strict=True).history()


@pytest.mark.parametrize("stream", ["histograms", "events"])
def test_damage_to_another_stream_costs_the_history_nothing(run: Layout, stream: str) -> None:
    """Every column chunk of the other streams, damaged, leaves the rows and says what it costs."""
    path = run.part(stream, 1, 0, 0)
    rows, events = content(StoredRun(run.root))[:2]
    for chunk, name in _columns(path):
        with flipped(path, chunk.offset + chunk.size // 2):
            stored = StoredRun(run.root)
            got_rows, got_events = content(stored)[:2]
            assert [row[:4] for row in got_rows] == [row[:4] for row in rows]
            is_restored = name in ("_step", "_attempt") or (name in TIMES and stream != "events")
            is_part = name not in ("_step", "key", "values", "bins")
            if stream == "histograms":
                assert (got_rows == rows) == is_part  # these have no statistics
                assert got_events == events
            else:
                assert got_rows == rows
                assert len(got_events) == (len(events) if is_restored else 2)
            assert len(stored.damage) == 1


def test_statistics_of_histograms_are_all_there_or_none(layout: Layout) -> None:
    """A histogram that lost one of its statistics keeps its counts and edges."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0})
    value = {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}
    counts = {"count": 3, "nan": 0, "posinf": 0, "neginf": 0, "zero": 1}
    stats = {**counts, "min": 0.0, "max": 1.0, "mean": 0.5, "std": 0.5}
    with writer.lock:
        writer.history(0, 0.0, 0.0, {"w": {**value, "stats": stats}}, complete=True)
    writer.close(0, 1.0)
    path = layout.part("histograms", 0, 0, 0)
    for chunk, name in _columns(path):
        if name in stats:
            with flipped(path, chunk.offset + chunk.size - 1):
                assert _rows(StoredRun(layout.root)) == [(0, {"w": value})]
    assert _rows(StoredRun(layout.root)) == [(0, {"w": {**value, "stats": stats}})]


def test_a_changed_byte_of_a_document_costs_nothing(run: Layout) -> None:
    """`run.json` and the manifest are made anew from what else the run holds of them."""
    good = content(StoredRun(run.root))
    for path in (run.info, run.manifest(1, 0)):
        for offset in range(0, path.stat().st_size, 23):
            with flipped(path, offset):
                stored = StoredRun(run.root)
                assert content(stored) == good
                (line,) = stored.damage
                assert line.startswith(path.relative_to(run.root).as_posix())
                with pytest.raises(DamagedError):
                    content(StoredRun(run.root, strict=True))


def test_a_run_without_its_document_is_a_run(run: Layout) -> None:
    """Without `run.json` a store still lists the run, and its writers say who it is."""
    run.info.unlink()
    (stored,) = Store(run.root.parent).runs()
    assert stored.info == INFO
    assert "run.json" in stored.damage[0]
    assert Store(run.root.parent).run("k3j9x2ab").row_count == 9


def test_a_run_without_writers_is_known_by_its_directory(layout: Layout) -> None:
    """The directory's name has the id and the time; without it nothing is left to tell."""
    with flipped(layout.info, 50):
        info = StoredRun(layout.root).info
        assert (info.id, info.created, info.project) == ("k3j9x2ab", 1795412700.0, None)
        moved = layout.root.rename(layout.root.with_name("renamed"))
        with pytest.raises(DamagedError, match="checksum does not match"):
            StoredRun(moved)
        moved.rename(layout.root)


def test_a_changed_byte_of_a_journal_costs_its_record(run: Layout) -> None:
    """The rows of all other records are read, whichever byte it is."""
    only_the_killed_attempt(run)
    path = run.journal(0, 0, 0)
    steps = [row.step for row in StoredRun(run.root).rows()]
    for offset in range(path.stat().st_size):
        with flipped(path, offset):
            stored = StoredRun(run.root)
            left = [row.step for row in stored.rows()]
            assert len(left) >= len(steps) - 1
            assert set(left) <= set(steps)
            assert len(stored.damage) == 1


def test_a_damaged_artifact_is_left_out(run: Layout) -> None:
    """The versions that can be read are there; a damaged blob is no file."""
    (version,) = StoredRun(run.root).artifacts
    (file,) = version.files.values()
    with flipped(run.artifact(1, 0, 0), 100):
        stored = StoredRun(run.root)
        assert stored.artifacts == []
        assert "artifacts/001-000-0000.json" in stored.damage[0]
    with (
        flipped(run.blob(file.sha256), 3),
        pytest.raises(DamagedError, match="SHA-256 does not match"),
    ):
        StoredRun(run.root).blob(file.sha256)
    assert StoredRun(run.root).blob(file.sha256).read_bytes() == b"weights"


@pytest.fixture
def dead(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A run whose process ended with several segments, some of them sealed."""
    monkeypatch.setattr("wandbkeras.store.writer.SYNC_SECONDS", 3600.0)
    process = {**describe_process(), "host": "elsewhere", "from_step": 0}
    writer = RunWriter(layout, process, clock=iter(range(10_000)).__next__)
    writer.event("metric", {"name": "loss", "summary": ["min", "mean"]})
    histogram = {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}
    for step in range(12):
        values = {"loss": 1 / (step + 1), **({"w": histogram} if step % 4 == 0 else {})}
        writer.event("config", {"update": {"n": step}, "remove": []})
        with writer.lock:
            writer.history(step, float(writer._clock()), float(step), values, complete=True)
            if step % 3 == 2:
                writer._rotate()
    writer.abandon()
    seal(Disk(), layout, 0, 0, before=1, compact=False)
    return layout


@pytest.mark.parametrize("is_missing", [True, False])
@pytest.mark.parametrize("compact", [True, False])
def test_a_manifest_is_made_anew_whatever_an_interrupted_sealing_left(
    dead: Layout, tmp_path: Path, compact: bool, is_missing: bool
) -> None:
    """Parts that were replaced, or are not finished, are no second copy of their records."""
    good = content(StoredRun(dead.root))
    whole = InterruptedDisk()
    seal(whole, copy(dead, tmp_path / "whole"), 0, 0, before=3, compact=compact)
    for steps in range(whole.done):
        layout = copy(dead, tmp_path / "copy" / dead.root.name)
        with pytest.raises(OSError, match="interrupted"):
            seal(InterruptedDisk(steps), layout, 0, 0, before=3, compact=compact)
        manifest = layout.manifest(0, 0)
        data = manifest.read_bytes()
        manifest.write_bytes(data.replace(b'"seals"', b'"seala"'))
        if is_missing:
            manifest.unlink()
        stored = StoredRun(layout.root)
        assert content(stored) == good
        assert "manifest-000.json" in stored.damage[0]
        shutil.rmtree(layout.root)


def test_damage_to_a_manifest_and_to_a_part_costs_the_part(run: Layout) -> None:
    """Without a manifest to say which chunks are sound, a part that can't be read is lost."""
    part = run.part("history", 1, 0, 0)
    with flipped(run.manifest(1, 0), 300), flipped(part, part.stat().st_size - 1):
        stored = StoredRun(run.root)
        assert [row.step for row in stored.rows()] == list(range(KILLED_ROWS))
        assert {line.split(":")[0] for line in stored.damage} == {
            "attempts/001/manifest-000.json",
            "history/001-000-000.parquet",
        }


def test_what_was_made_to_be_no_part_of_a_run_is_refused(run: Layout) -> None:
    """A checksum that is right says that nothing was damaged: such a document is not replaced."""
    members = document.read(run.manifest(1, 0))
    document.write(Disk(), run.manifest(1, 0), {**members, "parts": None})
    with pytest.raises(DamagedError, match="not a manifest"):
        StoredRun(run.root).rows()


def test_a_live_run_whose_parts_are_replaced_is_read(layout: Layout) -> None:
    """Parts that a compacting writer removed are not called missing."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0})
    for step in range(3):
        with writer.lock:
            writer.history(step, 0.0, 0.0, {"loss": 0.5}, complete=True)
            writer._rotate()
    seal(Disk(), layout, 0, 0, before=1, compact=False)
    seal(Disk(), layout, 0, 0, before=2, compact=False)
    opened = StoredRun(layout.root)
    assert len(opened.attempts) == 1
    writer.close(0, 1.0)
    assert [row.step for row in opened.rows()] == [0, 1, 2]
    assert [event.type for event in opened.events()][-1] == "finish"
    assert opened.damage == []


def test_columns_that_are_read_alone_are_salvaged_alone(run: Layout) -> None:
    """Asking for some metrics of a damaged part gives those and the index."""
    path = run.part("history", 1, 0, 0)
    (chunk,) = [chunk for chunk, name in _columns(path) if name == "ok"]
    good = StoredRun(run.root).history(columns=["loss"])
    with flipped(path, chunk.offset + 3):
        table = StoredRun(run.root).history(columns=["loss"])
        assert isinstance(table, pa.Table)
        assert table == good
