"""What a destination must hold when a stored run has arrived, in W&B's terms.

Planning, rendering and verifying all start from this one description, so they can't disagree.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import Any

import msgspec

from wandbkeras.errors import DamagedError
from wandbkeras.store import named_tables
from wandbkeras.store.checks import TABLE
from wandbkeras.store.environment import WANDB_NAMES, Environment
from wandbkeras.store.metrics import MetricDefinition
from wandbkeras.store.opened import State
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import (
    TABLE_SUFFIX,
    Alert,
    ArtifactFile,
    Row,
    RunInfo,
    TableFile,
    table_of,
)
from wandbkeras.store.state import Event
from wandbkeras.store.table_names import table_step
from wandbkeras.sync.artifacts import CLIENT_URI, Artifact, Artifacts
from wandbkeras.sync.choice import REDACTED, Choice
from wandbkeras.sync.config import config_of, with_link
from wandbkeras.sync.console import ConsoleLine, console_lines
from wandbkeras.sync.digests import HistoryDigest
from wandbkeras.sync.held_rows import HeldRows
from wandbkeras.sync.held_tables import HeldTables
from wandbkeras.sync.imported import FOLDER, Imported
from wandbkeras.sync.media import Rendered, media_path, rendered
from wandbkeras.sync.ongoing import NOTHING, Proven

# What W&B's client itself keeps in a summary; it drops what others put there.
CLIENTS_SUMMARY = frozenset({"_wandb", "_step"})


class Content:
    """A stored run as W&B must hold it; ``namespace`` tells its place from all others there.

    ``choice`` is what of it is meant: all, unless said otherwise. ``proven`` is what this process
    has read back before: those rows are not read again.
    ``continues`` is where the run is whose rows it replaces.
    """

    def __init__(
        self,
        run: StoredRun,
        namespace: Sequence[str] = (),
        choice: Choice | None = None,
        proven: Proven = NOTHING,
        *,
        continues: str | None = None,
    ) -> None:
        self.run = run
        self.proven = proven
        self._namespace = namespace
        self.choice = (choice or Choice()).of(run)
        self.imported = Imported(run)
        self.info: RunInfo = self.choice.info(run.info)
        self.state: State = run.state
        total = run.folded
        config = config_of(self.choice.config(total.config))
        self.config: Mapping[str, Any] = with_link(config, "continues", continues)
        self.metrics: list[MetricDefinition] = total.metrics.told()
        self.runtime: float = total.runtime
        self.process: Mapping[str, Any] = run.attempts[0].state.process if run.attempts else {}
        self.exit_code: int = total.exit_code if total.exit_code is not None else 1
        self._rows = HeldRows(
            run, self.choice, proven, self._rendered, is_running=self.state == "running"
        )

    @cached_property
    def started(self) -> float:
        """The start that W&B shows, in seconds since the epoch."""
        started = self.imported.details.started
        return self.info.created if started is None else started

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def remote_states(self) -> tuple[str, ...]:
        """The state that W&B shows, and those that it may show as well.

        A crashed run has an exit code other than 0 there. That a run is preempting is told W&B
        once, and whether it still holds in a later attempt is not documented; nor is whether a run
        that was preempted is called failed.
        """
        state = "failed" if self.state == "crashed" else self.state
        if not any(view.state.preempting for view in self.run.attempts):
            return (state,)
        also = {"running": "preempting", "failed": "preempted", "preempted": "failed"}
        return (state, also[state]) if state in also else (state,)

    @property
    def steps(self) -> Sequence[int]:
        """The steps of the rows to hold; of a running run those that can't change any more."""
        return self._rows.steps

    def rows(self, start: int = 0) -> Iterator[Row]:
        """Yield the rows from number ``start``, their values as W&B holds them."""
        return self._rows.read(start)

    @property
    def history_digest(self) -> HistoryDigest:
        """The digest of the rows, for which all have to have been read that are not proven."""
        return self._rows.digest

    @property
    def beyond(self) -> Mapping[str, Mapping[int | None, str]]:
        """What W&B does not take and is not sent: metric to steps, None for the summary."""
        _ = self.history_digest, self.summary
        return {key: found for key, found in self._rows.beyond.items() if found}

    @property
    def beyond_limits(self) -> list[str]:
        """What W&B does not take and is not sent, a line a metric."""
        return [_beyond_text(key, found) for key, found in self.beyond.items()]

    @property
    def not_sent(self) -> list[str]:
        """All that is left out, a line each: the server has the whole run if there is none."""
        return [*self.choice.left_out, *self.beyond_limits]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary with what W&B adds: the time of the last row and the run's duration.

        ``_step`` is not ours to say: the client sets it to the last row that it sends, and leaves
        it out if it sends none.
        """
        total = self.run.folded
        own = CLIENTS_SUMMARY
        values = {key: item.value for key, item in self._summary.items() if key not in own}
        summary = dict(self._rows.taken(values, None))
        if total.last_step is not None:
            summary["_timestamp"] = total.last_row_timestamp
        runtime = self.imported.details.runtime
        return {**summary, "_runtime": int(self.runtime) if runtime is None else runtime}

    @cached_property
    def alerts(self) -> list[Alert]:
        """The alerts that W&B would have sent on: none of a title that was to wait yet."""
        free_from: dict[str, float] = {}
        sent = []
        for alert in self.run.alerts:
            if alert.timestamp >= free_from.get(alert.title, 0.0):
                free_from[alert.title] = alert.timestamp + alert.wait_duration
                sent.append(alert)
        return sent

    @property
    def _are_streams_due(self) -> bool:
        """Whether system metrics and console go along: of a running run they don't each time."""
        return not self.is_running or self.proven.are_streams_due

    @cached_property
    def samples(self) -> list[Event]:
        """The system metrics, a sample each; what is no number of JSON is not among them.

        None of a running run while they are not due. Those of its further processes, which may
        come between others, when it has ended: the client counts the samples.
        """
        if not self._are_streams_due:
            return []
        return [
            Event(event.type, event.timestamp, metrics)
            for event in self.run.samples(settled=self.is_running)
            if (metrics := {k: v for k, v in event.body.items() if math.isfinite(v)})
        ]

    @cached_property
    def environment(self) -> Environment:
        """Where the run was made, as far as that is known."""
        recorded = self.run.environment
        if recorded is not None:
            args = recorded.args
            for text in self.choice.hidden(self.run.config):
                args = [argument.replace(text, REDACTED) for argument in args]
            return msgspec.structs.replace(recorded, args=args)
        program, python = (str(self.process.get(name) or "") for name in ("program", "python"))
        return Environment(program=program, python=python)

    @cached_property
    def console(self) -> Sequence[ConsoleLine]:
        """What the run printed, for the Logs page; an imported run has its own way of that.

        Nothing of a running run while it is not due.
        """
        if self.imported.records or not self.choice.files or not self._are_streams_due:
            return ()
        return console_lines(self.run, self.choice.hidden(self.run.config), REDACTED)

    @property
    def artifacts(self) -> list[Artifact]:
        """The versions in order; one whose content equals the version before it is that version."""
        return self.versions.all if self.choice.artifacts else []

    @cached_property
    def versions(self) -> Artifacts:
        """The artifact versions, also those not meant, and where the tables are among them."""
        logged = self.run.artifacts_by_manifest
        ids = self.imported.details.version_ids
        return Artifacts(self.info.id, logged, self.tables.tables, self.tables.table, ids)

    @cached_property
    def tables(self) -> HeldTables:
        """The tables of the run: of its artifacts, and those that its rows and its summary name."""
        run, last = self.run, self.steps[-1] if self.steps else -1
        in_rows = [
            table
            for table in run.tables()
            if (table.step is None or table.step <= last) and self.choice.sends(table.key or "")
        ]
        summary = self.choice.metrics(run.summary)
        in_summary = map(run.named_table, named_tables.in_summary(summary))
        kept, dropped = (
            [run.stored_table(file) for version in versions for file in version.tables.values()]
            for versions in (run.artifacts, run.dropped_artifacts)
        )
        return HeldTables((*in_rows, *in_summary), kept, dropped, self.proven.images)

    @cached_property
    def mask_labels(self) -> dict[str, Mapping[str, str]]:
        """The class labels of masks, by key and mask as the client joins them; in W&B's config."""
        return {
            **self.imported.details.mask_labels,
            **{
                f"{table.key}_wandb_delimeter_{mask}": labels
                for table in self.tables.images
                for mask, labels in self.tables.image(table.file.path).labels.items()
            },
        }

    @property
    def uses(self) -> bool:
        """Whether the run takes in an artifact."""
        return any(artifact.version.used for artifact in self.artifacts)

    @cached_property
    def dropped_digests(self) -> set[str]:
        """The digests of versions that the run no longer keeps, but a server may hold."""
        dropped = set()
        for version in self.run.dropped_artifacts:
            with suppress(DamagedError):  # dropped because of that, in a repair
                dropped.add(self.versions.digest(version))
        return dropped - {artifact.digest for artifact in self.artifacts}

    @cached_property
    def files(self) -> Mapping[str, ArtifactFile]:
        """The files of the run itself, by their names: those saved with it, and those of values."""
        if not self.choice.files:
            return {}
        found = {
            WANDB_NAMES.get(name, name): file
            for name, file in self.run.files.items()
            if not name.startswith(FOLDER)
        }
        found |= self.imported.files
        for item in self._summary.values():
            found |= item.files
        for table in self.tables.named:
            assert table.key is not None and table.step is not None
            found |= self._of_table(table.file, table.key, table.step, table.kind).files
        return found

    def client_id(self, identity: str, what: str) -> str:
        """Return an id of 128 characters, the same at every sync: the server knows it again.

        An imported version keeps the one by which its rows name it.
        """
        details = self.imported.details
        ids = details.version_ids if what == "version" else details.sequence_ids
        if identity in ids:
            return ids[identity]
        parts = (*self._namespace, self.info.id, identity, what)
        return hashlib.sha512("/".join(parts).encode()).hexdigest()

    def close(self) -> None:
        """Remove what was made to be sent."""
        if "tables" in self.__dict__:
            self.tables.scratch.close()

    def __enter__(self) -> Content:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def _summary(self) -> dict[str, Rendered]:
        # The client that computes summaries online leaves out what was logged as None.
        items = self.choice.metrics(self.run.summary).items()
        return {key: self._rendered(v, key, "summary") for key, v in items if v is not None}

    def _rendered(self, value: Any, key: str, step: int | str) -> Rendered:
        """Return a value as W&B holds it, and the files of the run that it names."""
        if not isinstance(value, dict):
            return rendered(value, key, step)
        file = table_of(value)
        if file is not None:
            return self._of_table(file, key, table_step(file.path), value["_type"])
        if "_type" in value:
            return rendered(value, key, step)
        # Aggregates of a metric, or what was put into the summary.
        members = {name: self._rendered(item, key, step) for name, item in value.items()}
        files = {name: f for item in members.values() for name, f in item.files.items()}
        return Rendered({name: item.value for name, item in members.items()}, files)

    def _of_table(self, file: TableFile, key: str, step: int, kind: str) -> Rendered:
        if kind != TABLE:
            images = self.tables.image(file.path)
            return Rendered(images.value, images.files)
        table, place = self.tables.table(file.path), self.versions.place(file.path)
        path = media_path("table", key, step, table.file, TABLE_SUFFIX)
        version = self.client_id(place.identity, "version")
        sequence = self.client_id(place.name, "sequence")
        value = {
            "_type": "table-file",
            "sha256": table.file.sha256,
            "size": table.file.size,
            "path": path,
            "artifact_path": f"{CLIENT_URI}{version}/{place.path}",
            "_latest_artifact_path": f"{CLIENT_URI}{sequence}:latest/{place.path}",
            "ncols": table.columns,
            "nrows": table.rows,
            "log_mode": "IMMUTABLE",
        }
        return Rendered(value, {path: table.file})


def _beyond_text(key: str, found: Mapping[int | None, str]) -> str:
    steps = [step for step in found if step is not None]
    places = [f"{len(steps)} rows, the first at step {steps[0]}"] if steps else []
    places += ["the summary"] if None in found else []
    return f"{key!r:.200} in {' and '.join(places)}: {next(iter(found.values()))}"
