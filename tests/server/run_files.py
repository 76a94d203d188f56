"""A run's files: registered, uploaded, listed."""

from __future__ import annotations

import mimetypes
import re
import sqlite3
from pathlib import PurePosixPath
from urllib.parse import quote

from tests.server.context import Context
from tests.server.refusal import violation
from tests.server.runs import RunNode
from tests.server.state import instant, node_id


def create(context: Context, run: RunNode, names: list[str]) -> list[RunFileNode]:
    """Registers files and gives each an upload URL."""
    nodes = []
    for name in names:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts:
            raise violation("file name", f"{name!r} leads out of the run")
        row = context.state.one("select * from run_files where run = ? and name = ?", run.pk, name)
        pk = (
            row["pk"]
            if row
            else context.state.insert("run_files", run=run.pk, name=name, updated_at=context.now)
        )
        nodes.append(RunFileNode(context, run, context.state.row("run_files", pk)))
    return nodes


def files_of(
    context: Context,
    run: int,
    *,
    names: list[str] | None = None,
    pattern: str | None = None,
) -> list[RunFileNode]:
    """The files whose bytes are there; `pattern` is SQL's LIKE."""
    owner = RunNode(context, context.state.row("runs", run))
    rows = context.state.all(
        "select * from run_files where run = ? and object is not null order by name", run
    )
    if names:
        rows = [row for row in rows if row["name"] in names]
    if pattern:
        like = re.escape(pattern).replace("%", ".*").replace("_", ".")
        rows = [row for row in rows if re.fullmatch(like, row["name"], re.DOTALL)]
    return [RunFileNode(context, owner, row) for row in rows]


class RunFileNode:
    storage_path = None
    upload_headers: tuple[str, ...] = ()
    upload_multipart_urls = None
    artifact = None

    def __init__(self, context: Context, run: RunNode, row: sqlite3.Row) -> None:
        self.context = context
        self.run = run
        self.row = row
        self.pk = int(row["pk"])
        self.name = str(row["name"])
        self.display_name = self.name
        self.size_bytes = row["size"] or 0
        self.md5 = row["md5"]
        self.digest = row["md5"]
        self.mimetype = mimetypes.guess_type(self.name)[0]
        self.updated_at = instant(row["updated_at"])

    @property
    def id(self) -> str:
        return node_id("File", self.pk)

    def url(self, upload: bool = False) -> str:
        if upload:
            return self.upload_url
        project = self.run.project
        path = "/".join([project.entity_name, project.name, self.run.name, self.name])
        return f"{self.context.base_url}/files/{quote(path)}"

    @property
    def direct_url(self) -> str:
        return self.context.object_url(self.row["object"] or "0" * 64, self.name)

    @property
    def upload_url(self) -> str:
        return self.context.upload_url("run_file", self.pk)
