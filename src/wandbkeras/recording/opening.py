"""Opening a run in a store: a new one, the next attempt of an old one, or beside its other writers.

Nothing is ever overwritten: an attempt is owned by making its directory, a journal by making its
file.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandbkeras.errors import NotFoundError, RunExistsError, UsageError
from wandbkeras.recording.attempt import Begun
from wandbkeras.recording.recorder import Run
from wandbkeras.recording.settings import Settings
from wandbkeras.store import document
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.layout import Layout, run_directory_name
from wandbkeras.store.process import describe_process
from wandbkeras.store.run_ids import may_hold_run
from wandbkeras.store.schema import RunInfo
from wandbkeras.store.segments import SEGMENT_BYTES
from wandbkeras.store.writer import RunWriter

if TYPE_CHECKING:
    from wandbkeras.store.reader import StoredRun


_PATIENCE_S = 10.0


def open_run(
    settings: Settings, *, disk: Disk | None = None, segment_bytes: int = SEGMENT_BYTES
) -> Run:
    """Return the run that ``settings`` ask for, ready to record."""
    disk = disk or Disk()
    make_writer = partial(
        RunWriter,
        disk=disk,
        segment_bytes=segment_bytes,
        on_full=settings.on_full,
        max_bytes=settings.max_bytes,
    )
    try:
        make_directories(disk, settings.directory)
        existing = _find(settings)
        while existing is None:
            root = _claim_directory(settings, disk)
            if root is not None:
                return _begin(settings, root, disk, make_writer)
            existing = _await_other(settings)
        return _go_on(existing, make_writer)
    except OSError as error:
        raise unwritable(settings, error) from error


def unwritable(settings: Settings, error: Exception) -> UsageError:
    """Return the error of a run that can't begin because its disk does not take it."""
    return UsageError(
        f"dir {str(settings.directory)!r}: no run can be written there ({error}): expected a "
        "directory that can be written to, with some room"
    )


def _claim_directory(settings: Settings, disk: Disk) -> Path | None:
    """Make the run's directory; None if another process makes one for this id at this moment."""
    info = settings.info
    root = settings.directory / run_directory_name(info.id, info.created)
    try:
        disk.make_directory(root)
    except FileExistsError:
        return None
    # Who makes a directory looks for others afterwards, so of two at least one sees the other.
    others = [path for path in _directories(settings) if path != root]
    if any(path.name < root.name or (path / "run.json").exists() for path in others):
        root.rmdir()
        return None
    try:
        disk.sync_directory(settings.directory)
    except OSError:
        root.rmdir()
        raise
    return root


def _directories(settings: Settings) -> list[Path]:
    return list(settings.directory.glob(f"run-????????_??????-{settings.info.id}"))


def _await_other(settings: Settings) -> StoredRun | None:
    """Return the run that another process is just making under this id.

    None if that process was killed meanwhile: then its directory is out of the way.
    """
    begun = _directories(settings)
    deadline = time.monotonic() + _PATIENCE_S
    while (existing := _find(settings)) is None:
        if time.monotonic() > deadline:
            for root in begun:
                _put_aside(root)
            return None
        time.sleep(0.02)
    return existing


def _put_aside(root: Path) -> None:
    """Rename the directory of a process that was killed before its run had a ``run.json``.

    Should it live after all, its next step fails, and nothing of it was acknowledged.
    """
    from wandbkeras.store.source import is_unborn

    if not root.exists():
        return  # another process was faster
    if not is_unborn(root):
        raise RunExistsError(f"{root} is there and is not a run of this id: use another id")
    aside = root.with_name(f".{root.name}.{secrets.token_hex(4)}.tmp")
    with suppress(FileNotFoundError):
        root.rename(aside)
        if (aside / "run.json").exists():  # it was alive, and faster
            aside.rename(root)


def _begin(
    settings: Settings, root: Path, disk: Disk, make_writer: Callable[..., RunWriter]
) -> Run:
    """Begin the first attempt of a new run."""
    info = settings.info
    layout = Layout(root.resolve())
    writer = make_writer(layout, _process(info, from_step=0), begin=0)
    # Last, so that who finds the run finds it begun.
    try:
        document.write(disk, layout.info, info.to_document())
    except OSError:
        writer.withdraw()
        raise
    return Run(Begun(info, writer))


def _go_on(existing: StoredRun, make_writer: Callable[..., RunWriter]) -> Run:
    """Join the attempt that this launch is writing, or begin the next one.

    Of processes that want to begin the same attempt one does; the others look again.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not _is_beside(existing):
        number = max((view.number for view in existing.attempts), default=-1) + 1
        if time.monotonic() > deadline:  # whoever made that attempt died before its first record
            number = max(existing.layout.attempt_numbers(), default=-1) + 1
        try:
            return _resume(existing, make_writer, number)
        except FileExistsError:
            time.sleep(0.02)
            existing.refresh()
    return _join(existing, make_writer)


def _resume(existing: StoredRun, make_writer: Callable[..., RunWriter], number: int) -> Run:
    """Begin attempt ``number`` of a run that has stopped: it goes on after the last step."""
    state = existing.folded
    first_step = 0 if state.last_step is None else state.last_step + 1
    writer = make_writer(
        existing.layout,
        _process(existing.info, from_step=first_step),
        resume=state.to_resume_body(),
        begin=number,
    )
    if existing.state == "running":
        _say_that_two_write(existing, first_step)
    return Run(Begun(existing.info, writer, first_step, state.runtime, existing))


def _say_that_two_write(existing: StoredRun, first_step: int) -> None:
    """Say that a process of another launch has not ended: of two attempts the later one counts."""
    state = existing.folded
    process, age = state.process, max(0.0, time.time() - state.last_seen)
    print(  # noqa: T201
        f"wandbkeras: run {existing.info.id!r}: process {process.get('pid')} on "
        f"{process.get('host')}, heard of {age:.0f} s ago, seems to write it still: what it logs "
        f"from step {first_step} on is kept but no longer counts; end it, or use another id",
        file=sys.stderr,
    )


def _is_beside(existing: StoredRun) -> bool:
    """Whether this process is another worker of the launch that writes the run right now."""
    launch = existing.folded.process.get("launch")
    return existing.state == "running" and launch == describe_process()["launch"]


def _join(existing: StoredRun, make_writer: Callable[..., RunWriter]) -> Run:
    """Write beside the processes that write this attempt, as the workers of one job do."""
    state = existing.folded
    number = existing.attempts[-1].number
    starts = (view.state.from_step for view in existing.attempts if view.number == number)
    # Its rows replace none: it has no `from_step` of its own, and it starts where the attempt did.
    first_step = next((start for start in starts if start is not None), 0)
    writer = make_writer(existing.layout, _process(existing.info, from_step=None), attempt=number)
    # Reading needs pyarrow, which is loaded by now: a run was found.
    from wandbkeras.store.earlier import EarlierRun

    earlier = EarlierRun(existing.path, number) if number else None
    begun = Begun(existing.info, writer, first_step, state.runtime, earlier)
    return Run(begun)


def _find(settings: Settings) -> StoredRun | None:
    """Return the run to go on with, if there is one and ``resume`` allows it."""
    if settings.resume == "must" and not settings.id_given:
        raise UsageError(
            'init: resume="must" without an id: which run is to go on can\'t be known; pass id=… '
            'or set WANDB_RUN_ID, or pass resume="auto" to go on with the latest that crashed'
        )
    if settings.id_given:
        is_new = settings.resume != "must" and not may_hold_run(
            settings.directory, settings.info.id
        )
    else:
        is_new = settings.resume != "auto"
    if is_new:
        return None
    # Reading needs pyarrow, which takes longer to import than all the rest.
    from wandbkeras.store.directory import Store

    store = Store(settings.directory)
    if not settings.id_given:
        return _last_crashed(store.runs(), settings.info)
    run_id = settings.info.id
    try:
        existing = store.run(run_id)
    except NotFoundError:
        if settings.resume == "must":
            raise RunExistsError(
                f'run {run_id!r}: resume="must", but it is not in {settings.directory}'
            ) from None
        return None
    if settings.resume in (None, "never"):
        raise RunExistsError(
            f'run {run_id!r} is in {settings.directory} already: pass resume="allow" to go on with '
            "it, or another id"
        )
    return existing


def _last_crashed(runs: list[StoredRun], info: RunInfo) -> StoredRun | None:
    """Return the latest run of the project, if it died: what ``resume="auto"`` goes on with."""
    same = [run for run in runs if run.info.project == info.project]
    return same[-1] if same and same[-1].state in ("crashed", "preempted") else None


def _process(info: RunInfo, *, from_step: int | None) -> dict[str, Any]:
    """Return what an attempt begins with; who the run is too, should ``run.json`` be lost."""
    start = {} if from_step is None else {"from_step": from_step}
    return {**describe_process(), **start, "run": asdict(info)}
