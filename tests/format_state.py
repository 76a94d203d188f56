"""The state of a run, from docs/format.md alone: what its records add up to, by writer and merged.

It stands on ``tests/format_contents.py``, and shares no line with the package either. What it adds
are the summary with what ``define_metric`` asks for, the counts, and how the run ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests import format_contents
from tests.format_contents import add_up
from tests.format_reader import (
    Record,
    UnreadableError,
    owners,
    read_manifest,
    read_segments,
)

PIECE = (str, int, (int, float), (int, float), dict)
SHAPES = {"history": PIECE, "partial": PIECE, "event": (str, str, (int, float), dict)}
AGGREGATE = {"first": None, "last": None, "min": float("inf"), "max": -float("inf")}
DEFINITION: dict[str, Any] = {
    "step_metric": None,
    "step_sync": False,
    "hidden": False,
    "summary": [],
    "goal": None,
}
SUMS = ("dropped", "dropped_events", "failures")


class Row(NamedTuple):
    step: int
    timestamp: float
    runtime: float
    attempt: int
    values: Record


def new_state() -> Record:
    zeros = dict.fromkeys(("rows", *SUMS), 0) | {"runtime": 0.0, "last_seen": 0.0}
    nulls = dict.fromkeys(("last_step", "last_row_timestamp", "exit_code"))
    metrics: Record = {"definitions": [], "aggregates": {}, "latest_step": {}}
    maps: Record = {"config": {}, "summary": {}, "process": {}, "metrics": metrics}
    lists: Record = {"artifacts": [], "dropped_artifacts": []}
    flags = {"resumed": False, "preempting": False, "beside": False}
    return {**zeros, **nulls, **maps, **lists, **flags, "files": {}}


def read_states(root: Path) -> list[tuple[int, Record]]:
    """Return the attempt and the state of each writer, in their order (Manifests)."""
    found = []
    for attempt, number in owners(root):
        manifest = read_manifest(root, attempt, number)
        fold = Fold({**new_state(), **(manifest["state"] or {})})
        folder, journal = root / f"attempts/{attempt:03d}", f"journal-{number:03d}"
        for header, records in read_segments(folder, journal, manifest["segments"]):
            if not fold.state["process"]:
                fold.state["process"] = dict(header.get("process") or {})
            for item in in_order(records, attempt):
                if isinstance(item, Row):
                    fold.close(item)
                else:
                    fold.event(*item[1:])
        found.append((attempt, fold.state))
    return found


def in_order(records: list[list[Any]], attempt: int) -> Iterator[Row | list[Any]]:
    """Yield the rows of a segment, each once it is closed, and the events (Rows)."""
    row: Row | None = None
    for record in (record for record in records if record[0] in SHAPES):
        shape = SHAPES[record[0]]
        if len(record) != len(shape) or not all(map(isinstance, record, shape)):
            raise UnreadableError("shape")
        kind, step, *_ = record  # of an event its type
        if row and (step == "finish" if kind == "event" else step != row.step):
            yield row
            row = None
        if kind == "event":
            yield record
            continue
        row = Row(*record[1:4], attempt, {**(row.values if row else {}), **record[4]})
        if kind == "history":
            yield row
            row = None
    if row:
        yield row


def merged_state(states: list[tuple[int, Record]]) -> Record:
    """Return the states of all writers as one (Attempts, State)."""
    total = new_state() | format_contents.merged_state([state for _, state in states])
    for _, state in states:
        if state["resumed"]:
            total["summary"] = {}
            total["metrics"] = {"definitions": [], "aggregates": {}, "latest_step": {}}
        _add_metrics(total["metrics"], state["metrics"])
        total["summary"].update(state["summary"])
        for name in ("dropped_artifacts", *SUMS):
            total[name] += state[name]
        total["runtime"] = max(total["runtime"], state["runtime"])
        total |= {name: state[name] for name in ("process", "last_seen")}
    if with_rows := [(a, state) for a, state in states if state["last_step"] is not None]:
        last = [state for attempt, state in with_rows if attempt == with_rows[-1][0]]
        furthest = max(last, key=lambda state: state["last_step"])
        total |= {name: furthest[name] for name in ("last_step", "last_row_timestamp")}
    codes = [state["exit_code"] for state in last_attempt(states)]
    if codes and None not in codes:
        total["exit_code"] = max(codes, key=abs)
    total["preempting"] = any(state["preempting"] for state in last_attempt(states))
    return total


def last_attempt(states: list[tuple[int, Record]]) -> list[Record]:
    return [state for attempt, state in states if attempt == states[-1][0]]


def _add_metrics(total: Record, metrics: Record) -> None:
    known = {definition["name"] for definition in total["definitions"]}
    total["definitions"] += [d for d in metrics["definitions"] if d["name"] not in known]
    for name in ("aggregates", "latest_step"):
        total[name] = {**metrics[name], **total[name]}


def status(states: list[tuple[int, Record]], host: str, now: float) -> str:
    """Return the state of a run on the machine ``host`` (Running, finished and so on)."""
    last = last_attempt(states)
    unended = [state for state in last if state["exit_code"] is None]
    if any(_is_alive(state, host, now) for state in unended):
        return "running"
    if last and not unended and not any(state["exit_code"] for state in last):
        return "finished"
    if any(state["preempting"] for state in last):
        return "preempted"
    return "crashed" if unended or not last else "failed"


def _is_alive(state: Record, host: str, now: float) -> bool:
    process, boot = state["process"], Path("/proc/sys/kernel/random/boot_id")
    here = {"host": host, "boot": boot.read_text().strip() if boot.exists() else None}
    pids = Path("/proc/self/ns/pid")
    here["pids"] = str(pids.readlink()) if pids.exists() else None
    if {key: process.get(key) for key in here} != here or process.get("started") is None:
        return bool(now - state["last_seen"] < 90)
    stat = Path(f"/proc/{process['pid']}/stat")
    fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else ["X"]
    return fields[0] not in "ZX" and int(fields[19]) == process["started"]


class Fold:
    """Adds the records of a writer up to a state (State, Summaries)."""

    def __init__(self, state: Record) -> None:
        self.state = state

    @property
    def definitions(self) -> list[Record]:
        definitions: list[Record] = self.state["metrics"]["definitions"]
        return definitions

    def close(self, row: Row) -> None:
        self.state["rows"] += 1
        self.state |= {"last_step": row.step, "last_row_timestamp": row.timestamp}
        self.state["runtime"] = row.runtime
        globs = [d for d in self.definitions if d["name"].endswith("*")]
        for name in row.values:
            if self.definition(name) is None and not name.startswith("_"):
                found = [d for d in globs if name.startswith(d["name"][:-1])]
                self.definitions.extend({**d, "name": name} for d in found[:1])
        latest = self.state["metrics"]["latest_step"]
        latest |= {key: row.values[key] for key in latest if is_number(row.values.get(key))}
        for name, value in row.values.items():
            asked = (self.definition(name) or DEFINITION)["summary"]
            shown = self.aggregate(name, value, asked) if asked else value
            if shown is not None and "none" not in asked:
                self.state["summary"][name] = shown

    def aggregate(self, name: str, value: Any, asked: list[str]) -> Record:
        new = {**AGGREGATE, "total": 0.0, "count": 0}
        a: Record = self.state["metrics"]["aggregates"].setdefault(name, new)
        a["first"] = value if a["first"] is None and a["count"] == 0 else a["first"]
        a["last"] = value
        if is_number(value):
            a["min"] = value if value < a["min"] or value != value else a["min"]
            a["max"] = value if value > a["max"] or value != value else a["max"]
            a["total"], a["count"] = a["total"] + value, a["count"] + 1
        numbers = {**a, "mean": a["total"] / a["count"]} if a["count"] else {}
        known = {"first": a["first"], "last": a["last"], **numbers}
        return {key: known[key] for key in asked if key in known}

    def definition(self, name: str) -> Record | None:
        return next((d for d in self.definitions if d["name"] == name), None)

    def event(self, kind: str, timestamp: float, body: Record) -> None:
        state = self.state
        state["last_seen"] = timestamp
        add_up(state, kind, body)
        if kind == "summary":
            self.set_summary(body.get("update", {}), body.get("remove", []))
        elif kind == "metric":
            self.define({**DEFINITION, **body})
        elif kind == "dropped":
            state["dropped"] += body["rows"]
            state["dropped_events"] += body["events"]
        elif kind == "failure":
            state["failures"] += 1
        elif kind in ("preempting", "beside"):
            state[kind] = True
        elif kind == "finish":
            state |= {"exit_code": body["exit_code"], "runtime": body["runtime"]}

    def set_summary(self, update: Record, remove: list[str]) -> None:
        self.state["summary"].update(update)
        for key in remove:
            self.state["summary"].pop(key, None)
        for key in (*update, *remove):
            self.state["metrics"]["aggregates"].pop(key, None)
            if (definition := self.definition(key)) and not key.endswith("*"):
                definition["summary"] = ["none"] if "none" in definition["summary"] else []

    def define(self, later: Record) -> None:
        overwrite, earlier = later.pop("overwrite", False), self.definition(later["name"])
        if earlier is None:
            self.definitions.append(later)
        elif not overwrite:
            new, old = later["summary"], earlier["summary"]
            none = ["none"] if "none" in new or (not new and "none" in old) else []
            later["summary"] = [name for name in {*old, *new} if name != "none"] + none
            for key in ("step_metric", "goal", "step_sync", "hidden"):
                later[key] = later[key] or earlier[key]
        if earlier is not None:
            earlier.update(later)
        if later["step_metric"]:
            self.state["metrics"]["latest_step"].setdefault(later["step_metric"], 0)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
