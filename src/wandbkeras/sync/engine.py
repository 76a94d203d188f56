"""Syncing runs: what needs nothing is said at once, the rest goes in batches, side by side.

It can be interrupted at any moment and run again: what the server holds is asked each time, and
only what is missing is sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

from wandbkeras.errors import WandbkerasError
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.batch import Task, batches, deliver, failed
from wandbkeras.sync.ongoing import Ongoing
from wandbkeras.sync.options import Options, Result
from wandbkeras.sync.session import Session


def sync(
    paths: Sequence[Path],
    options: Options | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
    ongoing: Ongoing | None = None,
    stopping: threading.Event | None = None,
    in_order: bool = True,
) -> Generator[Result, None, None]:
    """Bring the runs at ``paths`` to their destinations; yield how each one ended, in their order,
    or as they end.

    One run that can't be synced never holds up the others; a server that can't be reached is asked
    once. ``progress`` is called by several threads. ``ongoing`` is what the syncs of a run that
    grows share, one after the other. What is under way is given up once another thread sets
    ``stopping``, which is set at the end, too.
    """
    session = Session(options or Options(), progress, ongoing, stopping)
    results: dict[int, Result] = {}
    tasks: list[Task] = []
    for number, path in enumerate(paths):
        looked = _look(number, path, session)
        if isinstance(looked, Task):
            tasks.append(looked)
        else:
            results[number] = looked
    # Closed here and not when it is collected: an interrupt in a finalizer would be lost.
    with closing(_deliveries(tasks, session)) as delivered:
        if not in_order:
            yield from results.values()
            for ended in delivered:
                yield from ended.values()
            return
        for number in range(len(paths)):
            while number not in results:
                results |= next(delivered)
            yield results.pop(number)


def _deliveries(
    tasks: Sequence[Task], session: Session
) -> Generator[dict[int, Result], None, None]:
    """Deliver in rounds of batches and yield the results of a batch when it has ended."""
    pool = ThreadPoolExecutor(session.options.workers, "wandbkeras-sync")
    try:
        for batches_of_round in batches(tasks):
            futures = [pool.submit(deliver, batch, session) for batch in batches_of_round]
            for future in as_completed(futures):
                yield future.result()
    finally:  # also when interrupted: what is under way is ended, the rest does not begin
        session.stopping.set()
        pool.shutdown(cancel_futures=True)
        session.close()


def _look(number: int, path: Path, session: Session) -> Task | Result:
    """Return what is to be done about a run, or its result if that is nothing."""
    started = time.monotonic()
    try:
        run = StoredRun(path, strict=True)
        receipt = session.proof(run)
        if receipt is None:
            versions = run.artifacts if session.options.choice.artifacts else ()
            ordered = {f"run {run.info.id}", *(f"artifact {version.name}" for version in versions)}
            return Task(
                number,
                path,
                frozenset(ordered),
                rows=run.row_count,
                size=run.size,
                alone=session.has_failed(run),
            )
        return Result(
            path,
            run.info.id,
            "unchanged",
            receipt,
            session.destination(run),
            lost=tuple(run.lost),
            dropped=run.folded.dropped,
            dropped_events=run.folded.dropped_events,
        )
    except (WandbkerasError, OSError) as error:
        return failed(path, error, started, session)
