"""Power cuts: after any steps, with what was not synced lost or torn, a valid run is left."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from scripts.crash_processes import in_a_child
from scripts.crash_writers import values
from tests.disks import RecordingDisk, Step, SteppedDisk
from tests.power_cuts import Case, cases, judge_all, lay, moments, volume_after
from tests.test_store_crash import in_a_forking_process, script
from wandbkeras.recording import opening
from wandbkeras.store import segments, writer
from wandbkeras.store.disk import write_file
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.writer import RunWriter

_NEW_ROWS, _RESUMED_ROWS = 8, 3

# --- power cuts while recording -------------------------------------------------------------------


def record(store: Path, rows: int, first_file: int, notes: Path) -> None:
    """Run the script and leave its steps in the file ``notes``."""
    disk = RecordingDisk(store, first_file)
    script(store, disk, lambda **mark: disk.mark(mark), rows)
    notes.write_bytes(pickle.dumps(disk.steps))


def recorded(store: Path, rows: int, first_file: int = 1) -> list[Step]:
    """Return the steps of the script, which another process runs in ``store``."""
    notes = store.with_suffix(".steps")
    in_a_child(record, store, rows, first_file, notes)
    steps: list[Step] = pickle.loads(notes.read_bytes())
    return steps


def all_cases(folder: Path) -> Iterator[Case]:
    """Yield power cuts of a new run at every step, and of one that was killed and went on."""
    random = Random(1)
    whole = folder / "whole"
    whole.mkdir()
    steps = recorded(whole, _NEW_ROWS)
    yield from cases("new", steps, list(moments(steps)), random)
    # Killed where something was not durable yet, and what goes on relies on it.
    changes = ("make_directory", "replace", "remove")
    for killed in (n for n, step in enumerate(steps, start=1) if step.name in changes):
        store = folder / f"killed-{killed}"
        lay(volume_after(steps[:killed]).after("all", "all", random), store)
        both = [*steps[:killed], *recorded(store, _RESUMED_ROWS, first_file=1000)]
        later = [done for done in moments(both) if done > killed]
        prefixes = random.sample(later, min(4, len(later)))
        yield from cases(f"killed after {killed}", both, prefixes, random)


def cut_power_everywhere(folder: Path) -> dict[str, Any]:
    """Judge every power cut; for a process of its own, which is forked."""
    writer.SYNC_SECONDS = 1e6
    segments.SEAL_SECONDS = 0.0
    opening._PATIENCE_S = 0.05
    return judge_all(folder, all_cases(folder))


def cut_power_of_a_disk_that_does_not_sync(folder: Path) -> dict[str, Any]:
    """Judge power cuts after the end of a run, when one kind of sync was never done."""
    writer.SYNC_SECONDS = 1e6
    whole = folder / "whole"
    whole.mkdir()
    steps = recorded(whole, _NEW_ROWS)
    found = {}
    for name in ("sync", "sync_directory"):
        fewer = [step for step in steps if step.name != name]
        (folder / name).mkdir()
        found[name] = judge_all(folder / name, cases(name, fewer, [len(fewer)], Random(1)))
    return found


def test_whatever_a_power_cut_leaves_is_a_valid_run_with_all_that_was_synced(
    tmp_path: Path,
) -> None:
    """After every step; the names and bytes that were not synced are lost, torn or kept."""
    found = in_a_forking_process(cut_power_everywhere, tmp_path)
    assert found["faults"] == []
    assert found["cases"] > 400


def test_a_sync_that_is_not_done_shows(tmp_path: Path) -> None:
    """The judgement that the test above stands on notices that something was not durable."""
    found = in_a_forking_process(cut_power_of_a_disk_that_does_not_sync, tmp_path)
    assert found["sync"]["faults"]
    assert found["sync_directory"]["faults"]


def test_a_power_cut_takes_what_was_not_synced(tmp_path: Path) -> None:
    """A file replaced in the right order is the old one or the new one; else it may be empty."""
    disk = RecordingDisk(tmp_path)
    path = tmp_path / "file"
    write_file(disk, path, b"old")
    before = len(disk.steps)
    write_file(disk, path, b"new")

    def left(steps: Sequence[Step]) -> set[bytes | None]:
        volume, random = volume_after(steps), Random(1)
        return {volume.after("any", "any", random).get(Path("file")) for _ in range(50)}

    for done in range(before, len(disk.steps)):
        assert left(disk.steps[:done]) <= {b"old", b"new"}
    assert left(disk.steps) == {b"new"}
    unsynced = [step for step in disk.steps if step.name != "sync"]
    assert b"" in left(unsynced)
    assert left(disk.steps[: before - 1]) == {None, b"old"}  # the directory was not synced


# --- one second behind ----------------------------------------------------------------------------


class CountedDisk(SteppedDisk):
    """Notes the size of each file that is synced, at that moment; syncs are not done."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[int] = []
        self.more = threading.Condition()

    def step(self, name: str, do: Any, *arguments: Any) -> Any:
        if name != "sync":
            return None if name == "sync_directory" else do(*arguments)
        with self.more:
            self.synced.append(os.fstat(arguments[0]).st_size)
            self.more.notify_all()
        return None

    def wait_for_syncs(self, more: int, timeout: float) -> bool:
        """Return whether so many more syncs began in time."""
        enough = len(self.synced) + more
        with self.more:
            return self.more.wait_for(lambda: len(self.synced) >= enough, timeout)


class Paced(threading.Event):
    """Lets the writer's thread wait until the test says that its time is over; notes how long."""

    waits: ClassVar[list[float | None]] = []
    is_waiting = threading.Semaphore(0)
    is_over = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        if threading.current_thread().name != "wandbkeras-writer":
            return super().wait(timeout)
        self.waits.append(timeout)
        self.is_waiting.release()
        self.is_over.acquire()
        return self.is_set()

    def set(self) -> None:
        super().set()
        self.is_over.release()


def _begin(layout: Layout, disk: SteppedDisk, **options: Any) -> RunWriter:
    return RunWriter(layout, {**describe_process(), "from_step": 0}, disk=disk, **options)


def _log(recorder: RunWriter, step: int) -> None:
    with recorder.lock:
        recorder.history(step, float(step), float(step), values(step), True)


def test_every_record_is_synced_a_second_later(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's thread does nothing but wait a second and sync all that was recorded till then.

    So a record is durable a second after it was logged, and the time that a sync takes.
    """
    paced = SimpleNamespace(**{**vars(threading), "Event": Paced})
    monkeypatch.setattr(writer, "threading", paced)
    disk = CountedDisk()
    recorder = _begin(layout, disk)
    Paced.is_waiting.acquire()
    for step in range(0, 50, 10):
        for row in range(step, step + 10):
            _log(recorder, row)
        size = layout.journal(0, 0, 0).stat().st_size
        before = len(disk.synced)
        Paced.is_over.release()
        Paced.is_waiting.acquire()
        assert disk.synced[before:] == [size]
    recorder.close(0, 1.0)
    assert set(Paced.waits) == {1.0}


def test_sealing_holds_up_no_sync(layout: Layout) -> None:
    """However long it takes to seal a segment, the next one is synced each second."""

    class Slow(CountedDisk):
        waited: bool | None = None

        def create(self, path: Path) -> int:
            if path.suffix == ".tmp" and path.parent.name == "history" and self.waited is None:
                self.waited = False
                self.waited = self.wait_for_syncs(2, timeout=120.0)
            return super().create(path)

    disk = Slow()
    recorder = _begin(layout, disk, segment_bytes=1_000)
    for step in range(10_000):
        _log(recorder, step)
        disk.wait_for_syncs(1, timeout=0.05)
        if disk.waited is not None and disk.waited:
            break
    recorder.close(0, 1.0)
    assert disk.waited
    assert StoredRun(layout.root).row_count == step + 1
