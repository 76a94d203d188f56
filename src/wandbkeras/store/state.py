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


class _Piece(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A piece of a row, made as the specification says."""

    step: Count
    timestamp: Instant
    runtime: Seconds
    values: dict[str, Any]


class _Last(_Piece, tag=HISTORY, frozen=True):
    """The last or only piece."""


class _Partial(_Piece, tag=PARTIAL, frozen=True):
    """A piece after which more may follow."""


class _Event(
    msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False, tag=EVENT
):
    """An event, made as the specification says; its first element is its type."""

    kind: str
    timestamp: Instant
    body: dict[str, Any]


_Record = _Last | _Partial | _Event
_KINDS = (HISTORY, PARTIAL, EVENT)
_decode = msgspec.msgpack.Decoder(_Record).decode


def decode_record(payload: bytes) -> Any:
    """Return what a frame holds, a record as :func:`read_records` takes it fastest."""
    try:
        return _decode(payload)
    except msgspec.ValidationError:
        return msgspec.msgpack.decode(payload)


def read_records(records: Iterable[Any], attempt: int) -> Iterator[Row | Event]:
    """Yield the rows and events of journal records, the pieces of one step as one row."""
    pending: Row | None = None
    names: Sequence[str] = ()
    for record in records:
        if isinstance(record, list):
            if record[0] not in _KINDS:
                continue  # of a later version, which adds to this one
            record = _shaped(record)
        if isinstance(record, _Event):
            check_value(record.body)
            if record.kind == "finish" and pending is not None:
                yield pending  # nothing more can come for it
                pending = None
            yield Event(record.kind, record.timestamp, record.body)
            continue
        step, values = record.step, record.values
        names = check_row(values, names)
        if pending is not None:
            if pending.step == step:
                values = {**pending.values, **values}
            else:
                yield pending
            pending = None
        row = Row(step, record.timestamp, record.runtime, values, attempt)
        if isinstance(record, _Last):
            yield row
        else:
            pending = row
    if pending is not None:
        yield msgspec.structs.replace(pending, complete=False)


def _shaped(record: list[Any]) -> Any:
    try:
        return msgspec.convert(record, _Record)
    except msgspec.ValidationError as error:
        text = f"a {record[0]} record of another shape ({error}): {record!r:.80}"
        raise ValueError(text) from error


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
    preempting: bool = False
    beside: bool = False

    @property
    def from_step(self) -> int | None:
        """The step from which this attempt goes on; earlier attempts count up to there."""
        step = self.process.get("from_step")
        return None if step is None else int(step)

    def apply(self, item: Row | Event) -> None:
        if isinstance(item, Row):
            self.apply_rows([item])
        else:
            self.apply_event(item)

    def apply_all(self, items: Iterable[Row | Event]) -> None:
        """Fold records in their order."""
        rows: list[Row] = []
        for item in items:
            if isinstance(item, Row):
                rows.append(item)
            else:
                self.apply_rows(rows)
                rows = []
                self.apply_event(item)
        self.apply_rows(rows)

    def apply_rows(self, rows: Sequence[Row]) -> None:
        """Fold rows that follow one another: together they cost less than one by one."""
        if not rows:
            return
        last = rows[-1]
        self.rows += len(rows)
        self.last_step = last.step
        self.last_row_timestamp = last.timestamp
        self.runtime = last.runtime
        if self.metrics.in_use:
            for row in rows:
                self.metrics.summarise(row.values, self.summary)
        else:
            self.summary.update(_latest(rows))

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
        elif event.type == "preempting":
            self.preempting = True
        elif event.type == "beside":
            self.beside = True
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
        if not {"metrics", "process"} <= members.keys():
            raise ValueError("a state without its metrics or its process")
        state = convert(members, cls, dec_hook=lambda _, value: MetricTable.from_document(value))
        convert(state.process, Process)
        return state


def _latest(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the last value of each metric, but for None."""
    latest: dict[str, Any] = {}
    last = rows[-1].values
    names = set().union(*[row.values for row in rows])
    if len(names) == len(last) and None not in last.values():
        return dict(last)  # most rows have the metrics of the one before
    for row in reversed(rows):
        if not row.values.keys() <= latest.keys():
            for name, value in row.values.items():
                if value is not None:
                    latest.setdefault(name, value)
    return latest


def _update(target: dict[str, Any], body: Mapping[str, Any]) -> None:
    target.update(body.get("update", {}))
    for key in body.get("remove", ()):
        target.pop(key, None)
