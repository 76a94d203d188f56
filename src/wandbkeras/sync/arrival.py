"""Reading a run back until the server holds all of it: the only proof that it has arrived."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from wandbkeras.errors import (
    ConflictError,
    NotVerifiedError,
    RefusedError,
    SyncError,
    UnreachableError,
)
from wandbkeras.sync.compare import differences, file_differences, sample_differences
from wandbkeras.sync.console import console_differences
from wandbkeras.sync.content import Content
from wandbkeras.sync.history import history_differences
from wandbkeras.sync.plan import Plan
from wandbkeras.sync.reachable import check_reachable
from wandbkeras.sync.readback import Server
from wandbkeras.sync.remote import RemoteRun
from wandbkeras.sync.upload import Upload

# The hosted service's counts lag some seconds behind; so wait a little longer each time.
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0


def await_arrival(
    content: Content,
    plan: Plan,
    server: Server,
    said: Upload,
    refusal: str | None,
    *,
    compared: list[range],
    deadline: float,
    patience_s: float,
    comes_again: bool,
    stopping: threading.Event,
    progress: Callable[[str], None],
) -> RemoteRun:
    """Return what the server holds once it holds everything; NotVerifiedError if it doesn't.

    ConflictError, at once, if it holds more rows than the run has, which never become fewer;
    NotVerifiedError likewise of artifact versions.

    ``compared`` are the rows that are read, ``deadline`` is on the monotonic clock. ``refusal`` is
    what the server answered when something of the run was sent, if it didn't take it. What was
    refused stays refused: only what may still be on its way is waited for, and ``patience_s`` for
    counts that lag. A server that does not answer is left to the next sync if one ``comes_again``.
    """
    pause = _FIRST_PAUSE_S
    lagging_until = time.monotonic() + patience_s
    trouble = said.timed_out or said.complaint is not None or refusal is not None
    deadline = lagging_until if trouble else max(deadline, lagging_until)
    while True:
        progress(f"{content.info.id}: reading back")
        failure: SyncError
        try:
            if said.timed_out:  # by a server that has gone, which W&B's own client asks for longer
                check_reachable(server.base_url)
            remote, missing = _look(content, plan, server, compared)
            if remote is not None and not missing:
                return remote
            failure = _not_verified(plan, remote, missing, said, refusal)
        except UnreachableError as error:
            if comes_again:
                raise
            failure = error
        left = deadline - time.monotonic()
        if left <= 0:
            raise failure
        if stopping.wait(min(pause, left)):
            raise failure
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _look(
    content: Content, plan: Plan, server: Server, compared: list[range]
) -> tuple[RemoteRun | None, list[str]]:
    """Read everything back once; return the run and what is missing or different."""
    destination, before = plan.destination, content.proven.remote
    remote = server.find(
        plan.entity,
        destination.project,
        destination.run_id,
        content.files if before is None else file_differences(content, before),
        uses=content.uses,
        samples=len(content.samples),
        console=len(content.console),
    )
    if remote is None:
        return None, ["the run is not there"]
    if before is not None:
        remote = replace(remote, files={**before.files, **remote.files})
    if remote.line_count > len(content.steps):
        raise ConflictError(
            f"{destination}: the server holds {remote.line_count} rows, the run has "
            f"{len(content.steps)}: some arrived twice, because another sync or another tool sent "
            "them at the same moment: W&B takes no row back, so send it under a new id with "
            "--on-conflict new-id"
        )
    found = [
        *differences(content, remote, plan.artifacts),
        *sample_differences(content, remote),
        *(() if content.is_running else console_differences(content.console, remote.console)),
    ]
    if remote.line_count != len(content.steps):
        found.insert(0, f"rows: expected {len(content.steps)}, found {remote.line_count}")
    else:
        found += history_differences(content, server, plan.entity, destination, compared)
    if not found:
        _check_versions(plan, remote)
    return remote, found


def _check_versions(plan: Plan, remote: RemoteRun) -> None:
    """Raise NotVerifiedError if more versions of an artifact have arrived than were sent."""
    before = _versions(plan.remote)
    sent = Counter(artifact.version.name for artifact in plan.artifacts)
    for name, count in _versions(remote).items():
        if sent[name] and count - before[name] > sent[name]:
            raise NotVerifiedError(
                f"{plan.destination}: not verified: artifact {name}: {count - before[name]} "
                f"versions arrived and {sent[name]} were sent, so another sync or another tool "
                "sent some at the same moment: the last ones are this run's, and the next sync "
                "takes them; those before them can be deleted in W&B"
            )


def _versions(remote: RemoteRun | None) -> Counter[str]:
    return Counter(version.name for version in remote.artifacts) if remote else Counter()


def _not_verified(
    plan: Plan,
    remote: RemoteRun | None,
    missing: Sequence[str],
    said: Upload,
    refusal: str | None,
) -> SyncError:
    cause = ""
    if said.timed_out:
        again = f": the server answered {said.retried}" if said.retried else ""
        cause = f" (the upload did not end in time{again})"
    elif said.complaint:
        if remote is None and not said.shared:
            return RefusedError(f"{plan.destination}: the run was refused: {said.complaint}")
        which = " of this or another run" if said.shared else ""
        cause = f" (wandb said{which}: {said.complaint})"
    if refusal is not None:
        cause = f" (the server refused: {refusal})"
    shown = "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if missing[3:] else "")
    return NotVerifiedError(
        f"{plan.destination}: not verified: {shown}{cause}: run sync again to send what is missing"
    )
