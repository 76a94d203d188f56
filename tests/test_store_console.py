"""Lines of a console in a run: bounded, sealed, and found again when the process was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Disk
from tests.disks import FullDisk
from tests.format_contents import LINE, read_run
from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.console import ConsoleFiles, Line, read_console
from wandbkeras.store.layout import Layout
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.repair import repair_run
from wandbkeras.store.schema import RunInfo
from wandbkeras.store.verify import verify_run
from wandbkeras.store.writer import RunWriter

MAX_BYTES = 1_000_000


def line(number: int, text: str = "") -> Line:
    return Line(number, "stdout", 1000.0 + number, text or f"line {number}")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A run that was begun."""
    layout = Layout(tmp_path / "run-20261123_054500-k3j9x2ab")
    layout.root.mkdir()
    document.write(Disk(), layout.info, RunInfo("k3j9x2ab", 1795412700.0).to_document())
    return layout


@pytest.fixture
def writer(layout: Layout) -> RunWriter:
    return RunWriter(layout, {"host": "node-17", "pid": 1}, clock=lambda: 1000.0)


def texts(run: StoredRun) -> list[tuple[int, str]]:
    table = run.console()
    return list(zip(table["line"].to_pylist(), table["text"].to_pylist(), strict=True))


def test_the_last_state_of_a_line_counts(layout: Layout, writer: RunWriter) -> None:
    """Before and after it is sealed, which leaves one part and no segment."""
    files = ConsoleFiles(Disk(), layout, 0, 0, MAX_BYTES)
    files.write([line(0), line(1, " 10%")])
    files.write([Line(1, "stdout", 2000.0, "100%"), Line(2, "stderr", 2000.0, "größe")])
    expected = [(0, "line 0"), (1, "100%"), (2, "größe")]
    assert texts(StoredRun(layout.root, strict=True)) == expected
    files.close()
    writer.close(0, 1.0)
    run = StoredRun(layout.root, strict=True)
    assert texts(run) == expected
    assert run.console().to_pylist()[2] == {
        "_timestamp": 2000.0, "_attempt": 0, "_writer": 0, "line": 2,
        "stream": "stderr", "text": "größe",
    }  # fmt: skip
    assert not layout.console_numbers(0, 0)
    assert [part.stream for part in run.attempts[0].manifest.parts].count("console") == 1
    assert not verify_run(layout.root).damage


def test_the_beginning_and_the_end_are_kept(layout: Layout) -> None:
    """However much is printed, all files together have no more than was allowed."""
    layout.attempt(0).mkdir(parents=True)
    files = ConsoleFiles(Disk(), layout, 0, 0, MAX_BYTES)
    for start in range(0, 30_000, 100):
        files.write([line(number, "x" * 95) for number in range(start, start + 100)])
        assert sum(path.stat().st_size for path in layout.attempt(0).iterdir()) <= MAX_BYTES
    files.close()
    numbers = list(read_console(layout, 0, 0).lines)
    assert len(layout.console_numbers(0, 0)) == 3
    assert numbers[:4_000] == list(range(4_000))
    assert numbers[-2_000:] == list(range(28_000, 30_000))


def test_a_killed_process_leaves_what_it_had_written(layout: Layout, writer: RunWriter) -> None:
    """A frame that was being written is no damage."""
    files = ConsoleFiles(Disk(), layout, 0, 0, MAX_BYTES)
    files.write([line(0)])
    files.close()
    writer.abandon()
    path = layout.console(0, 0, 0)
    path.write_bytes(path.read_bytes() + b"\x40\0\0\0\1\2")
    assert texts(StoredRun(layout.root)) == [(0, "line 0")]
    assert not verify_run(layout.root).damage


def test_damage_is_found_and_repaired(layout: Layout, writer: RunWriter) -> None:
    """What is sound is sealed, the damaged original is kept, and then the run is sound."""
    files = ConsoleFiles(Disk(), layout, 0, 0, MAX_BYTES)
    for number in range(3):
        files.write([line(number)])
    files.close()
    writer.abandon()
    path = layout.console(0, 0, 0)
    data = bytearray(path.read_bytes())
    data[data.index(b"line 1")] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError):
        StoredRun(layout.root, strict=True).console()
    found = verify_run(layout.root).damage
    assert [damage.path for damage in found] == [Path("attempts/000/console-000-000.wbk")]
    assert repair_run(layout.root).moved == ["damaged/attempts-000-console-000-000.wbk"]
    run = StoredRun(layout.root, strict=True)
    assert texts(run) == [(0, "line 0"), (2, "line 2")]
    assert not verify_run(layout.root).damage


def test_damage_to_a_sealed_console_costs_only_it(layout: Layout, writer: RunWriter) -> None:
    """The rest of the run is as it was, and a repair leaves a sound one."""
    files = ConsoleFiles(Disk(), layout, 0, 0, MAX_BYTES)
    files.write([line(0)])
    files.close()
    writer.history(0, 1.0, 1.0, {"loss": 0.5}, True)
    writer.close(0, 1.0)
    (part,) = (layout.root / "console").iterdir()
    data = bytearray(part.read_bytes())
    data[8] ^= 1
    part.write_bytes(data)
    assert [damage.path.parts[0] for damage in verify_run(layout.root).damage] == ["console"]
    assert repair_run(layout.root).rows_lost == 0
    run = StoredRun(layout.root, strict=True)
    assert (texts(run), run.row_count) == ([], 1)
    assert not verify_run(layout.root).damage


@pytest.mark.parametrize(
    "record", [["console"], ["console", 1], ["console", [[0, "stdin", 1.0, "x"]]]]
)
def test_a_record_of_another_shape_is_refused(layout: Layout, record: list[object]) -> None:
    """Its checksum is right, so somebody made it so."""
    from wandbkeras.store.journal import JournalWriter, encode_frame

    layout.attempt(0).mkdir(parents=True)
    journal = JournalWriter(Disk(), layout.console(0, 0, 0), {"attempt": 0, "writer": 0})
    journal.append(encode_frame(record))
    journal.close()
    with pytest.raises(DamagedError, match="makes no sense"):
        read_console(layout, 0, 0)


def test_the_reader_of_the_document_finds_the_same_lines(layout: Layout, writer: RunWriter) -> None:
    """Before and after they are sealed."""
    files = ConsoleFiles(Disk(), layout, 0, 0, MAX_BYTES)
    for start in range(0, 20_000, 100):
        files.write([line(number, "größe " * 12) for number in range(start, start + 100)])
    files.write([Line(19_999, "stderr", 5.5, "the end")])
    files.close()
    before = read_run(layout.root)["console"]
    table = StoredRun(layout.root).console().select(["_attempt", "_writer", *LINE]).to_pylist()
    assert [list(line.values()) for line in table] == before
    writer.close(0, 1.0)
    assert read_run(layout.root)["console"] == before
    assert before[-1] == [0, 0, 19_999, "stderr", 5.5, "the end"]


def test_a_disk_that_was_full_for_a_while_leaves_a_gap(layout: Layout) -> None:
    """However often it was tried; what comes afterwards is recorded."""
    layout.attempt(0).mkdir(parents=True)
    disk = FullDisk()
    files = ConsoleFiles(disk, layout, 0, 0, MAX_BYTES)
    for number in range(100):
        disk.room = 0 if 40 <= number < 60 else None
        try:
            files.write([line(number, "x" * 25_000)])
        except OSError:
            assert disk.room == 0
    files.close()
    numbers = list(read_console(layout, 0, 0).lines)
    assert numbers[0] == 0 and numbers[-9:] == list(range(91, 100))
