"""Planning: what does the destination hold, and so what is missing?

The server's client appends after the lines that the server holds: row *i* of the merged history is
line *i* there. So only a prefix of the run may be there already, and the rest is what to send;
anything else is a conflict, which nothing is sent into.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from wandbkeras.errors import ConflictError
from wandbkeras.store.schema import Alert
from wandbkeras.store.state import Event
from wandbkeras.sync.artifacts import Artifact, needed_bytes
from wandbkeras.sync.compare import (
    differences,
    file_differences,
    match_artifacts,
    missing_samples,
    sample_differences,
)
from wandbkeras.sync.console import ConsoleLine, console_differences
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.history import history_differences, spans
from wandbkeras.sync.ongoing import NOTHING
from wandbkeras.sync.readback import Server
from wandbkeras.sync.receipt import Level
from wandbkeras.sync.remote import RemoteRun

_ENDED = ("finished", "failed", "crashed", "killed")
# The clocks of server and client may differ by as much.
_QUIET_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What to send: rows from ``first_row``, ``artifacts``, ``files`` by their names, ``alerts``,
    ``samples`` of system metrics, and ``console``, all lines of it.

    ``remote`` is what the server held when it was asked; ``complete`` if that is all.
    """

    destination: Destination
    entity: str
    first_row: int = 0
    artifacts: Sequence[Artifact] = field(default_factory=tuple)
    files: Sequence[str] = ()
    complete: bool = False
    remote: RemoteRun | None = None
    alerts: Sequence[Alert] = ()
    samples: Sequence[Event] = ()
    console: Sequence[ConsoleLine] = ()


def make_plan(
    content: Content,
    destination: Destination,
    server: Server,
    *,
    settle_s: float,
    level: Level = "full",
    keep_alive_s: float | None = None,
) -> Plan:
    """Ask the server and return the plan; ConflictError if it holds something else.

    A running run that the server has not heard of for ``keep_alive_s`` is not complete there: it
    would be taken for crashed.

    Before going on after rows that it holds, their number must hold still for ``settle_s``
    seconds: it lags behind, and the client appends after the true one.
    """
    entity = destination.entity or server.default_entity
    if (remote := content.proven.remote) is not None:
        # What this process has read back is still there; `sent_meanwhile` says so before it sends.
        plan = _missing(content, remote, destination, entity, server, level, keep_alive_s)
        if not plan.complete:
            return plan
    ask = partial(
        server.find,
        entity,
        destination.project,
        destination.run_id,
        content.files,
        uses=content.uses,
        samples=len(content.samples),
        console=len(content.console),
    )
    remote = ask()
    while remote is not None and not _is_settled(content, remote):
        time.sleep(settle_s)
        before = remote
        remote = ask()
        if remote is not None and remote.line_count == before.line_count:
            break
    if remote is None:
        return Plan(
            destination,
            entity,
            artifacts=content.artifacts,
            files=tuple(content.files),
            samples=content.samples,
            console=content.console,
        )
    return _missing(content, remote, destination, entity, server, level, keep_alive_s)


def _missing(
    content: Content,
    remote: RemoteRun,
    destination: Destination,
    entity: str,
    server: Server,
    level: Level,
    keep_alive_s: float | None,
) -> Plan:
    """Return the plan for a run that the server has."""
    held = held_rows(content, remote, server, entity, destination, level)
    missing = missing_artifacts(content, remote)
    files = tuple(file_differences(content, remote))
    complete = held == len(content.steps) and not missing and not differences(content, remote)
    samples = missing_samples(content, remote)
    console = content.console if any(console_differences(content.console, remote.console)) else ()
    if content.is_running:
        # Samples come all the time: they go along when there is something else to be sent.
        if keep_alive_s is not None:
            complete = complete and time.time() - remote.heartbeat < keep_alive_s
    else:
        complete = complete and not console and not any(sample_differences(content, remote))
    return Plan(
        destination,
        entity,
        held,
        missing,
        files,
        complete,
        remote,
        samples=samples,
        console=console,
    )


def sent_meanwhile(
    content: Content, plan: Plan, artifacts: Sequence[Artifact], server: Server
) -> str | None:
    """Say by what the server shows that somebody else sends the rows or ``artifacts`` to send."""
    place = (plan.entity, plan.destination.project, plan.destination.run_id)
    if artifacts and (remote := server.find(*place, uses=content.uses)) is not None:
        missing = {artifact.identity for artifact in missing_artifacts(content, remote)}
        for artifact in artifacts:
            if artifact.identity not in missing:
                return f"a version of {artifact.version.name} has arrived since it was asked"
    held, state = server.rows_and_state(*place)
    if held != plan.first_row and plan.first_row < len(content.steps):
        return f"the server held {plan.first_row} rows when it was asked, and now {held}"
    # Unless it was this sync that began, with those that others link to.
    is_first = len(artifacts) == len(plan.artifacts)
    if is_first and plan.remote is not None and plan.remote.state in _ENDED and state == "running":
        return f"it was {plan.remote.state} when it was asked, and is running now"
    return None


def _is_settled(content: Content, remote: RemoteRun) -> bool:
    """Whether no row is missing, or none can have come for long enough."""
    quiet_s = time.time() - remote.heartbeat
    held, proven = remote.line_count, content.proven
    return (
        held >= len(content.steps)
        or (proven is not NOTHING and held == proven.rows)
        or quiet_s > _QUIET_S
    )


def held_rows(
    content: Content,
    remote: RemoteRun,
    server: Server,
    entity: str,
    destination: Destination,
    level: Level,
) -> int:
    """Return how many of the run's first rows the server holds, compared as ``level`` says.

    ConflictError if it holds others.
    """
    if remote.line_count > len(content.steps):
        raise ConflictError(
            f"{destination}: the server holds {remote.line_count} rows, the run has "
            f"{len(content.steps)}: it is another run, a later copy of this one, or another tool "
            "sent it twice"
        )
    if level == "counts" and remote.line_count < len(content.steps):
        level = "sample"  # what is gone on after must be the run's own
    # A server that holds less than was read back once has lost something: all of it is compared.
    proven = content.proven.rows if remote.line_count >= content.proven.rows else 0
    compared = spans(remote.line_count, level, content.info.id, proven)
    for text in history_differences(content, server, entity, destination, compared):
        raise ConflictError(f"{destination}: the server holds something else: {text}")
    return remote.line_count


def missing_artifacts(content: Content, remote: RemoteRun) -> list[Artifact]:
    """Return the versions to send, in order; one that is there, but not as used, again."""
    return [
        artifact
        for artifact, held in match_artifacts(content, remote)
        if held is None or (artifact.version.used and not held.used)
    ]


def plan_bytes(content: Content, plan: Plan) -> int:
    """Return the bytes of the artifacts and files to send, each content counted once."""
    return needed_bytes(plan.artifacts, (content.files[name] for name in plan.files))
