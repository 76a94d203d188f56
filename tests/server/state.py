"""What the server holds: one SQLite file and a folder of objects, both under the state directory.

Guarantee: what was committed before an answer is there after SIGKILL (the operating system has
it); a power cut is not covered.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tests.server.refusal import RefusalError

DATABASE = "server.sqlite"
OBJECTS = "objects"

TABLES = """
create table if not exists requests (
  n integer primary key, time real not null, method text not null, path text not null,
  kind text not null, operation text, status integer);
create table if not exists violations (
  n integer primary key, time real not null, kind text not null, message text not null,
  method text not null, path text not null, operation text);
create table if not exists projects (
  pk integer primary key, entity text not null, name text not null, description text,
  access text, views text, created_at real not null, unique (entity, name));
create table if not exists runs (
  pk integer primary key, project integer not null references projects, name text not null,
  display_name text, description text, notes text, config text not null default '{}',
  summary text not null default '{}', tags text not null default '[]', group_name text,
  job_type text, host text, commit_hash text, program text, repo text, sweep text,
  state text not null default 'running', exit_code integer, stop_requested integer not null
  default 0, preempting integer not null default 0, created_at real not null,
  heartbeat_at real not null, deleted integer not null default 0, unique (project, name));
create table if not exists lines (
  run integer not null references runs, file text not null, number integer not null,
  text text not null, step integer, received_at real not null,
  primary key (run, file, number)) without rowid;
create index if not exists lines_step on lines (run, file, step);
create table if not exists run_files (
  pk integer primary key, run integer not null references runs, name text not null,
  object text, size integer, md5 text, updated_at real not null, unique (run, name));
create table if not exists alerts (
  pk integer primary key, run integer not null references runs, title text not null,
  text text not null, severity text not null, wait_duration text);
create table if not exists uploads (
  token text primary key, target text not null, row integer not null, part integer,
  md5 text);
create table if not exists artifact_types (
  pk integer primary key, project integer not null references projects, name text not null,
  created_at real not null, unique (project, name));
create table if not exists collections (
  pk integer primary key, project integer not null references projects,
  type integer not null references artifact_types, name text not null, description text,
  created_at real not null, updated_at real, unique (project, name));
create table if not exists artifacts (
  pk integer primary key autoincrement, collection integer not null references collections,
  state text not null, digest text not null, version_index integer, description text,
  metadata text, tags text not null default '[]', ttl_seconds integer, history_step integer,
  run integer references runs, wanted_aliases text not null default '[]', size integer not null
  default 0, file_count integer not null default 0, created_at real not null, updated_at real);
-- An artifact's id is nobody else's on any server: wandb's client keeps what it has read by it.
insert into sqlite_sequence (name, seq) select 'artifacts', abs(random()) % (1 << 40)
  where not exists (select 1 from sqlite_sequence where name = 'artifacts');
create table if not exists client_ids (
  client_id text primary key, artifact integer not null references artifacts);
create table if not exists aliases (
  pk integer primary key, collection integer not null references collections,
  alias text not null, artifact integer not null references artifacts,
  unique (collection, alias));
create table if not exists manifests (
  pk integer primary key, artifact integer not null references artifacts, type text not null,
  name text not null, base integer, digest text not null, object text,
  unique (artifact, type));
create table if not exists artifact_files (
  pk integer primary key, artifact integer not null references artifacts, name text not null,
  md5 text not null, storage_path text not null, object text, size integer,
  upload_id text, updated_at real not null, unique (artifact, name));
create table if not exists parts (
  file integer not null references artifact_files, part integer not null, md5 text not null,
  object text, primary key (file, part));
create table if not exists run_artifacts (
  run integer not null references runs, artifact integer not null references artifacts,
  direction text not null, used_as text, primary key (run, artifact, direction));
"""


@dataclass(frozen=True)
class Blob:
    """Bytes that arrived: where they lie and what they are."""

    sha256: str
    md5: str  # base64, W&B's way
    size: int


class State:
    """The SQLite file and the objects; every change happens inside `transaction`."""

    def __init__(self, directory: Path, *, entity: str, crash_after: float) -> None:
        self.directory = directory
        self.entity = entity
        self.crash_after = crash_after
        # Per run: history lines looked at, how often each key had each kind of value, last step.
        # Lines are only ever appended, so the next look goes on from here.
        self.keys_seen: dict[int, tuple[int, dict[str, dict[str, int]], int]] = {}
        (directory / OBJECTS).mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(directory / DATABASE, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("pragma journal_mode = wal")
        # The operating system keeps what was written when this process is killed.
        self.db.execute("pragma synchronous = off")
        self.db.execute("pragma foreign_keys = on")
        self.db.executescript(TABLES)

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or nothing."""
        self.db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.db.execute("rollback")
            raise
        self.db.execute("commit")

    def one(self, sql: str, *values: object) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.db.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return self.db.execute(sql, values).fetchall()

    def scalar(self, sql: str, *values: object) -> int:
        """The number in the first column of the one row."""
        row = self.one(sql, *values)
        assert row is not None
        return int(row[0])

    def row(self, table: str, pk: int) -> sqlite3.Row:
        """The row that is known to exist."""
        row = self.one(f"select * from {table} where pk = ?", pk)
        assert row is not None, f"{table} {pk}"
        return row

    def insert(self, table: str, **values: object) -> int:
        names = ", ".join(values)
        marks = ", ".join("?" for _ in values)
        cursor = self.db.execute(
            f"insert into {table} ({names}) values ({marks})", tuple(values.values())
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def update(self, table: str, pk: int, **values: object) -> None:
        if values:
            assignments = ", ".join(f"{name} = ?" for name in values)
            self.db.execute(
                f"update {table} set {assignments} where pk = ?", (*values.values(), pk)
            )

    def log_request(
        self, *, method: str, path: str, kind: str, operation: str | None, status: int | None
    ) -> None:
        self.insert(
            "requests",
            time=time.time(), method=method, path=path, kind=kind, operation=operation,
            status=status,
        )  # fmt: skip

    def log_violation(
        self, kind: str, message: str, *, method: str, path: str, operation: str | None
    ) -> None:
        self.insert(
            "violations",
            time=time.time(), kind=kind, message=message, method=method, path=path,
            operation=operation,
        )  # fmt: skip

    # --- objects --------------------------------------------------------------------------

    def object_path(self, sha256: str) -> Path:
        return self.directory / OBJECTS / sha256

    async def receive(self, chunks: AsyncIterator[bytes]) -> Blob:
        """Writes a body to the objects, named by its content."""
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        partial = self.directory / OBJECTS / f"{os.urandom(8).hex()}.tmp"
        try:
            with partial.open("wb") as file:
                async for chunk in chunks:
                    sha256.update(chunk)
                    md5.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
            partial.replace(self.object_path(sha256.hexdigest()))
        finally:
            partial.unlink(missing_ok=True)
        return Blob(sha256.hexdigest(), base64.b64encode(md5.digest()).decode(), size)

    def keep(self, data: bytes) -> str:
        """Bytes the server made itself; the object's name."""
        sha256 = hashlib.sha256(data).hexdigest()
        partial = self.directory / OBJECTS / f"{os.urandom(8).hex()}.tmp"
        partial.write_bytes(data)
        partial.replace(self.object_path(sha256))
        return sha256

    def join_objects(self, sha256s: list[str]) -> Blob:
        """One object made of several, in order (a multipart upload)."""
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        partial = self.directory / OBJECTS / f"{os.urandom(8).hex()}.tmp"
        with partial.open("wb") as file:
            for part in sha256s:
                with self.object_path(part).open("rb") as source:
                    while chunk := source.read(1 << 20):
                        sha256.update(chunk)
                        md5.update(chunk)
                        size += len(chunk)
                        file.write(chunk)
        partial.replace(self.object_path(sha256.hexdigest()))
        return Blob(sha256.hexdigest(), base64.b64encode(md5.digest()).decode(), size)


# --- identifiers and times as W&B writes them -------------------------------------------------


def node_id(kind: str, *parts: object) -> str:
    """An opaque GraphQL id; wandb decodes an artifact's as base64."""
    return base64.b64encode(":".join([kind, *map(str, parts)]).encode()).decode()


def parse_id(kind: str, text: str) -> list[str]:
    """The parts of an id of `kind`; a 404 for anything else."""
    try:
        found, *parts = base64.b64decode(text, validate=True).decode().split(":")
    except ValueError:
        found, parts = "", []
    if found != kind or not parts:
        raise RefusalError(404, f"{kind.lower()} {text!r} not found")
    return parts


def instant(seconds: float | None) -> str | None:
    """A time as the real server writes it."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
