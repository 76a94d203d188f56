"""Runs: finding one, upserting one, its fields as GraphQL shows them."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from tests.server import history
from tests.server.context import Context
from tests.server.history import ParquetHistory
from tests.server.paging import Connection, connect
from tests.server.people import EntityNode, UserNode
from tests.server.projects import ProjectNode, find_project, make_project
from tests.server.refusal import RefusalError, violation
from tests.server.state import instant, node_id, parse_id

# The input's name of a field, and the column it is kept in.
KEPT = {
    "displayName": "display_name",
    "description": "description",
    "notes": "notes",
    "config": "config",
    "groupName": "group_name",
    "jobType": "job_type",
    "host": "host",
    "commit": "commit_hash",
    "jobProgram": "program",
    "jobRepo": "repo",
    "sweep": "sweep",
    "summaryMetrics": "summary",
}


def find_run(context: Context, project: ProjectNode, name: str) -> RunNode | None:
    """The run, unless there is none or it was deleted."""
    row = context.state.one(
        "select * from runs where project = ? and name = ? and deleted = 0", project.pk, name
    )
    return RunNode(context, row) if row else None


def need_run(context: Context, entity: str, project: str, name: str) -> RunNode:
    found = find_project(context, entity, project)
    run = find_run(context, found, name) if found else None
    if run is None:
        raise RefusalError(404, f"run {entity}/{project}/{name} not found")
    return run


def run_by_id(context: Context, storage_id: str) -> RunNode:
    """By the id GraphQL shows."""
    version, name, project, entity = (parse_id("Run", storage_id) + [""] * 4)[:4]
    if version != "v1":
        raise RefusalError(404, f"run {storage_id!r} not found")
    return need_run(context, entity, project, name)


def upsert(context: Context, fields: dict[str, Any]) -> tuple[RunNode, bool]:
    """Makes or updates a run; whether it was made.

    A process that names the run is (again) running it; an update by id alone, which is what
    `wandb.Api` sends, leaves the state as it is.
    """
    run, inserted = _find_or_insert(context, fields)
    changes = {KEPT[name]: fields[name] for name in KEPT if fields.get(name) is not None}
    for column in ("config", "summary"):
        if column in changes:
            _check_object(changes[column], column)
    if fields.get("tags") is not None:
        changes["tags"] = json.dumps(fields["tags"])
    if fields.get("name") or fields.get("state"):
        changes |= {"state": fields.get("state") or "running", "exit_code": None}
        changes |= {"heartbeat_at": context.now}
        if run.row["state"] != "running":
            changes |= {"preempting": 0}
    context.state.update("runs", run.pk, **changes)
    return RunNode(context, context.state.row("runs", run.pk)), inserted


def _find_or_insert(context: Context, fields: dict[str, Any]) -> tuple[RunNode, bool]:
    if fields.get("id"):
        return run_by_id(context, fields["id"]), False
    if not fields.get("name"):
        raise violation("upsert", "neither id nor name of the run is given")
    project = make_project(context, fields.get("entityName"), fields.get("modelName"))
    name = fields["name"]
    row = context.state.one("select * from runs where project = ? and name = ?", project.pk, name)
    if row is not None and row["deleted"]:
        raise RefusalError(
            409,
            f"run {project.entity_name}/{project.name}/{name} was previously created and"
            " deleted; try a new run name",
        )
    if row is not None:
        return RunNode(context, row), False
    pk = context.state.insert(
        "runs", project=project.pk, name=name, created_at=context.now, heartbeat_at=context.now,
        display_name=fields.get("displayName") or name,
    )  # fmt: skip
    return RunNode(context, context.state.row("runs", pk)), True


def _check_object(text: str, what: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise violation("json", f"the run's {what} is no JSON object: {text[:200]}")
    if what == "config":
        for key, entry in value.items():
            if not isinstance(entry, dict) or "value" not in entry:
                raise violation("config", f"config {key!r} is not wrapped in a value")


class RunNode:
    read_only = False

    def __init__(self, context: Context, row: sqlite3.Row) -> None:
        self.context = context
        self.row = row
        self.pk = int(row["pk"])
        self.name = str(row["name"])
        self.display_name = row["display_name"]
        self.description = row["description"]
        self.notes = row["notes"]
        self.config = str(row["config"])
        self.summary_metrics = str(row["summary"])
        self.group = row["group_name"]
        self.job_type = row["job_type"]
        self.host = row["host"]
        self.commit = row["commit_hash"]
        self.sweep_name = row["sweep"]
        self.project_id = int(row["project"])
        self.created_at = instant(row["created_at"])
        self.heartbeat_at = instant(row["heartbeat_at"])

    @property
    def project(self) -> ProjectNode:
        return ProjectNode(self.context, self.context.state.row("projects", self.project_id))

    @property
    def id(self) -> str:
        project = self.project
        return node_id("Run", "v1", self.name, project.name, project.entity_name)

    @property
    def entity(self) -> EntityNode:
        return self.project.entity

    @property
    def user(self) -> UserNode:
        return UserNode(self.context.state.entity)

    @property
    def state(self) -> str:
        silence = self.context.now - float(self.row["heartbeat_at"])
        if self.row["state"] != "running":
            return str(self.row["state"])
        preempting = bool(self.row["preempting"])
        if silence > self.context.state.crash_after:
            return "preempted" if preempting else "crashed"
        return "preempting" if preempting else "running"

    @property
    def tags(self) -> list[str]:
        tags: list[str] = json.loads(self.row["tags"])
        return tags

    def wandb_config(self, keys: list[str] | None = None) -> str:
        held = json.loads(self.config).get("_wandb", {}).get("value", {})
        return json.dumps({key: held[key] for key in held if keys is None or key in keys})

    # --- lines ----------------------------------------------------------------------------

    @property
    def history_line_count(self) -> int:
        return history.count(self.context, self.pk, history.HISTORY)

    @property
    def events_line_count(self) -> int:
        return history.count(self.context, self.pk, history.EVENTS)

    @property
    def log_line_count(self) -> int:
        return history.count(self.context, self.pk, history.OUTPUT)

    @property
    def history_tail(self) -> str:
        return json.dumps(history.tail(self.context, self.pk, history.HISTORY))

    @property
    def events_tail(self) -> str:
        return json.dumps(history.tail(self.context, self.pk, history.EVENTS))

    @property
    def system_metrics(self) -> str:
        tail = history.tail(self.context, self.pk, history.EVENTS)
        return tail[-1] if tail else "{}"

    @property
    def history_keys(self) -> dict[str, Any] | None:
        return history.keys(self.context, self.pk)

    def history(
        self,
        min_step: int | None = None,
        max_step: int | None = None,
        samples: int | None = None,
    ) -> list[str]:
        return history.rows(self.context, self.pk, min_step, max_step, samples)

    def sampled_history(self, specs: list[str]) -> list[list[dict[str, Any]]]:
        return [history.sampled(self.context, self.pk, json.loads(spec)) for spec in specs]

    def parquet_history(self, live_keys: list[str]) -> ParquetHistory:
        ended = self.state in ("finished", "failed", "preempted")
        return history.parquet(self.context, self.pk, live_keys, ended=ended)

    def events(self, samples: int | None = None) -> list[str]:
        return history.sample(history.texts(self.context, self.pk, history.EVENTS), samples)

    def log_lines(
        self,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        use_improved_pagination: bool = False,
    ) -> Connection:
        lines = history.log_lines(self.context, self.pk)
        return connect(lines[-last:]) if last else connect(lines, after, first)

    # --- files and artifacts --------------------------------------------------------------

    @property
    def file_count(self) -> int:
        from tests.server.run_files import files_of

        return len(files_of(self.context, self.pk))

    def files(
        self,
        names: list[str] | None = None,
        after: str | None = None,
        first: int | None = None,
        pattern: str | None = None,
    ) -> Connection:
        from tests.server.run_files import files_of

        return connect(files_of(self.context, self.pk, names=names, pattern=pattern), after, first)

    def output_artifacts(self, after: str | None = None, first: int | None = None) -> Connection:
        from tests.server.artifacts import artifacts_of_run

        return connect(artifacts_of_run(self.context, self.pk, "output"), after, first)

    def input_artifacts(self, after: str | None = None, first: int | None = None) -> Connection:
        from tests.server.artifacts import artifacts_of_run

        return connect(artifacts_of_run(self.context, self.pk, "input"), after, first)
