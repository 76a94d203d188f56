"""Power cuts: after any steps, with what was not synced lost or torn, a valid run is left."""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import pickle
import shutil
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from scripts.crash import CONFIG, RUN_ID, in_a_child, settings, values
from tests.disks import Kept, KillingDisk, RecordingDisk, Step, SteppedDisk, Volume
from tests.test_store_crash import REFUSED, SEGMENT_BYTES, in_a_forking_process, script
from wandbkeras.errors import NotFoundError
from wandbkeras.recording import opening
from wandbkeras.recording.opening import open_run
from wandbkeras.store import writer
from wandbkeras.store.disk import write_file
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import Store, StoredRun
from wandbkeras.store.verify import verify_run
from wandbkeras.store.writer import RunWriter

_NEW_ROWS, _RESUMED_ROWS = 8, 3
# What a power cut keeps of the names and of the data that were not synced.
_CUTS: tuple[tuple[Kept, Kept], ...] = (
    ("synced", "synced"),
    ("all", "synced"),
    ("synced", "all"),
    ("any", "any"),
    ("any", "any"),
)


# --- what must have survived ----------------------------------------------------------------------


@dataclass
class Promises:
    """From which number of steps on the run, each row and each artifact is durable.

    ``earlier`` are those of processes that were killed: the one that goes on promises nothing more.
    """

    begun: float = math.inf
    finished: float = math.inf
    rows: dict[int, float] = field(default_factory=dict)
    artifacts: list[float] = field(default_factory=list)
    earlier: Promises | None = None


def promises(steps: Sequence[Step]) -> Promises:
    """Return what the steps promise: a row is durable once its journal was synced after it."""
    made = Promises()
    journals: set[int] = set()
    last_write: tuple[int, int] = (0, 0)
    for number, step in enumerate(steps):
        if step.name == "create" and step.path.suffix == ".wbk":
            journals.add(step.file)
        elif step.name == "write" and step.file in journals:
            last_write = number, step.file
        elif step.name == "mark":
            _note(made, step.mark, number + 1, _synced_after(steps, *last_write))
    return made


def _synced_after(steps: Sequence[Step], number: int, file: int) -> float:
    for later in range(number + 1, len(steps)):
        if steps[later].name == "sync" and steps[later].file == file:
            return later + 1
    return math.inf


def _note(made: Promises, mark: dict[str, int], now: int, synced: float) -> None:
    if "begun" in mark and made.begun < math.inf:  # of the process that goes on
        made.earlier = replace(made)
        made.rows, made.artifacts = {}, []
    elif "begun" in mark:
        made.begun = now
    if "artifacts" in mark:
        made.artifacts.append(synced)
    row = mark.get("rows", 0) - 1
    if row >= 0 and row != REFUSED:
        made.rows[row] = synced
    if "synced" in mark or "finished" in mark:  # whoever asked for it was told that all is durable
        made.rows = {row: min(when, now) for row, when in made.rows.items()}
        made.artifacts = [min(when, now) for when in made.artifacts]
    if "finished" in mark:
        made.finished = now


@dataclass(frozen=True)
class Needed:
    """What a run must have, and may have, after a power cut."""

    begun: bool
    finished: bool
    rows: frozenset[int]
    artifacts: int
    logged: int


def needed(made: Promises, done: int, logged: int) -> Needed:
    rows = made.rows | (made.earlier.rows if made.earlier else {})
    artifacts = [*made.artifacts, *(made.earlier.artifacts if made.earlier else [])]
    return Needed(
        begun=made.begun <= done,
        finished=made.finished <= done,
        rows=frozenset(row for row, when in rows.items() if when <= done),
        artifacts=sum(when <= done for when in artifacts),
        logged=logged,
    )


# --- judging what is left -------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A power cut: what it left, and what it must have left."""

    name: str
    tree: dict[Path, bytes | None]
    synced: dict[Path, int]
    needed: Needed


def lay(tree: dict[Path, bytes | None], store: Path) -> None:
    """Make the files and directories of ``tree``."""
    store.mkdir()
    for path, content in tree.items():
        if content is None:
            (store / path).mkdir()
        else:
            (store / path).write_bytes(content)


def judge(case: tuple[Path, Case]) -> list[str]:
    """Return what is wrong with what a power cut left, and with the run that goes on from it."""
    store, cut = case
    lay(cut.tree, store)
    try:
        faults = list(_faults(store, cut))
    except Exception:  # noqa: BLE001  whatever it is, it is a fault
        faults = [traceback.format_exc()]
    if not faults:
        shutil.rmtree(store)
    return [f"{cut.name} in {store}: {fault}" for fault in faults]


def _faults(store: Path, cut: Case) -> Iterator[str]:
    need = cut.needed
    found = None
    try:
        found = Store(store).run(RUN_ID)
    except NotFoundError:
        if need.begun:
            yield "there is no run"
    rows = {}
    if found is not None:
        rows = {row.step: row.values["n"] for row in found.rows()}
        yield from _faults_of(found, cut)
        if need.finished and found.state != "finished":
            yield f"the run is {found.state}"
        if need.begun and found.config != CONFIG:
            yield f"the config is {found.config}"
        if any(value != step for step, value in rows.items()) or max(rows, default=0) > need.logged:
            yield f"rows that nobody logged: {rows}"
        if missing := need.rows - rows.keys():
            yield f"rows are lost: {sorted(missing)}"
    run = open_run(settings(store), disk=KillingDisk(), segment_bytes=SEGMENT_BYTES)
    run.config.update(CONFIG)
    added = {run.step: run.step, run.step + 1: run.step + 1}
    for step in added:
        run.log(values(step))
    run.finish()
    again = Store(store).run(RUN_ID)
    yield from (f"gone on: {fault}" for fault in _faults_of(again, cut))
    if {row.step: row.values["n"] for row in again.rows()} != {**rows, **added}:
        yield f"gone on from {rows}, there are {[row.step for row in again.rows()]}"
    if again.state != "finished":
        yield f"gone on and finished, the run is {again.state}"


def _faults_of(run: StoredRun, cut: Case) -> Iterator[str]:
    """Yield what is wrong in any run: damage of what was synced, artifacts that are not whole."""
    damage = [*verify_run(run.path).damage, *(d for v in run.attempts for d in v.tail.damage)]
    for found in damage:
        path = (run.path / found.path).relative_to(run.path.parent)
        if path not in cut.synced or found.offset < cut.synced[path]:
            yield f"damage: {found}"
    if len(run.artifacts) < cut.needed.artifacts:
        yield f"{len(run.artifacts)} artifacts, {cut.needed.artifacts} were durable"
    for version in run.artifacts:
        for file in version.files.values():
            run.blob(file.sha256)


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


def volume_after(steps: Sequence[Step]) -> Volume:
    volume = Volume()
    for step in steps:
        volume.do(step)
    return volume


def cases(
    name: str, steps: Sequence[Step], prefixes: Sequence[int], random: Random
) -> Iterator[Case]:
    """Yield the power cuts after each of the ``prefixes`` of the steps."""
    made = promises(steps)
    for done in prefixes:
        volume = volume_after(steps[:done])
        logged = max((s.mark.get("rows", 0) for s in steps[:done] if s.mark), default=0)
        for names, data in _CUTS:
            tree = volume.after(names, data, random)
            synced = {path: volume.synced_size(path) for path in tree if path.suffix == ".wbk"}
            title = f"{name}, {done} steps, {names} names, {data} data"
            yield Case(title, tree, synced, needed(made, done, logged))


def moments(steps: Sequence[Step]) -> Iterator[int]:
    """Yield the numbers of steps after which the power is cut.

    All but those between the writes of one temporary file, that nothing but a sync tells apart.
    """
    temporary = {step.file for step in steps if step.path.suffix == ".tmp"}
    for done in range(len(steps) + 1):
        around = [step for step in steps[max(0, done - 1) : done + 1] if step.file in temporary]
        if [step.name for step in around] != ["write", "write"]:
            yield done


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


def judge_all(folder: Path, found: Iterator[Case]) -> dict[str, Any]:
    """Judge the cases that differ."""
    different: dict[bytes, Case] = {}
    for case in found:
        what = pickle.dumps((sorted(case.tree.items()), case.needed))
        different.setdefault(hashlib.sha256(what).digest(), case)
    cases = [(folder / f"cut-{n}", case) for n, case in enumerate(different.values())]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        faults = [f for more in pool.imap_unordered(judge, cases, chunksize=8) for f in more]
    return {"cases": len(cases), "faults": faults}


def cut_power_everywhere(folder: Path) -> dict[str, Any]:
    """Judge every power cut; for a process of its own, which is forked."""
    writer.SYNC_SECONDS = 1e6
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


class TimedDisk(SteppedDisk):
    """Notes when each file was written and synced: name of the step, file, begin and end.

    Syncs are not done: how long a disk takes for one is not the question.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[str, int, float, float]] = []
        self.synced = threading.Condition()

    def step(self, name: str, do: Any, *arguments: Any) -> Any:
        begin = time.monotonic()
        result = None if name in ("sync", "sync_directory") else do(*arguments)
        if name in ("write", "sync"):
            self.times.append((name, arguments[0], begin, time.monotonic()))
        if name == "sync":
            with self.synced:
                self.synced.notify_all()
        return result

    def syncs(self) -> int:
        return sum(name == "sync" for name, *_ in self.times)

    def wait_for_syncs(self, more: int, timeout: float) -> bool:
        """Return whether so many more syncs began in time."""
        enough = self.syncs() + more
        with self.synced:
            return self.synced.wait_for(lambda: self.syncs() >= enough, timeout)


def _begin(layout: Layout, disk: SteppedDisk, **options: Any) -> RunWriter:
    return RunWriter(layout, {**describe_process(), "from_step": 0}, disk=disk, **options)


def _log(recorder: RunWriter, step: int) -> None:
    with recorder.lock:
        recorder.history(step, float(step), float(step), values(step), True)


def test_every_record_is_synced_within_a_second_or_so(layout: Layout) -> None:
    """The thread of a writer leaves no row of a steady training unsynced for longer."""
    disk = TimedDisk()
    recorder = _begin(layout, disk)
    for step in range(10_000):
        _log(recorder, step)
        disk.wait_for_syncs(1, timeout=0.02)
        if disk.syncs() > 4:
            break
    recorder.close(0, 1.0)
    late = [
        min((s for n, f, s, _ in disk.times if n == "sync" and f == file and s >= end)) - begin
        for name, file, begin, end in disk.times
        if name == "write" and file == disk.times[0][1]
    ]
    assert len(late) > 20
    assert max(late) < 1.5


def test_sealing_holds_up_no_sync(layout: Layout) -> None:
    """However long it takes to seal a segment, the next one is synced each second."""

    class Slow(TimedDisk):
        waited: bool | None = None

        def create(self, path: Path) -> int:
            if path.suffix == ".tmp" and path.parent.name == "history" and self.waited is None:
                self.waited = False
                self.waited = self.wait_for_syncs(2, timeout=10.0)
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
