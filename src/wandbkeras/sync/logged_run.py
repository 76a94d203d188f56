"""What W&B's client wrote into a transaction log, as plain values.

What has no place in a run of ours (system metrics, console, the machine, telemetry, alerts) is
handed on as it is. What makes no sense is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2 as pb

from wandbkeras.store.checks import parse_json
from wandbkeras.store.metrics import AGGREGATES, MetricDefinition
from wandbkeras.store.schema import Row
from wandbkeras.sync.log_blocks import Losses, read_records
from wandbkeras.sync.logged_artifact import LoggedArtifact, logged_artifact
from wandbkeras.sync.transaction_log import MASK_LABELS, TransactionLog

# Sent again as they were: records that a run of ours has no stream for.
KEPT = frozenset(
    {
        "alert",
        "environment",
        "output",
        "output_logger",
        "output_raw",
        "preempting",
        "stats",
        "tbrecord",
        "telemetry",
        "use_artifact",
    }
)
# Of these nothing is missed.
_EMPTY = frozenset({"header", "footer", "final", "noop_link_artifact", None})
_GOALS = {pb.MetricRecord.GOAL_MINIMIZE: "minimize", pb.MetricRecord.GOAL_MAXIMIZE: "maximize"}
_INDEX = ("_step", "_timestamp", "_runtime")


@dataclass
class LoggedRun:
    """All of a log but its rows. ``started`` is what W&B shows as the start; times in seconds.

    ``internal`` is W&B's own part of the config, ``mask_labels`` are its class labels of masks.
    ``exit_code`` is None if the run has no end there. ``kept`` counts the records that were handed
    on, by their kinds, and ``left_out`` what is lost, by the reason.
    """

    id: str = ""
    names: dict[str, Any] = field(default_factory=dict)
    created: float | None = None
    started: float | None = None
    program: str = ""
    python: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    internal: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    runtime: float | None = None
    summary_runtime: Any = None
    exit_code: int | None = None
    mask_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    metrics: list[MetricDefinition] = field(default_factory=list)
    files: dict[str, None] = field(default_factory=dict)
    artifacts: list[LoggedArtifact] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    losses: Losses = field(default_factory=Losses)


def read_run(path: Path, kept: TransactionLog) -> LoggedRun:
    """Return what the log at ``path`` says of its run; write what it hands on to ``kept``."""
    found = LoggedRun()
    names: list[str] = []
    for record in _records(path, found.losses):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            _take_run(record.run, found)
            kept.write(_without_names(record.run))
        elif kind == "config":
            _take_config(record.config, found, kept)
        elif kind == "summary":
            _change(found.summary, record.summary, found.left_out, "summary")
        elif kind == "metric":
            names.append(record.metric.name)
            found.metrics.append(_definition(record.metric, names))
        elif kind == "files":
            found.files |= dict.fromkeys(item.path for item in record.files.files)
        elif kind == "artifact":
            found.artifacts.append(logged_artifact(record.artifact))
        elif kind == "request" and record.request.HasField("log_artifact"):
            found.artifacts.append(logged_artifact(record.request.log_artifact.artifact))
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
            found.runtime = float(record.exit.runtime) or found.runtime
        elif kind in KEPT:
            if kind == "environment":
                _take_environment(record.environment, found)
            found.kept[kind] += 1
            kept.write(record)
        elif kind not in _EMPTY and kind != "history":
            found.left_out[f"records of the kind {kind!r}"] += 1
    internal = found.summary.pop("_wandb", None)
    if found.runtime is None and isinstance(internal, dict):
        found.runtime = internal.get("runtime")
    found.mask_labels = _mask_labels(found.internal.get("_wandb"))
    found.summary_runtime = found.summary.get("_runtime")
    for name in _INDEX:
        found.summary.pop(name, None)
    return found


def read_rows(path: Path, left_out: Counter[str]) -> Iterator[Row]:
    """Yield the rows of the log at ``path``; count in ``left_out`` what a run can't hold."""
    before: Row | None = None
    for record in _records(path, Losses()):
        if record.WhichOneof("record_type") != "history":
            continue
        values: dict[str, Any] = {}
        _set_all(values, record.history.item, left_out, "history")
        step = values.pop("_step", record.history.step.num)
        timestamp = values.pop("_timestamp", before.timestamp if before else 0.0)
        runtime = values.pop("_runtime", before.runtime if before else 0.0)
        try:
            row = Row(int(step), float(timestamp), float(runtime), values)
        except (TypeError, ValueError):
            left_out["rows whose step or time is no number"] += 1
            continue
        if before is not None and row.step <= before.step:
            left_out["rows whose step is not larger than the one before"] += 1
            continue
        before = row
        yield row


def kept_records(path: Path, *, again: bool, hidden: Iterable[str] = ()) -> Iterator[pb.Record]:
    """Yield the records that were handed on; ``again`` only those that may come several times.

    The ``hidden`` texts are replaced in what the console showed and in the program's arguments.
    """
    for record in _records(path, Losses()):
        kind = record.WhichOneof("record_type")
        if again and kind not in ("environment", "telemetry", "config"):
            continue
        for text in hidden:
            _hide(record, text)
        if kind != "run":
            yield record


def kept_run(path: Path) -> pb.RunRecord | None:
    """Return the run as the client wrote it, without what a run of ours says itself."""
    for record in _records(path, Losses()):
        if record.WhichOneof("record_type") == "run":
            return record.run
    return None


def _records(path: Path, losses: Losses) -> Iterator[pb.Record]:
    for data in read_records(path, losses):
        try:
            yield pb.Record.FromString(data)
        except DecodeError:
            losses.damaged += 1
            losses.bytes += len(data)


def _take_run(run: pb.RunRecord, found: LoggedRun) -> None:
    found.id = run.run_id
    found.names |= {
        "entity": run.entity or None,
        "project": run.project or None,
        "name": run.display_name or None,
        "group": run.run_group or None,
        "job_type": run.job_type or None,
        "tags": tuple(run.tags),
        "notes": run.notes or None,
        "host": run.host or None,
    }
    found.created = run.start_time.ToMicroseconds() / 1e6
    _change(found.config, run.config, found.left_out, "config")
    found.config.pop("_wandb", None)


def _without_names(run: pb.RunRecord) -> pb.Record:
    """Return what a run of ours doesn't say itself; nothing that would renumber its steps."""
    return pb.Record(
        run=pb.RunRecord(
            settings=run.settings if run.HasField("settings") else None,
            sweep_id=run.sweep_id,
            telemetry=run.telemetry if run.HasField("telemetry") else None,
            git=run.git if run.HasField("git") else None,
        )
    )


def _take_environment(environment: pb.EnvironmentRecord, found: LoggedRun) -> None:
    if environment.HasField("started_at"):
        found.started = environment.started_at.ToMicroseconds() / 1e6
    found.program = environment.program or found.program
    found.python = environment.python or found.python


def _take_config(config: pb.ConfigRecord, found: LoggedRun, kept: TransactionLog) -> None:
    """Take the user's config; W&B's own is handed on."""
    own, internal = pb.ConfigRecord(remove=config.remove), pb.ConfigRecord()
    for item in config.update:
        path = list(item.nested_key) or [item.key]
        (internal if path[0] == "_wandb" else own).update.append(item)
    _change(found.config, own, found.left_out, "config")
    if internal.update:
        _change(found.internal, internal, found.left_out, "config")
        found.kept["config"] += 1
        kept.write(pb.Record(config=internal))


def _mask_labels(internal: Any) -> dict[str, dict[str, str]]:
    """Return the class labels of masks that W&B's own config has."""
    held = internal.get(MASK_LABELS) if isinstance(internal, dict) else None
    labels = {
        mask: item.get("value")
        for mask, item in (held.items() if isinstance(held, dict) else ())
        if isinstance(item, dict)
    }
    return {
        mask: {number: str(name) for number, name in names.items()}
        for mask, names in labels.items()
        if isinstance(names, dict)
    }


def _change(target: dict[str, Any], change: Any, left_out: Counter[str], where: str) -> None:
    """Apply an update of config or summary."""
    _set_all(target, change.update, left_out, where)
    for item in change.remove:
        *folders, name = list(item.nested_key) or [item.key]
        holder: Any = target
        for folder in folders:
            holder = holder.get(folder) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder.pop(name, None)


def _set_all(
    target: dict[str, Any], items: Iterable[Any], left_out: Counter[str], where: str
) -> None:
    for item in items:
        path = list(item.nested_key) or [item.key]
        try:
            value = parse_json(item.value_json)
        except ValueError as error:
            left_out[f"{where}: {'.'.join(path)!r:.80}: {error}"] += 1
            continue
        holder = target
        for folder in path[:-1]:
            if not isinstance(holder.get(folder), dict):
                holder[folder] = {}
            holder = holder[folder]
        holder[path[-1]] = value


def _definition(metric: pb.MetricRecord, names: list[str]) -> MetricDefinition:
    index = metric.step_metric_index
    step_metric = metric.step_metric or (names[index - 1] if 0 < index <= len(names) else "")
    summary = [name for name in (*AGGREGATES, "none") if getattr(metric.summary, name)]
    return MetricDefinition(
        name=metric.name or metric.glob_name,
        step_metric=step_metric or None,
        step_sync=metric.options.step_sync,
        hidden=metric.options.hidden,
        summary=tuple(summary),
        goal=_GOALS.get(metric.goal),
    )


def _hide(record: pb.Record, text: str) -> None:
    if record.HasField("output_raw"):
        record.output_raw.line = record.output_raw.line.replace(text, "(redacted)")
    elif record.HasField("environment"):
        hidden = [argument.replace(text, "(redacted)") for argument in record.environment.args]
        del record.environment.args[:]
        record.environment.args.extend(hidden)
