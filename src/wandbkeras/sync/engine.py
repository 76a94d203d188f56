"""Syncing a run: plan, render, upload, read back until all of it is there, then the receipt.

It can be interrupted at any moment and run again: what the server holds is asked each time, and
only what is missing is sent.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import wandbkeras
from wandbkeras.errors import (
    DamagedError,
    NotVerifiedError,
    RefusedError,
    SyncError,
    UnreachableError,
    UsageError,
    WandbkerasError,
)
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.compare import differences, match_artifacts, row_differences
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import DEFAULT_PROJECT, Destination
from wandbkeras.sync.plan import Plan, make_plan
from wandbkeras.sync.readback import VERSION, RemoteRun, Server, configured_base_url
from wandbkeras.sync.receipt import (
    Receipt,
    fingerprint,
    read_receipt,
    receipts_directory,
    write_receipt,
)
from wandbkeras.sync.render import render
from wandbkeras.sync.upload import Upload, upload

DEFAULT_TIMEOUT_S = 300.0
DEFAULT_SETTLE_S = 5.0
# The hosted service's counts lag some seconds behind; so wait a little longer each time.
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
# What is recorded or shown elsewhere and not read back; said in every receipt.
NOT_COMPARED = ["createdAt", "console", "client telemetry"]


@dataclass(frozen=True)
class Options:
    """What the user asked for. ``entity`` and ``project`` replace those recorded.

    ``settle_s``: how far the server's counts may be behind, some seconds on the hosted one.
    """

    entity: str | None = None
    project: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    settle_s: float = DEFAULT_SETTLE_S
    state_directory: Path | None = None


@dataclass(frozen=True)
class Result:
    """How the sync of one run ended.

    ``unchanged``: a receipt says that all of it is there already, nothing was asked or sent.
    ``verified``: all of it was read back. ``failed``: ``error`` says why. ``lost`` is what damage
    had cost the run before, a line each: all of the rest is meant. ``dropped`` and
    ``dropped_events`` count the rows and other records that the run never got.
    """

    path: Path
    run_id: str | None
    outcome: Literal["unchanged", "verified", "failed"]
    receipt: Receipt | None = None
    rows_sent: int = 0
    artifacts_sent: int = 0
    files_sent: int = 0
    seconds: float = 0.0
    error: WandbkerasError | None = None
    lost: tuple[str, ...] = ()
    dropped: int = 0
    dropped_events: int = 0

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else 0


def sync(
    paths: Sequence[Path],
    options: Options | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Result]:
    """Bring the runs at ``paths`` to their destinations; yield how each one ended.

    One run that can't be synced never holds up the others; a server that can't be reached is asked
    once.
    """
    session = _Session(options or Options(), progress)
    for path in paths:
        started = time.monotonic()
        run_id = None
        try:
            run = StoredRun(path, strict=True)
            run_id = run.info.id
            result = session.sync(run, started)
            yield replace(
                result,
                lost=tuple(run.lost),
                dropped=run.folded.dropped,
                dropped_events=run.folded.dropped_events,
            )
        except (WandbkerasError, OSError) as error:
            seconds = time.monotonic() - started
            if isinstance(error, OSError):
                error = SyncError(f"{path}: {error}")
            elif isinstance(error, DamagedError):
                error = DamagedError(f"{error}: seal what is sound with `wandbkeras repair {path}`")
            yield Result(path, run_id, "failed", seconds=seconds, error=error)


class _Session:
    """The runs of one command share the connection to the server."""

    def __init__(self, options: Options, progress: Callable[[str], None]) -> None:
        self.options = options
        self.progress = progress
        self.base_url = configured_base_url().rstrip("/")
        self._server: Server | None = None
        self._failure: WandbkerasError | None = None

    def sync(self, run: StoredRun, started: float) -> Result:
        destination = self._destination(run)
        directory = receipts_directory(run, self.options.state_directory)
        try:
            mark = fingerprint(run)
        except DamagedError as error:
            raise DamagedError(f"{error}: nothing was sent") from error
        receipt = read_receipt(directory, destination)
        if receipt is not None and receipt.fingerprint == mark:
            return Result(run.path, run.info.id, "unchanged", receipt)
        server = self._connect()
        self.progress(f"{run.info.id}: asking {server.base_url} what it holds")
        entity = destination.entity or server.default_entity
        with Content(run, (entity, destination.project, destination.run_id)) as content:
            return self._bring(content, destination, server, directory, mark, started)

    def _bring(
        self,
        content: Content,
        destination: Destination,
        server: Server,
        directory: Path,
        mark: str,
        started: float,
    ) -> Result:
        """Send what is missing, read all of it back, and write the receipt."""
        run = content.run
        plan = make_plan(content, destination, server, settle_s=self.options.settle_s)
        said = None if plan.complete else self._send(content, plan)
        remote = self._read_back(content, plan, server, said, started)
        receipt = _receipt(content, destination, plan, remote, mark)
        self._write(directory, destination, receipt)
        sent = 0 if plan.complete else len(content.steps) - plan.first_row
        return Result(
            run.path,
            run.info.id,
            "verified",
            receipt,
            rows_sent=sent,
            artifacts_sent=0 if plan.complete else len(plan.artifacts),
            files_sent=0 if plan.complete else len(plan.files),
            seconds=time.monotonic() - started,
        )

    def _destination(self, run: StoredRun) -> Destination:
        return Destination(
            server=self.base_url,
            entity=self.options.entity or run.info.entity,
            project=self.options.project or run.info.project or DEFAULT_PROJECT,
            run_id=run.info.id,
        )

    def _connect(self) -> Server:
        """Return the server; the reason why it can't be reached is found out once."""
        if self._failure is not None:
            raise self._failure
        if self._server is None:
            try:
                self._server = Server(self.base_url)
            except WandbkerasError as error:
                self._failure = error
                raise
        return self._server

    def _send(self, content: Content, plan: Plan) -> Upload:
        """Render and upload what is missing."""
        rows = len(content.steps) - plan.first_row
        self.progress(
            f"{content.info.id}: sending {rows} rows, {len(plan.artifacts)} artifact versions and "
            f"{len(plan.files)} files"
        )
        *first, last = content.versions.waves(plan.artifacts) or [[]]
        no_rows = replace(plan, first_row=len(content.steps), files=())
        for wave in first:
            said = self._upload(content, replace(no_rows, artifacts=wave))
            if said.complaint or said.timed_out:
                return said
        return self._upload(content, replace(plan, artifacts=last), is_last=True)

    def _upload(self, content: Content, plan: Plan, *, is_last: bool = False) -> Upload:
        with tempfile.TemporaryDirectory(prefix="wandbkeras-sync-") as name:
            scratch = Path(name)
            folder = render(content, plan, scratch, VERSION, is_last=is_last)
            return upload(
                [folder],
                base_url=self.base_url,
                scratch=scratch,
                timeout_s=self.options.timeout_s,
            )

    def _read_back(
        self, content: Content, plan: Plan, server: Server, said: Upload | None, started: float
    ) -> RemoteRun:
        """Return what the server holds once it holds everything; NotVerifiedError if it doesn't."""
        arriving = said is None or not (said.timed_out or said.complaint)
        pause = _FIRST_PAUSE_S
        while True:
            self.progress(f"{content.info.id}: reading back")
            failure: SyncError
            try:
                remote, missing = _look(content, plan, server)
                if remote is not None and not missing:
                    return remote
                failure = _not_verified(plan, remote, missing, said)
            except UnreachableError as error:
                failure = error
            # What was refused stays refused; only what may still be on its way is waited for.
            left = self.options.timeout_s - (time.monotonic() - started)
            if not arriving or left <= 0:
                raise failure
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _write(self, directory: Path, destination: Destination, receipt: Receipt) -> None:
        try:
            write_receipt(directory, destination, receipt)
        except OSError as error:
            raise UsageError(
                f"{directory}: all of the run has arrived, but the receipt can't be written "
                f"({error}): name a directory that can be written to with --state-dir"
            ) from error


def _look(content: Content, plan: Plan, server: Server) -> tuple[RemoteRun | None, list[str]]:
    """Read everything back once; return the run and what is missing or different."""
    destination = plan.destination
    remote = server.find(
        plan.entity, destination.project, destination.run_id, content.files, uses=content.uses
    )
    if remote is None:
        return None, ["the run is not there"]
    found = differences(content, remote, plan.artifacts)
    if remote.line_count != len(content.steps):
        found.insert(0, f"rows: expected {len(content.steps)}, found {remote.line_count}")
    else:
        rows = server.rows(plan.entity, destination.project, destination.run_id, content.steps)
        found += [text for _, text in row_differences(content.rows(), rows)]
    return remote, found


def _not_verified(
    plan: Plan, remote: RemoteRun | None, missing: Sequence[str], said: Upload | None
) -> SyncError:
    cause = ""
    if said is not None and said.timed_out:
        cause = " (the upload did not end in time)"
    elif said is not None and said.complaint:
        if remote is None:
            return RefusedError(f"{plan.destination}: the run was refused: {said.complaint}")
        cause = f" (wandb said: {said.complaint})"
    shown = "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if missing[3:] else "")
    return NotVerifiedError(
        f"{plan.destination}: not verified: {shown}{cause}: run sync again to send what is missing"
    )


def _receipt(
    content: Content, destination: Destination, plan: Plan, remote: RemoteRun, mark: str
) -> Receipt:
    return Receipt(
        server=destination.server,
        entity=destination.entity,
        project=destination.project,
        run_id=destination.run_id,
        held_by=plan.entity,
        url=remote.url,
        fingerprint=mark,
        state=remote.state,
        rows=len(content.steps),
        files=len(content.files),
        artifacts=[
            {"name": held.name, "version": held.version, "digest": held.digest}
            for _, held in match_artifacts(content, remote)
            if held is not None
        ],
        time=time.time(),
        wandb=VERSION,
        wandbkeras=wandbkeras.__version__,
        not_compared=NOT_COMPARED,
    )
