"""A disk that takes no more: training goes on, and what is missing is counted and said."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.disks import FullDisk, InterruptedDisk
from tests.strategies import canonical
from wandbkeras.errors import DiskFullError, UsageError
from wandbkeras.recording import session
from wandbkeras.recording.opening import open_run
from wandbkeras.recording.settings import Settings, resolve
from wandbkeras.store import document, journal
from wandbkeras.store.disk import Disk
from wandbkeras.store.journal_reader import read_journal
from wandbkeras.store.layout import Layout
from wandbkeras.store.manifest import read_manifest
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import ArtifactVersion, RunInfo
from wandbkeras.store.seal import seal
from wandbkeras.store.writer import RunWriter


def _writer(layout: Layout, disk: FullDisk, **options: Any) -> RunWriter:
    return RunWriter(layout, {**describe_process(), "from_step": 0}, disk=disk, **options)


def _log(writer: RunWriter, steps: range) -> None:
    for step in steps:
        writer.history(step, float(step), float(step), {"loss": step / 2}, complete=True)


@pytest.mark.parametrize("why", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("room", [0, 1, 100, 333])
def test_dropped_rows_are_counted_exactly(layout: Layout, room: int, why: int) -> None:
    """Rows recorded and rows counted as dropped add up to the rows logged.

    It does not matter what the disk says: that it is full, that a quota is, or that it is broken.
    """
    disk = FullDisk(why=why)
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


def test_a_segment_is_never_larger_than_what_a_reader_takes(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no segment can be begun for very long, rows are counted; those before are read."""

    class NoFiles(FullDisk):
        refuses = False

        def create(self, path: Path) -> int:
            if self.refuses:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().create(path)

    monkeypatch.setattr(journal, "MAX_SEGMENT_BYTES", 4000)
    disk = NoFiles()
    writer = _writer(layout, disk, segment_bytes=1000)
    disk.refuses = True
    _log(writer, range(100))
    assert 3900 < layout.journal(0, 0, 0).stat().st_size <= 4000
    run = StoredRun(layout.root)
    assert [row.step for row in run.rows()] == list(range(run.row_count))
    assert 10 < run.row_count < 90
    disk.refuses = False
    _log(writer, range(100, 120))
    writer.close(0, 1.0)
    sealed = StoredRun(layout.root)
    assert sealed.folded.dropped == 100 - run.row_count
    assert sealed.row_count == run.row_count + 20
    assert (sealed.state, sealed.damage) == ("finished", [])


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


class _ReadOnlyDisk(FullDisk):
    """Takes nothing at all once it is ``ro``, as a file system that found an error."""

    ro = False

    def _check(self) -> None:
        if self.ro:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def create(self, path: Path) -> int:
        self._check()
        return super().create(path)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._check()
        return super().write(fd, data)

    def cut(self, fd: int, size: int) -> None:
        self._check()
        super().cut(fd, size)

    def make_directory(self, path: Path) -> None:
        self._check()
        super().make_directory(path)

    def replace(self, source: Path, target: Path) -> None:
        self._check()
        super().replace(source, target)

    def remove(self, path: Path) -> None:
        self._check()
        super().remove(path)


def test_a_disk_that_turned_read_only(layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
    """What it took before is readable, what it did not is counted on standard error."""
    disk = _ReadOnlyDisk()
    writer = _writer(layout, disk)
    _log(writer, range(10))
    disk.ro = True
    _log(writer, range(10, 30))
    with writer.counting("artifact 'model'"):
        writer.files.add(Path(__file__))
    writer.close(0, 1.0)
    first, last = capfd.readouterr().err.splitlines()
    assert "Read-only file system" in first
    assert "20 rows and 1 other record are not recorded, nor how the run ended" in last
    run = StoredRun(layout.root)
    assert (run.row_count, run.exit_code, run.damage) == (10, None, [])


_pieces = st.tuples(
    st.just("log"), st.sampled_from(["loss", "acc"]), st.booleans(), st.integers(0, 1)
)
_events = st.tuples(st.sampled_from(["config", "summary"]), st.integers(0, 9))
_rooms = st.tuples(st.just("room"), st.none() | st.integers(0, 150))


@settings(max_examples=60)
@given(actions=st.lists(_pieces | _events | _rooms, max_size=30))
def test_rows_that_lack_something_are_counted_once(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[Any, ...]]
) -> None:
    """However rows come in pieces and the disk fills and empties, the count is exact.

    And config and summary, of the time without room too, are those that the process knows.
    """
    layout = Layout(tmp_path_factory.mktemp("run"))
    document.write(Disk(), layout.info, RunInfo("k3j9x2ab", 1795412700.0).to_document())
    disk = FullDisk()
    writer = _writer(layout, disk)
    logged: dict[int, set[str]] = {}
    step = 0
    for kind, *what in actions:
        if kind == "room":
            disk.room = what[0]
        elif kind == "log":
            name, complete, ahead = what
            step += ahead
            logged.setdefault(step, set()).add(name)
            writer.history(step, 1.0, 1.0, {name: 0.5}, complete=complete)
            step += complete
        else:
            writer.event(kind, {"update": {f"{what[0]}": what[0]}, "remove": []})
    disk.room = None
    writer.close(0, 1.0)
    run = StoredRun(layout.root)
    recorded = {row.step: set(row.values) for row in run.rows()}
    short = [step for step, names in logged.items() if recorded.get(step, set()) != names]
    assert run.folded.dropped == len(short)
    assert run.folded.dropped_events == 0
    assert (run.config, run.summary) == (writer.state.config, writer.state.summary)
    assert run.damage == []


def test_events_are_kept_up_to_a_limit(layout: Layout) -> None:
    """More than a mebibyte of what is no row is counted instead; the oldest are kept."""
    disk = FullDisk()
    writer = _writer(layout, disk)
    disk.room = 0
    for number in range(20):
        body = {"update": {f"{number:02}": "x" * 100_000}, "remove": []}
        writer.event("config", body)
    disk.room = None
    writer.close(0, 1.0)
    run = StoredRun(layout.root)
    assert sorted(run.config) == [f"{number:02}" for number in range(10)]
    assert run.folded.dropped_events == 10


def test_refused_rows_can_be_logged_again(layout: Layout) -> None:
    """With ``on_full="raise"`` only what is never logged again counts, and events never do."""
    disk = FullDisk()
    writer = _writer(layout, disk, on_full="raise")
    _log(writer, range(2))
    disk.room = 0
    for values in ({"loss": 1.0}, {"acc": 1.0}):
        with pytest.raises(DiskFullError, match="No space left on device"):
            writer.history(2, 2.0, 2.0, values, complete=True)
    with pytest.raises(DiskFullError):
        writer.event("config", {"update": {"lr": 1}, "remove": []})
    with pytest.raises(DiskFullError), writer.counting("artifact 'model'"):
        writer.files.add(Path(__file__))
    assert writer.state.config == {}
    assert writer.state.rows == 2
    disk.room = None
    writer.history(2, 2.0, 2.0, {"loss": 1.0, "acc": 1.0}, complete=True)
    disk.room = 0
    with pytest.raises(DiskFullError):
        _log(writer, range(3, 4))
    disk.room = None
    _log(writer, range(4, 5))
    writer.close(1, 5.0)
    run = StoredRun(layout.root)
    assert [row.step for row in run.rows()] == [0, 1, 2, 4]
    assert (run.folded.dropped, run.folded.dropped_events) == (1, 0)


def test_a_heartbeat_that_is_not_taken_is_no_loss(layout: Layout) -> None:
    """A full disk on which nothing is logged costs nothing, also with ``on_full="raise"``."""
    tried = threading.Event()

    class Watched(FullDisk):
        def write(self, fd: int, data: bytes | memoryview) -> int:
            if b"heartbeat" in bytes(data):
                tried.set()
            return super().write(fd, data)

    disk = Watched()
    moment = [0.0]
    writer = _writer(layout, disk, clock=lambda: moment[0], on_full="raise")
    disk.room, moment[0] = 0, 100.0
    assert tried.wait(timeout=60)
    disk.room = None
    writer.close(0, 1.0)
    run = StoredRun(layout.root)
    assert (run.state, run.folded.dropped, run.folded.dropped_events) == ("finished", 0, 0)


def test_beginning_is_all_or_nothing(tmp_path: Path) -> None:
    """Whichever write, rename or new directory of ``init`` fails: an error, and nothing is left."""
    whole = InterruptedDisk()
    open_run(_settings(directory=tmp_path / "whole", id="k3j9x2ab"), disk=whole).finish()
    tried = 0
    for steps in range(whole.done):
        disk = _FailingOnce(steps)
        store = tmp_path / f"store-{steps}"
        store.mkdir()
        try:
            run = open_run(_settings(directory=store, id="k3j9x2ab"), disk=disk)
        except UsageError as error:
            assert "no run can be written there" in str(error)
            assert list(store.iterdir()) == []
            tried += 1
            continue
        disk.steps = -1
        run.finish()
        break
    assert tried > 10


class _FailingOnce(InterruptedDisk):
    """Fails at one step; what is done to clean up works."""

    def step(self, name: str, do: Any, *arguments: Any) -> Any:
        number, self.done = self.done, self.done + 1
        if number == self.steps:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return do(*arguments)


_NAMES = ("id", "project", "entity", "name", "group", "job_type", "tags", "notes", "resume", "mode")


def _settings(environ: dict[str, str] | None = None, **arguments: Any) -> Settings:
    given = {**dict.fromkeys((*_NAMES, "directory")), **arguments}
    return resolve(created=1795412700.0, environ=environ or {}, **given)


@pytest.mark.parametrize("compact", [False, True])
def test_a_sealing_that_fails_leaves_nothing(layout: Layout, compact: bool) -> None:
    """Whichever of its steps fails, what it wrote goes: it may be what fills the disk."""
    writer = _writer(layout, FullDisk(), segment_bytes=4000)
    _log(writer, range(150))
    writer.abandon()
    end = layout.segment_numbers(0, 0)[-1] + 1
    assert end > 2
    seal(Disk(), layout, 0, 0, before=1, compact=False)
    rows = canonical([[row.step, row.values] for row in StoredRun(layout.root).rows()])
    whole = InterruptedDisk()
    copy = shutil.copytree(layout.root, layout.root.with_name("whole"))
    seal(whole, Layout(copy), 0, 0, before=end, compact=compact)
    for steps in range(whole.done):
        copy = Layout(Path(shutil.copytree(layout.root, layout.root.with_name(f"copy-{steps}"))))
        with pytest.raises(OSError, match="No space left"):
            seal(_FailingOnce(steps), copy, 0, 0, before=end, compact=compact)
        manifest = read_manifest(copy, 0, 0)
        named = {part.name for part in manifest.parts}
        there = {path.relative_to(copy.root).as_posix() for path in copy.root.glob("*/*.parquet")}
        # Once the manifest is in place, what it replaced may be left for the next sealing.
        assert named <= there
        if manifest.seals == 1:
            assert named == there
        assert list(copy.root.rglob("*.tmp")) == []
        found = canonical([[row.step, row.values] for row in StoredRun(copy.root).rows()])
        assert found == rows
        shutil.rmtree(copy.root)


class _Measured(Disk):
    """Notes the largest size that the run ever had, after each write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.largest = 0

    def write(self, fd: int, data: bytes | memoryview) -> int:
        taken = super().write(fd, data)
        self.largest = max(self.largest, _size(self.root))
        return taken


def _size(root: Path) -> int:
    found = 0
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # sealing goes on meanwhile
            found += path.stat().st_size if path.is_file() else 0
    return found


@pytest.mark.parametrize("segment_bytes", [1000, 1 << 24])
def test_a_capped_run_is_never_larger(layout: Layout, tmp_path: Path, segment_bytes: int) -> None:
    """After every single write of rows, parts and blobs the run has ``max_bytes`` at most."""
    weights = tmp_path / "weights"
    disk = _Measured(layout.root)
    cap = 100_000
    resume = None
    events = 0
    for attempt in range(2):
        begin = {**describe_process(), "from_step": 1000 * attempt}
        writer = RunWriter(
            layout, begin, disk=disk, max_bytes=cap, segment_bytes=segment_bytes, resume=resume
        )
        writer.event("config", {"update": {"attempt": attempt}, "remove": []})
        writer.confirm()
        for number in range(4):
            with writer.counting("artifact 'weights'"):
                weights.write_bytes(os.urandom(30_000))
                file = writer.files.add(weights)
                writer.artifact(ArtifactVersion("w", "model", files={f"{number}": file}))
        for step in range(1000 * attempt, 1000 * attempt + 1000):
            values = {"loss": step / 3, "text": "x" * (step % 300)}
            writer.history(step, float(step), float(step), values, complete=True)
        resume = writer.state.to_resume_body()
        writer.close(0, 1.0)
        assert _size(layout.root) <= disk.largest <= cap
    run = StoredRun(layout.root)
    events = run.folded.dropped_events
    assert (run.state, run.config, run.damage) == ("finished", {"attempt": 1}, [])
    assert run.row_count + run.folded.dropped == 2000
    assert len(run.artifacts) + events == 8
    assert 2 <= len(run.artifacts) <= 3
    assert list(run.path.rglob("*.tmp")) == []


def test_a_run_at_its_cap_goes_on(layout: Layout) -> None:
    """Attempts that record nothing but that they were there fit many times."""
    cap = 64 << 10
    for _ in range(5):
        writer = RunWriter(layout, {**describe_process(), "from_step": 0}, max_bytes=cap)
        writer.event("config", {"update": {"lr": 0.1}, "remove": []})
        writer.confirm()
        for step in range(2000):
            writer.history(step, 1.0, 1.0, {"loss": step / 3}, complete=True)
        writer.close(3, 1.0)
        assert _size(layout.root) <= cap
    run = StoredRun(layout.root)
    assert (run.state, run.exit_code, len(run.attempts)) == ("failed", 3, 5)
    rows = sum(view.state.rows for view in run.attempts)
    assert rows + run.folded.dropped == 10_000


def test_room_that_is_held_has_no_name(tmp_path: Path) -> None:
    """Held room is taken from the disk, shows nowhere, and ends with the process at the latest."""
    disk = Disk()
    fd = disk.hold(tmp_path, 1 << 20)
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(fd).st_blocks * 512 >= 1 << 20
    other = os.dup(fd)
    disk.release(fd)
    assert os.fstat(other).st_size == 0
    os.close(other)


@pytest.mark.parametrize(
    ("given", "size"),
    [(None, None), (65536, 65536), ("65536", 65536), ("500MB", 500_000_000), ("2GiB", 2 << 30),
     ("1.5 TB", 1_500_000_000_000), ("100kB", 100_000), ("100KB", 100_000), ("64 KiB", 65536),
     ("70000B", 70_000)],
)  # fmt: skip
def test_a_cap_is_a_number_or_text_with_a_unit(given: Any, size: int | None) -> None:
    """The units are those of SI and of IEC; an environment variable means the same."""
    environ = {} if given is None else {"WANDBKERAS_MAX_BYTES": f"{given}"}
    assert _settings(max_bytes=given).max_bytes == size
    assert _settings(environ).max_bytes == size


@pytest.mark.parametrize("given", [0, -1, 65535, True, 1e9, "", "a lot", "5 MB/s", "-1GB", "1mb"])
def test_a_cap_that_is_none(given: Any) -> None:
    """What is no size, or less than any run needs, is refused with what is expected."""
    with pytest.raises(UsageError, match=r"max_bytes: received .*; (expected|a run needs)"):
        _settings(max_bytes=given)


def test_what_happens_on_a_full_disk_can_be_chosen() -> None:
    """``drop`` is the default; the environment may say otherwise, the argument decides."""
    assert _settings({}).on_full == "drop"
    assert _settings({"WANDBKERAS_ON_FULL": "raise"}).on_full == "raise"
    assert _settings({"WANDBKERAS_ON_FULL": "raise"}, on_full="drop").on_full == "drop"
    with pytest.raises(UsageError, match="on_full: received 'stop'; expected one of drop, raise"):
        _settings({"WANDBKERAS_ON_FULL": "stop"})
