"""What a kill or a power cut leaves of recorded steps on the disk, and how that is judged."""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import pickle
import shutil
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from scripts.crash_writers import CONFIG, RUN_ID, settings, values
from tests.disks import Kept, KillingDisk, Step, Volume
from wandbkeras.errors import NotFoundError
from wandbkeras.recording.opening import open_run
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.verify import verify_run

# At this step of the script the disk is full for a moment, and the row is not recorded.
REFUSED = 4
# A few rows beside the segment's header.
SEGMENT_BYTES = 700
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


# --- the moments ----------------------------------------------------------------------------------


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


def kills(name: str, steps: Sequence[Step]) -> Iterator[Case]:
    """Yield what a kill leaves before each step, and in the middle of each write.

    That is all that was done, synced or not; and all that was acknowledged must be there.
    """
    random = Random(1)
    for done in moments(steps[:-1]):
        told: dict[str, int] = {}
        artifacts = 0
        for mark in (step.mark for step in steps[:done] if step.name == "mark"):
            told |= mark
            artifacts += "artifacts" in mark
        rows = told.get("rows", 0)
        need = Needed("begun" in told, "finished" in told, frozenset(range(rows)), artifacts, rows)
        step = steps[done]
        half = [replace(step, data=step.data[: len(step.data) // 2])] if step.data else []
        for moment, more in (("before", []), ("within", half))[: 1 + len(half)]:
            volume = volume_after([*steps[:done], *more])
            tree = volume.after("all", "all", random)
            whole = {path: len(data) for path, data in tree.items() if data is not None}
            yield Case(f"{name}, killed {moment} step {done}", tree, whole, need)


def moments(steps: Sequence[Step]) -> Iterator[int]:
    """Yield the numbers of steps after which to kill, or to cut the power.

    All but those between the writes of one temporary file, that nothing but a sync tells apart.
    """
    temporary = {step.file for step in steps if step.path.suffix == ".tmp"}
    for done in range(len(steps) + 1):
        around = [step for step in steps[max(0, done - 1) : done + 1] if step.file in temporary]
        if [step.name for step in around] != ["write", "write"]:
            yield done


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
