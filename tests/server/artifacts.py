"""Artifacts as they are read: types, sequences, versions, memberships, aliases."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from tests.server import manifests
from tests.server.context import Context
from tests.server.filters import ARTIFACT_FIELDS, matches
from tests.server.paging import Connection, connect
from tests.server.people import UserNode
from tests.server.projects import ProjectNode
from tests.server.refusal import RefusalError
from tests.server.runs import RunNode
from tests.server.state import instant, node_id, parse_id

ALGORITHM = "MANIFEST_MD5"


def types_of(project: ProjectNode) -> list[ArtifactTypeNode]:
    rows = project.context.state.all(
        "select * from artifact_types where project = ? order by pk", project.pk
    )
    return [ArtifactTypeNode(project, row) for row in rows]


def collections_of(project: ProjectNode, type_pk: int | None = None) -> list[ArtifactSequenceNode]:
    rows = project.context.state.all(
        "select * from collections where project = ? and coalesce(?, type) = type order by pk",
        project.pk,
        type_pk,
    )
    return [ArtifactSequenceNode(project.context, row) for row in rows]


def artifact_by_id(context: Context, text: str) -> ArtifactNode:
    (pk,) = parse_id("Artifact", text)
    row = context.state.one("select * from artifacts where pk = ?", int(pk))
    if row is None:
        raise RefusalError(404, f"artifact {text!r} not found")
    return ArtifactNode(context, row)


def artifacts_of_run(context: Context, run: int, direction: str) -> list[ArtifactNode]:
    rows = context.state.all(
        "select a.* from artifacts a join run_artifacts r on r.artifact = a.pk"
        " where r.run = ? and r.direction = ? and a.state = 'COMMITTED' order by r.rowid",
        run,
        direction,
    )
    return [ArtifactNode(context, row) for row in rows]


class ArtifactTypeNode:
    description = None

    def __init__(self, project: ProjectNode, row: sqlite3.Row) -> None:
        self.project = project
        self.pk = int(row["pk"])
        self.name = str(row["name"])
        self.created_at = instant(row["created_at"])

    @property
    def id(self) -> str:
        return node_id("ArtifactType", self.pk)

    def artifact_collection(self, name: str) -> ArtifactSequenceNode | None:
        found = collections_of(self.project, self.pk)
        return next((node for node in found if node.name == name), None)

    def artifact_collections(
        self,
        after: str | None = None,
        first: int | None = None,
        filters: str | None = None,
        order: str | None = None,
    ) -> Connection:
        return connect(collections_of(self.project, self.pk), after, first)


class ArtifactSequenceNode:
    digest_algorithm = ALGORITHM

    def __init__(self, context: Context, row: sqlite3.Row) -> None:
        self.context = context
        self.row = row
        self.pk = int(row["pk"])
        self.name = str(row["name"])
        self.description = row["description"]
        self.created_at = instant(row["created_at"])
        self.updated_at = instant(row["updated_at"])

    @property
    def id(self) -> str:
        return node_id("ArtifactCollection", self.pk)

    @property
    def project(self) -> ProjectNode:
        return ProjectNode(self.context, self.context.state.row("projects", self.row["project"]))

    @property
    def default_artifact_type(self) -> ArtifactTypeNode:
        row = self.context.state.row("artifact_types", self.row["type"])
        return ArtifactTypeNode(self.project, row)

    @property
    def tags(self) -> Connection:
        return connect([])

    @property
    def latest_artifact(self) -> ArtifactNode | None:
        """The newest committed version."""
        row = self.context.state.one(
            "select * from artifacts where collection = ? and state = 'COMMITTED'"
            " order by version_index desc limit 1",
            self.pk,
        )
        return ArtifactNode(self.context, row) if row else None

    def versions(self) -> list[ArtifactNode]:
        """Committed versions, the newest first."""
        rows = self.context.state.all(
            "select * from artifacts where collection = ? and state = 'COMMITTED'"
            " order by version_index desc",
            self.pk,
        )
        return [ArtifactNode(self.context, row) for row in rows]

    def artifacts(
        self,
        after: str | None = None,
        first: int | None = None,
        order: str | None = None,
        filters: str | None = None,
    ) -> Connection:
        wanted = json.loads(filters or "{}") or {}
        found = [node for node in self.versions() if matches(node, wanted, ARTIFACT_FIELDS)]
        return connect(found, after, first)

    def aliases(self, after: str | None = None, first: int | None = None) -> Connection:
        rows = self.context.state.all("select * from aliases where collection = ?", self.pk)
        return connect([AliasNode(self.context, row) for row in rows], after, first)

    def artifact_membership(self, alias_name: str) -> MembershipNode | None:
        """By alias or by version (`v3`)."""
        for version in self.versions():
            names = {f"v{version.version_index}", *(a.alias for a in version.aliases)}
            if alias_name in names:
                return MembershipNode(self, version)
        return None


@dataclass(frozen=True)
class MembershipNode:
    artifact_collection: ArtifactSequenceNode
    artifact: ArtifactNode

    @property
    def id(self) -> str:
        return node_id("ArtifactCollectionMembership", self.artifact.pk)

    @property
    def version_index(self) -> int | None:
        return self.artifact.version_index

    @property
    def created_at(self) -> str | None:
        return self.artifact.created_at

    @property
    def aliases(self) -> list[AliasNode]:
        return self.artifact.aliases

    def files(
        self,
        names: list[str] | None = None,
        after: str | None = None,
        first: int | None = None,
    ) -> Connection:
        found = manifests.files_of(self.artifact, names=names)
        return connect(found, after, first)


class AliasNode:
    def __init__(self, context: Context, row: sqlite3.Row) -> None:
        self.context = context
        self.row = row
        self.alias = str(row["alias"])

    @property
    def id(self) -> str:
        return node_id("ArtifactAlias", self.row["pk"])

    @property
    def artifact_collection(self) -> ArtifactSequenceNode:
        row = self.context.state.row("collections", self.row["collection"])
        return ArtifactSequenceNode(self.context, row)


@dataclass(frozen=True)
class TagNode:
    name: str

    @property
    def id(self) -> str:
        return node_id("Tag", self.name)


class ArtifactNode:
    digest_algorithm = ALGORITHM
    ttl_is_inherited = True
    commit_hash: str | None

    def __init__(self, context: Context, row: sqlite3.Row) -> None:
        self.context = context
        self.row = row
        self.pk = int(row["pk"])
        self.state = str(row["state"])
        self.digest = str(row["digest"])
        self.version_index: int | None = row["version_index"]
        self.description = row["description"]
        self.metadata = row["metadata"]
        self.history_step = row["history_step"]
        self.size = int(row["size"])
        self.file_count = int(row["file_count"])
        self.ttl_duration_seconds = -1 if row["ttl_seconds"] is None else row["ttl_seconds"]
        self.created_at = instant(row["created_at"])
        self.updated_at = instant(row["updated_at"])
        self.commit_hash = self.digest[:20] if self.state == "COMMITTED" else None

    @property
    def id(self) -> str:
        return node_id("Artifact", self.pk)

    @property
    def artifact_sequence(self) -> ArtifactSequenceNode:
        row = self.context.state.row("collections", self.row["collection"])
        return ArtifactSequenceNode(self.context, row)

    @property
    def artifact_type(self) -> ArtifactTypeNode:
        return self.artifact_sequence.default_artifact_type

    @property
    def tags(self) -> list[TagNode]:
        return [TagNode(name) for name in json.loads(self.row["tags"])]

    @property
    def aliases(self) -> list[AliasNode]:
        rows = self.context.state.all("select * from aliases where artifact = ?", self.pk)
        return [AliasNode(self.context, row) for row in rows]

    @property
    def current_manifest(self) -> manifests.ManifestNode | None:
        return manifests.current(self)

    @property
    def created_by(self) -> RunNode | UserNode:
        if self.row["run"] is None:
            return UserNode(self.context.state.entity)
        return RunNode(self.context, self.context.state.row("runs", self.row["run"]))

    @property
    def used_by(self) -> Connection:
        rows = self.context.state.all(
            "select runs.* from runs join run_artifacts r on r.run = runs.pk"
            " where r.artifact = ? and r.direction = 'input' order by r.rowid",
            self.pk,
        )
        return connect([RunNode(self.context, row) for row in rows])

    @property
    def artifact_memberships(self) -> Connection:
        return connect([MembershipNode(self.artifact_sequence, self)])

    def files_by_manifest_entries(
        self,
        storage_layout: str,
        manifest_version: str,
        entries: list[dict[str, Any]] | None = None,
        storage_region: str | None = None,
    ) -> Connection:
        names = None if entries is None else [entry["name"] for entry in entries]
        return connect(manifests.files_of(self, names=names))
