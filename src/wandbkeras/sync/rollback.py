"""Rows that a destination holds and a later attempt has replaced: found out, and linked.

An attempt that begins from a checkpoint replaces rows of the attempts before it. W&B takes no row
back, so where they have arrived already the run as it is now goes elsewhere.
"""

from __future__ import annotations

from wandbkeras.store.earlier import EarlierRun
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.choice import Choice
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.history import history_differences, spans
from wandbkeras.sync.receipt import Level
from wandbkeras.sync.remote import RemoteRun
from wandbkeras.sync.session import Session


def superseded(
    run: StoredRun, destination: Destination, choice: Choice, session: Session
) -> RemoteRun | None:
    """Return what the destination holds if its rows were this run's before an attempt rolled back.

    None if they never were: then it is another run's.
    """
    server = session.server()
    entity = destination.entity or server.default_entity
    remote = server.find(entity, destination.project, destination.run_id)
    numbers = sorted({view.number for view in run.attempts})
    if remote is None:
        return None
    level: Level = "full" if session.options.level == "full" else "sample"
    for number in reversed(numbers[1:]):
        earlier = EarlierRun(run.path, number, strict=True)
        with session.content(earlier, destination, choice) as content:
            compared = spans(remote.line_count, level, run.info.id)
            found = history_differences(content, server, entity, destination, compared)
            if remote.line_count <= len(content.steps) and next(found, None) is None:
                return remote
    return None
