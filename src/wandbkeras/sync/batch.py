"""Runs that share one upload, because starting W&B's client takes longer than a small run does.

A run that fails before the upload is left out of it, and one that fails in it leaves the others
as they are: each is judged by what is read back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wandbkeras.errors import DamagedError, DeletedError, LockedError, SyncError, WandbkerasError
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.wording import counted
from wandbkeras.sync.delivery import Delivery
from wandbkeras.sync.failure import Failure, write_failure
from wandbkeras.sync.options import Result
from wandbkeras.sync.session import Session
from wandbkeras.sync.upload import Upload

# Beyond these a batch holds up its first runs for longer than a client's start takes.
MAX_RUNS = 25
MAX_ROWS = 50_000
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Task:
    """A run to sync: ``number`` is its place in what was asked for, ``size`` its bytes on disk.

    ``ordered`` is what it shares with runs that must not overtake it: its id, since the rows of one
    come after those of the other, and its artifacts, since the last version is the latest. One that
    was not found when it was read back the last time goes ``alone``, and holds up none.
    """

    number: int
    path: Path
    ordered: frozenset[str]
    rows: int
    size: int
    alone: bool = False


def batches(tasks: Sequence[Task]) -> list[list[list[Task]]]:
    """Return rounds of batches: the batches of a round go side by side, rounds one after another.

    Of runs that must not overtake one another, the later ones go in later rounds.

    >>> def task(n, *ordered): return Task(n, Path(), frozenset(ordered), 1, 1)
    >>> rounds = batches([task(0, "a"), task(1, "b", "data"), task(2, "a", "data")])
    >>> [[[t.number for t in batch] for batch in batches] for batches in rounds]
    [[[0, 1]], [[2]]]
    """
    rounds: list[list[list[Task]]] = []
    following: dict[str, int] = {}
    for task in tasks:
        turn = max(following.get(name, 0) for name in task.ordered)
        following |= dict.fromkeys(task.ordered, turn + 1)
        if turn == len(rounds):
            rounds.append([[]])
        if not _has_room(rounds[turn][-1], task):
            rounds[turn].append([])
        rounds[turn][-1].append(task)
    return rounds


def _has_room(batch: Sequence[Task], task: Task) -> bool:
    return not batch or (
        not task.alone
        and not batch[-1].alone
        and len(batch) < MAX_RUNS
        and sum(other.rows for other in batch) + task.rows <= MAX_ROWS
        and sum(other.size for other in batch) + task.size <= MAX_BYTES
    )


def deliver(batch: Sequence[Task], session: Session) -> dict[int, Result]:
    """Bring the runs of a batch to their destinations; return how each ended, by its number."""
    results: dict[int, Result] = {}
    under_way: dict[int, tuple[Delivery, Path | None]] = {}
    with tempfile.TemporaryDirectory(prefix="wandbkeras-sync-") as name, ExitStack() as at_end:
        scratch = Path(name)
        for task in batch:
            started = time.monotonic()
            try:
                delivery = Delivery(StoredRun(task.path, strict=True), session)
                at_end.callback(delivery.close)
                folder = delivery.prepare(scratch / str(task.number))
                under_way[task.number] = (delivery, folder)
            except (WandbkerasError, OSError) as error:
                results[task.number] = failed(task.path, error, started, session)
        results |= _confirm(under_way, session)
        said = session.upload([f for _, f in under_way.values() if f is not None])
        for number, (delivery, folder) in under_way.items():
            results[number] = _finish(delivery, None if folder is None else said)
            delivery.close()
    return results


def _confirm(
    under_way: dict[int, tuple[Delivery, Path | None]], session: Session
) -> dict[int, Result]:
    """Take the runs that somebody else has begun to send out of the upload; return their results.

    Asked for all of them at the end, of a client that has started: between the answer and the
    upload is as little as can be.
    """
    results: dict[int, Result] = {}
    sending = {n: delivery for n, (delivery, folder) in under_way.items() if folder is not None}
    if sending:
        session.client().await_start(session.options.timeout_s)
    for number, delivery in sending.items():
        try:
            delivery.confirm()
        except (WandbkerasError, OSError) as error:
            results[number] = failed(delivery.run.path, error, delivery.started, session)
            delivery.close()
            del under_way[number]
    if len(results) < len(sending):
        session.progress(f"uploading {counted(len(sending) - len(results), 'run')}")
    return results


def failed(
    path: Path,
    error: WandbkerasError | OSError,
    started: float,
    session: Session,
    *,
    is_sent: bool = False,
) -> Result:
    """Return the result of a run that failed, and note why beside its receipts."""
    if isinstance(error, OSError):
        error = SyncError(f"{path}: {error}")
    elif isinstance(error, DamagedError):
        unsent = "" if is_sent else ": nothing was sent"
        error = DamagedError(f"{error}{unsent}: seal what is sound with `wandbkeras repair {path}`")
    seconds = time.monotonic() - started
    try:
        run = StoredRun(path, strict=True)
        destination = session.destination(run)
    except (WandbkerasError, OSError):  # who it is can't be told
        return Result(path, None, "failed", seconds=seconds, error=error)
    if isinstance(error, LockedError):  # who is at work will say how it ended
        return Result(
            path, run.info.id, "failed", destination=destination, seconds=seconds, error=error
        )
    failure = Failure(
        **vars(destination),
        error=type(error).__name__,
        message=str(error),
        exit_code=error.exit_code,
        retryable=error.retryable,
        time=time.time(),
    )
    write_failure(session.directory(run), failure)
    skipped = isinstance(error, DeletedError) and session.options.on_deleted == "skip"
    outcome: Literal["failed", "skipped"] = "skipped" if skipped else "failed"
    return Result(path, run.info.id, outcome, destination=destination, seconds=seconds, error=error)


def _finish(delivery: Delivery, said: Upload | None) -> Result:
    run, session = delivery.run, delivery.session
    try:
        result = delivery.finish(said)
    except (WandbkerasError, OSError) as error:
        result = failed(run.path, error, delivery.started, session, is_sent=said is not None)
    return replace(
        result,
        seconds=time.monotonic() - delivery.started,
        lost=tuple(run.lost),
        dropped=run.folded.dropped,
        dropped_events=run.folded.dropped_events,
    )
