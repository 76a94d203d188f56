"""What the server received, as frozen values read from its state directory.

Reading needs no running server, so a test can look at what a killed one held.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server.history import EVENTS, HISTORY, OUTPUT
from tests.server.state import DATABASE, OBJECTS


@dataclass(frozen=True)
class Violation:
    kind: str
    message: str
    method: str
    path: str
    operation: str | None


@dataclass(frozen=True)
class RequestLine:
    """One line of the request log; a status of None was never answered."""

    time: float
    method: str
    path: str
    kind: str
    operation: str | None
    status: int | None


@dataclass(frozen=True)
class Alert:
    title: str
    text: str
    severity: str


@dataclass(frozen=True)
class ArtifactSnapshot:
    """One version of an artifact (`version` None: never committed)."""

    name: str
    type: str
    version: int | None
    state: str
    digest: str
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    description: str | None
    metadata: Mapping[str, Any]
    manifest: Mapping[str, Any] | None
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class RunSnapshot:
    """One run; lines are the texts as received, in order."""

    entity: str
    project: str
    id: str
    display_name: str | None
    notes: str | None
    group: str | None
    job_type: str | None
    host: str | None
    tags: tuple[str, ...]
    state: str  # as last told; a silent run is still running here
    exit_code: int | None
    deleted: bool
    config: Mapping[str, Any]
    summary_text: str
    history: tuple[str, ...]
    events: tuple[str, ...]
    output: tuple[str, ...]
    files: Mapping[str, bytes]
    alerts: tuple[Alert, ...]
    logged_artifacts: tuple[ArtifactSnapshot, ...]
    used_artifacts: tuple[ArtifactSnapshot, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history, parsed."""
        return [json.loads(line) for line in self.history]

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.summary_text)
        return summary

    @property
    def config_values(self) -> dict[str, Any]:
        """The config without the wrapping and without `_wandb`."""
        return {key: entry["value"] for key, entry in self.config.items() if key != "_wandb"}

    @property
    def console(self) -> list[str]:
        """What the console showed; structured lines are taken apart."""
        return [_console_text(line) for line in self.output]


def _console_text(line: str) -> str:
    try:
        return str(json.loads(line)["content"])
    except (ValueError, TypeError, KeyError):
        return line


def violations(directory: Path) -> list[Violation]:
    with opened(directory) as db:
        return [
            Violation(*row)
            for row in db.execute(
                "select kind, message, method, path, operation from violations order by n"
            )
        ]


def requests(directory: Path) -> list[RequestLine]:
    with opened(directory) as db:
        return [
            RequestLine(*row)
            for row in db.execute(
                "select time, method, path, kind, operation, status from requests order by n"
            )
        ]


def run_ids(directory: Path, entity: str, project: str) -> list[str]:
    with opened(directory) as db:
        return [
            row[0]
            for row in db.execute(
                "select r.name from runs r join projects p on p.pk = r.project"
                " where p.entity = ? and p.name = ? order by r.pk",
                (entity, project),
            )
        ]


def run(directory: Path, entity: str, project: str, run_id: str) -> RunSnapshot:
    with opened(directory) as db:
        row = db.execute(
            "select r.* from runs r join projects p on p.pk = r.project"
            " where p.entity = ? and p.name = ? and r.name = ?",
            (entity, project, run_id),
        ).fetchone()
        if row is None:
            raise LookupError(f"{entity}/{project}/{run_id}")
        pk = row["pk"]
        return RunSnapshot(
            entity=entity,
            project=project,
            id=run_id,
            display_name=row["display_name"],
            notes=row["notes"],
            group=row["group_name"],
            job_type=row["job_type"],
            host=row["host"],
            tags=tuple(json.loads(row["tags"])),
            state=row["state"],
            exit_code=row["exit_code"],
            deleted=bool(row["deleted"]),
            config=json.loads(row["config"]),
            summary_text=row["summary"],
            history=_lines(db, pk, HISTORY),
            events=_lines(db, pk, EVENTS),
            output=_lines(db, pk, OUTPUT),
            files={
                file["name"]: _bytes(directory, file["object"])
                for file in db.execute(
                    "select name, object from run_files where run = ? and object is not null"
                    " order by name",
                    (pk,),
                )
            },
            alerts=tuple(
                Alert(*alert)
                for alert in db.execute(
                    "select title, text, severity from alerts where run = ? order by pk", (pk,)
                )
            ),
            logged_artifacts=_of_run(directory, db, pk, "output"),
            used_artifacts=_of_run(directory, db, pk, "input"),
        )


def artifacts(directory: Path, entity: str, project: str, name: str) -> list[ArtifactSnapshot]:
    with opened(directory) as db:
        rows = db.execute(
            "select a.pk from artifacts a join collections c on c.pk = a.collection"
            " join projects p on p.pk = c.project"
            " where p.entity = ? and p.name = ? and c.name = ?"
            " order by a.version_index is null, a.version_index, a.pk",
            (entity, project, name),
        ).fetchall()
        return [_artifact(directory, db, row["pk"]) for row in rows]


@contextmanager
def opened(directory: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(directory / DATABASE)
    db.row_factory = sqlite3.Row
    try:
        # One view of all tables, whatever the server writes meanwhile.
        db.execute("begin")
        yield db
    finally:
        db.close()


def _lines(db: sqlite3.Connection, run: int, file: str) -> tuple[str, ...]:
    rows = db.execute(
        "select text from lines where run = ? and file = ? order by number", (run, file)
    )
    return tuple(row["text"] for row in rows)


def _bytes(directory: Path, sha256: str) -> bytes:
    return (directory / OBJECTS / sha256).read_bytes()


def _of_run(
    directory: Path, db: sqlite3.Connection, run: int, direction: str
) -> tuple[ArtifactSnapshot, ...]:
    rows = db.execute(
        "select artifact from run_artifacts where run = ? and direction = ? order by rowid",
        (run, direction),
    ).fetchall()
    return tuple(_artifact(directory, db, row["artifact"]) for row in rows)


def _artifact(directory: Path, db: sqlite3.Connection, pk: int) -> ArtifactSnapshot:
    row = db.execute(
        "select a.*, c.name as collection_name, t.name as type_name from artifacts a"
        " join collections c on c.pk = a.collection join artifact_types t on t.pk = c.type"
        " where a.pk = ?",
        (pk,),
    ).fetchone()
    held = db.execute(
        "select object from manifests where artifact = ? and object is not null"
        " order by pk desc limit 1",
        (pk,),
    ).fetchone()
    manifest = None if held is None else json.loads(_bytes(directory, held["object"]))
    aliases = db.execute("select alias from aliases where artifact = ? order by alias", (pk,))
    return ArtifactSnapshot(
        name=row["collection_name"],
        type=row["type_name"],
        version=row["version_index"],
        state=row["state"],
        digest=row["digest"],
        aliases=tuple(alias["alias"] for alias in aliases),
        tags=tuple(json.loads(row["tags"])),
        description=row["description"],
        metadata=json.loads(row["metadata"] or "{}"),
        manifest=manifest,
        files=_files(directory, db, pk, manifest),
    )


def _files(
    directory: Path, db: sqlite3.Connection, pk: int, manifest: Mapping[str, Any] | None
) -> dict[str, bytes]:
    """The bytes of a version's files by name, wherever they were first uploaded."""
    if manifest is None:
        return {}
    found = {}
    for name, entry in sorted(manifest["contents"].items()):
        row = db.execute(
            "select f.object from artifact_files f join artifacts a on a.pk = f.artifact"
            " where f.md5 = ? and f.object is not null"
            " and a.collection = (select collection from artifacts where pk = ?)",
            (entry["digest"], pk),
        ).fetchone()
        if row is not None and "ref" not in entry:
            found[name] = _bytes(directory, row["object"])
    return found
