"""What a run's records add up to: config, summary, definitions, artifacts, counts, how it ended.

The state is a pure function of the journal. The writer keeps one to answer ``run.summary``; sealing
folds the sealed segments into one and stores it in the manifest; reading goes on from there with
what is still in the journal. So all three agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wandbkeras.store.checks import (
    Count,
    ExitCode,
    Instant,
    Process,
    Seconds,
    check_body,
    check_row,
    check_value,
    convert,
    is_instant,
    is_seconds,
)
from wandbkeras.store.metrics import MetricTable, definition_from_body
from wandbkeras.store.schema import Row

HISTORY, PARTIAL, EVENT = "history", "partial", "event"


@dataclass(frozen=True)
class Event:
    """Anything a run records that is not a row: ``type`` says what, ``body`` the rest."""

    type: str
    timestamp: float
    body: Mapping[str, Any]


_KINDS = (HISTORY, PARTIAL, EVENT)


def _has_shape(record: Sequence[Any]) -> bool:
    """Whether a record of a known kind is made as the specification says."""
    if record[0] == EVENT:
        return (
            len(record) == 4
            and type(record[1]) is str
            and is_instant(record[2])
            and type(record[3]) is dict
        )
    return (
        len(record) == 5
        and type(record[1]) is int
        and 0 <= record[1] < 2**63
        and is_instant(record[2])
        and is_seconds(record[3])
        and type(record[4]) is dict
    )


def read_records(records: Iterable[list[Any]], attempt: int) -> Iterator[Row | Event]:
    """Yield the rows and events of journal records, the pieces of one step as one row."""
    pending: Row | None = None
    for record in records:
        kind = record[0]
        if kind not in _KINDS:
            continue  # of a later version, which adds to this one
        if not _has_shape(record):
            raise ValueError(f"a {kind} record of another shape: {record!r:.80}")
        if kind == EVENT:
            check_value(record[3])
            event = Event(*record[1:])
            if event.type == "finish" and pending is not None:
                yield pending  # nothing more can come for it
                pending = None
            yield event
            continue
        _, step, timestamp, runtime, values = record
        check_row(values)
        if pending is not None and pending.step != step:
            yield pending
            pending = None
        merged = {**pending.values, **values} if pending is not None else values
        pending = Row(step, timestamp, runtime, merged, attempt)
        if kind == HISTORY:
            yield pending
            pending = None
    if pending is not None:
        yield msgspec.structs.replace(pending, complete=False)


@dataclass
class RunState:
    """The fold of an attempt's records. Times in seconds; ``exit_code`` is None until it ends."""

    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: MetricTable = field(default_factory=MetricTable)
    artifacts: list[str] = field(default_factory=list)
    dropped_artifacts: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: Count = 0
    last_step: Count | None = None
    last_row_timestamp: Instant | None = None
    runtime: Seconds = 0.0
    last_seen: Instant = 0.0
    dropped: Count = 0
    dropped_events: Count = 0
    failures: Count = 0
    exit_code: ExitCode | None = None
    process: dict[str, Any] = field(default_factory=dict)
    resumed: bool = False

    @property
    def from_step(self) -> int | None:
        """The step from which this attempt goes on; earlier attempts count up to there."""
        step = self.process.get("from_step")
        return None if step is None else int(step)

    def apply(self, item: Row | Event) -> None:
        if isinstance(item, Row):
            self.apply_row(item.step, item.timestamp, item.runtime, item.values)
        else:
            self.apply_event(item)

    def apply_row(
        self, step: int, timestamp: float, runtime: float, values: Mapping[str, Any]
    ) -> None:
        self.rows += 1
        self.last_step = step
        self.last_row_timestamp = timestamp
        self.runtime = runtime
        if self.metrics.in_use or None in values.values():
            self.metrics.summarise(values, self.summary)
        else:
            self.summary.update(values)

    def apply_event(self, event: Event) -> None:
        """Fold one event; types this version does not know are for newer readers."""
        body = event.body
        check_body(event.type, body)
        self.last_seen = event.timestamp
        if event.type == "config":
            _update(self.config, body)
        elif event.type == "summary":
            for key in (*body.get("update", ()), *body.get("remove", ())):
                self.metrics.forget(key)
            _update(self.summary, body)
        elif event.type == "metric":
            overwrite = bool(body.get("overwrite"))
            self.metrics.define(definition_from_body(body), overwrite=overwrite)
        elif event.type == "artifact":
            self.artifacts.append(body["manifest"])
        elif event.type == "artifact_dropped":
            self.dropped_artifacts.append(body["manifest"])
        elif event.type == "file":
            self.files[body["path"]] = {name: body[name] for name in ("sha256", "md5", "size")}
        elif event.type == "dropped":
            self.dropped += body["rows"]
            self.dropped_events += body["events"]
        elif event.type == "failure":
            self.failures += 1
        elif event.type in ("attempt", "rollback"):
            self._begin(body)
        elif event.type == "finish":
            self.exit_code = body["exit_code"]
            self.runtime = body["runtime"]

    def to_resume_body(self) -> dict[str, Any]:
        """Return what the next attempt goes on with: ``resume`` in its first event."""
        return {
            "config": self.config,
            "summary": self.summary,
            "metrics": self.metrics.to_document(),
        }

    def _begin(self, body: Mapping[str, Any]) -> None:
        resume = body.get("resume")
        self.process |= {key: value for key, value in body.items() if key != "resume"}
        if resume is not None:
            self.config = dict(resume["config"])
            self.summary = dict(resume["summary"])
            self.metrics = MetricTable.from_document(resume["metrics"])
            self.resumed = True

    def to_document(self) -> dict[str, Any]:
        members = {key: value for key, value in vars(self).items() if key != "metrics"}
        return {**members, "metrics": self.metrics.to_document()}

    @classmethod
    def from_document(cls, members: Mapping[str, Any]) -> RunState:
        """Return the state that a manifest holds; ValueError if it is none."""
        state = convert(members, cls, dec_hook=lambda _, value: MetricTable.from_document(value))
        convert(state.process, Process)
        return state


def _update(target: dict[str, Any], body: Mapping[str, Any]) -> None:
    target.update(body.get("update", {}))
    for key in body.get("remove", ()):
        target.pop(key, None)
