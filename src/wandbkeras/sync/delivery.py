"""One run on its way: planned and rendered, and after the upload read back and receipted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wandbkeras.errors import (
    ConflictError,
    DeletedError,
    LockedError,
    RefusedError,
    RolledBackError,
    UsageError,
)
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.wording import counted
from wandbkeras.sync.arrival import await_arrival
from wandbkeras.sync.artifacts import Artifact
from wandbkeras.sync.config import with_link
from wandbkeras.sync.history import spans
from wandbkeras.sync.ongoing import Proven, streams_due
from wandbkeras.sync.options import Result
from wandbkeras.sync.plan import Plan, make_plan, plan_bytes, sent_meanwhile
from wandbkeras.sync.proof import receipt_of
from wandbkeras.sync.readback import VERSION
from wandbkeras.sync.receipt import Receipt, fingerprint, read_receipts, write_receipt
from wandbkeras.sync.remote import RemoteRun
from wandbkeras.sync.render import render
from wandbkeras.sync.rollback import superseded
from wandbkeras.sync.session import Session
from wandbkeras.sync.substitute import next_id, write_substitute
from wandbkeras.sync.upload import Upload

_MOST_IDS = 20


class Delivery:
    """A run that is brought to its destination, step by step, so that several share an upload."""

    def __init__(self, run: StoredRun, session: Session) -> None:
        self.run = run
        self.session = session
        self.started = time.monotonic()
        self.destination = session.destination(run)
        # Before anything is read: what comes meanwhile is no part of what is proven.
        self._mark = fingerprint(run)
        self._choice = session.choice(run)
        self.content = session.content(run, self.destination, self._choice)
        self._plan: Plan | None = None
        self._trouble: Upload | None = None
        self._folders: list[Path] = []
        # The artifact versions of the last upload; those that they link to go before.
        self._last: Sequence[Artifact] = ()
        self._bytes = 0

    def prepare(self, scratch: Path) -> Path | None:
        """Find out what is missing and render it below ``scratch``; None if nothing is.

        What has to be there before, the artifact versions that others link to, is sent at once.
        LockedError if another sync is at work on the run.
        """
        self.session.locks.acquire(self.session.directory(self.run))
        plan = self._plan = self._planned(scratch)
        if plan.complete:
            return None
        content = self.content
        rows = len(content.steps) - plan.first_row
        self.session.progress(
            f"{content.info.id}: sending {counted(rows, 'row')}, "
            f"{counted(len(plan.artifacts), 'artifact version')} and "
            f"{counted(len(plan.files), 'file')}"
        )
        self._bytes = sum(map(_log_bytes, self._folders)) + plan_bytes(content, plan)
        *first, last = self._folders
        for folder in first:
            said = self.session.upload([folder])
            if said.complaint or said.timed_out or said.refusals:
                self._trouble = said
                return None
        return last

    def confirm(self) -> None:
        """Ask once more, right before the upload, that nobody else has sent the same meanwhile.

        The client appends after what is there then, so it would arrive twice. LockedError if
        somebody has: from another machine, where no lock of ours is seen.
        """
        assert self._plan is not None
        if text := sent_meanwhile(self.content, self._plan, self._last, self.session.server()):
            raise LockedError(
                f"{self.destination}: another sync is sending this run: {text}: try again when it "
                "has ended"
            )

    def close(self) -> None:
        """Remove what was made to be sent, and let others sync the run."""
        self.content.close()
        self.session.locks.release(self.session.directory(self.run))

    def _rendered(self, plan: Plan, scratch: Path) -> list[Path]:
        """Render ``plan`` to logs that are to be sent one after the other."""
        *first, last = self.content.versions.waves(plan.artifacts) or [[]]
        self._last = last
        alone = replace(
            plan, first_row=len(self.content.steps), files=(), alerts=(), samples=(), console=()
        )
        plans = [*(replace(alone, artifacts=wave) for wave in first), replace(plan, artifacts=last)]
        return [
            render(self.content, wave, scratch / str(number), VERSION, is_last=wave is plans[-1])
            for number, wave in enumerate(plans)
        ]

    def _planned(self, scratch: Path) -> Plan:
        """Render and return what is missing, under another id where the run's own can't be used."""
        options = self.session.options
        for _ in range(_MOST_IDS):
            try:
                return self._plan_here(scratch / self.destination.run_id)
            except DeletedError as error:
                if options.on_deleted != "recreate":
                    raise DeletedError(
                        f"{self.destination}: the run was deleted on the server, which never takes "
                        "its id again: leave it at that with --on-deleted skip, or send it under a "
                        f"new id with --on-deleted recreate ({error})"
                    ) from error
                self._take_next_id()
            except ConflictError as error:
                earlier = superseded(self.run, self.destination, self._choice, self.session)
                if earlier is None and options.on_conflict != "new-id":
                    raise ConflictError(
                        f"{error}: send it under a new id with --on-conflict new-id"
                    ) from error
                if earlier is not None and {options.on_conflict, options.on_rollback} == {"fail"}:
                    raise RolledBackError(
                        f"{self.destination}: the server holds {earlier.line_count} rows, some of "
                        "which a later attempt of the run has replaced, and W&B takes no row back: "
                        "send the run as it is now under a new id with --on-rollback fresh-id"
                    ) from error
                self._take_next_id(earlier)
        raise ConflictError(f"{self.destination}: no id was free in {_MOST_IDS} tries")

    def _take_next_id(self, earlier: RemoteRun | None = None) -> None:
        """Go on under the next id; ``earlier`` is what the run was there before a rollback."""
        before = self.session.substitute(self.run)
        used = replace(before, run_id=next_id(self.destination.run_id))
        if earlier is not None:
            used = replace(
                used,
                continues=self.destination.run_id,
                continues_url=earlier.url,
                is_linked=False,
            )
        recorded = self.session.recorded_destination(self.run)
        write_substitute(self.session.directory(self.run), recorded, used)
        self.destination = replace(self.destination, run_id=used.run_id)
        self.content.close()
        self.content = self.session.content(self.run, self.destination, self._choice)

    def _link(self, plan: Plan, remote: RemoteRun) -> None:
        """Let the run whose rows this one replaces tell where this one is, once."""
        used = self.session.substitute(self.run)
        if used.continues is None or used.is_linked:
            return
        self.session.server().link(
            plan.entity,
            self.destination.project,
            used.continues,
            lambda config: with_link(config, "continued_as", remote.url),
            f"Continued as [{used.run_id}]({remote.url}): a later attempt replaced rows of this "
            "run.",
        )
        recorded = self.session.recorded_destination(self.run)
        write_substitute(self.session.directory(self.run), recorded, replace(used, is_linked=True))

    def _plan_here(self, scratch: Path) -> Plan:
        content, server, options = self.content, self.session.server(), self.session.options
        self.session.progress(f"{content.info.id}: asking {server.base_url} what it holds")
        plan = make_plan(
            content,
            self.destination,
            server,
            settle_s=options.settle_s,
            level=options.level,
            keep_alive_s=options.keep_alive_s,
        )
        plan = self._with_alerts(plan)
        if not plan.complete:
            self.session.client().start()
        # First, because it finds damage: of what is damaged no run is made.
        self._folders = [] if plan.complete else self._rendered(plan, scratch)
        if plan.remote is None:
            self._claim(plan)
        return plan

    def _claim(self, plan: Plan) -> None:
        """Make the run that the server does not hold; LockedError if somebody else just has."""
        place = (plan.entity, self.destination.project, self.destination.run_id)
        try:
            is_ours = self.session.server().announce(*place)
        except DeletedError:
            raise
        except RefusedError as error:
            raise RefusedError(f"{self.destination}: the run was refused: {error}") from error
        if not is_ours:
            raise LockedError(
                f"{self.destination}: another sync has just begun to send this run (or the answer "
                "to this one was lost): nothing was sent: try again when it has ended"
            )

    def _with_alerts(self, plan: Plan) -> Plan:
        """Add the alerts that no receipt says were sent; where a whole run was, they were too."""
        receipts = read_receipts(self.session.directory(self.run))
        # Those that were sent before a rollback, too.
        ids = (self.destination.run_id, self.session.substitute(self.run).continues)
        places = [replace(self.destination, run_id=id) for id in ids if id is not None]
        told = [r.alerts for r in receipts if r.destination in places]
        alerts = self.content.alerts
        alerts = alerts[max(told, default=len(alerts) if plan.complete else 0) :]
        return replace(plan, alerts=alerts, complete=plan.complete and not alerts)

    def finish(self, said: Upload | None) -> Result:
        """Read everything back and write the receipt; ``said`` None if nothing was sent."""
        assert self._plan is not None
        plan, content, options = self._plan, self.content, self.session.options
        said = self._trouble or said
        proven = content.proven
        known = min(proven.rows, plan.first_row)
        compared = spans(len(content.steps), options.level, self.run.info.id, known)
        if said is None:
            assert plan.remote is not None
            remote = plan.remote
        else:
            remote = await_arrival(
                content,
                plan,
                self.session.server(),
                said,
                next((said.refusals[f] for f in self._folders if f in said.refusals), None),
                compared=compared,
                deadline=self.started + options.timeout_s,
                # A run alone is what the trouble is about; of several only one may be.
                patience_s=options.settle_s if said.shared or not said.complaint else 0.0,
                comes_again=self.session.ongoing is not None,
                stopping=self.session.stopping,
                progress=self.session.progress,
            )
        rows_compared = min(proven.rows_compared, known) + sum(map(len, compared))
        self._link(plan, remote)
        receipt = receipt_of(content, plan, remote, self._mark, options.level, rows_compared)
        self._write(receipt)
        self._remember(plan, remote, rows_compared)
        result = Result(self.run.path, self.run.info.id, "verified", receipt, self.destination)
        if said is None:
            return result
        return replace(
            result,
            rows_sent=len(content.steps) - plan.first_row,
            artifacts_sent=len(plan.artifacts),
            files_sent=len(plan.files),
            bytes_sent=self._bytes,
        )

    def _remember(self, plan: Plan, remote: RemoteRun, rows_compared: int) -> None:
        """Let the next sync of an ongoing one begin where this one has ended."""
        content, ongoing = self.content, self.session.ongoing
        if ongoing is None:
            return
        due = content.proven.streams_due
        if plan.samples or plan.console:
            due = streams_due(len(content.samples), len(content.console))
        proven = Proven(
            lineage=self.run.lineage,
            remote=remote,
            rows=len(content.steps),
            rows_compared=rows_compared,
            digest=content.history_digest,
            beyond=content.beyond,
            images=content.tables.rendered_images,
            streams_due=due,
        )
        ongoing.remember((self.destination, self._choice.suffix), proven)

    def _write(self, receipt: Receipt) -> None:
        directory = self.session.directory(self.run)
        try:
            write_receipt(directory, self.destination, receipt, self.content.choice)
        except OSError as error:
            raise UsageError(
                f"{directory}: all of the run has arrived, but the receipt can't be written "
                f"({error}): name a directory that can be written to with --state-dir"
            ) from error


def _log_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.wandb"))
