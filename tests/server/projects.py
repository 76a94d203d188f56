"""Projects: their names, and finding or making one."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import TYPE_CHECKING

from tests.server.context import Context
from tests.server.filters import RUN_FIELDS, matches
from tests.server.paging import Connection, connect
from tests.server.people import EntityNode, UserNode, entity_name
from tests.server.refusal import RefusalError
from tests.server.state import instant, node_id

if TYPE_CHECKING:
    from tests.server.artifacts import (
        ArtifactNode,
        ArtifactSequenceNode,
        ArtifactTypeNode,
        MembershipNode,
    )
    from tests.server.runs import RunNode

FORBIDDEN = re.compile(r"[/\\#?%:]")
LONGEST_NAME = 128


def check_project_name(name: str) -> None:
    """W&B's rule for project names."""
    if not name or len(name) > LONGEST_NAME or FORBIDDEN.search(name):
        raise RefusalError(
            400,
            f"invalid project name {name!r}: names hold 1 to {LONGEST_NAME} characters"
            " and none of /\\#?%:",
        )


def find_project(context: Context, entity: str | None, name: str | None) -> ProjectNode | None:
    """The project, if the entity has it; reading an unknown entity finds nothing."""
    row = context.state.one(
        "select * from projects where entity = ? and name = ?",
        entity or context.state.entity,
        name,
    )
    return ProjectNode(context, row) if row else None


def make_project(context: Context, entity: str | None, name: str | None) -> ProjectNode:
    """The project, made on first use as the real server does."""
    owner = entity_name(context, entity)
    name = name or "uncategorized"
    check_project_name(name)
    found = find_project(context, owner, name)
    if found is not None:
        return found
    pk = context.state.insert("projects", entity=owner, name=name, created_at=context.now)
    return ProjectNode(context, context.state.row("projects", pk))


def need_project(context: Context, entity: str | None, name: str | None) -> ProjectNode:
    project = find_project(context, entity, name)
    if project is None:
        raise RefusalError(404, f"project {entity}/{name} not found")
    return project


class ProjectNode:
    is_benchmark = False
    read_only = False
    updated_at = None

    def __init__(self, context: Context, row: sqlite3.Row) -> None:
        self.context = context
        self.pk = int(row["pk"])
        self.name = str(row["name"])
        self.entity_name = str(row["entity"])
        self.description = row["description"]
        self.access = row["access"]
        self.views = row["views"]
        self.created_at = instant(row["created_at"])

    @property
    def id(self) -> str:
        return node_id("Project", "v1", self.name, self.entity_name)

    @property
    def internal_id(self) -> str:
        return node_id("ProjectInternalId", self.pk)

    @property
    def entity(self) -> EntityNode:
        return EntityNode(self.entity_name)

    @property
    def user(self) -> UserNode:
        return UserNode(self.entity_name)

    # --- runs -----------------------------------------------------------------------------

    def run(self, name: str) -> RunNode | None:
        from tests.server.runs import find_run

        return find_run(self.context, self, name)

    def bucket(self, name: str, missing_ok: bool = False) -> RunNode | None:
        run = self.run(name)
        if run is None and not missing_ok:
            raise RefusalError(404, f"run {name} not found")
        return run

    def _runs(self, filters: str | None) -> list[RunNode]:
        from tests.server.runs import RunNode

        rows = self.context.state.all(
            "select * from runs where project = ? and deleted = 0 order by pk", self.pk
        )
        wanted = json.loads(filters or "{}") or {}
        nodes = [RunNode(self.context, row) for row in rows]
        return [node for node in nodes if matches(node, wanted, RUN_FIELDS)]

    def runs(
        self,
        filters: str | None = None,
        after: str | None = None,
        first: int | None = None,
        order: str | None = None,
    ) -> Connection:
        nodes = self._runs(filters)
        field = (order or "+created_at").lstrip("+-")
        if field not in ("created_at", "createdAt"):
            raise RefusalError(400, f"runs can't be ordered by {field} here")
        return connect(nodes[::-1] if order and order.startswith("-") else nodes, after, first)

    def run_count(self, filters: str | None = None) -> int:
        return len(self._runs(filters))

    # --- artifacts ------------------------------------------------------------------------

    def artifact_types(self, after: str | None = None, first: int | None = None) -> Connection:
        from tests.server.artifacts import types_of

        return connect(types_of(self), after, first)

    def artifact_type(self, name: str) -> ArtifactTypeNode | None:
        from tests.server.artifacts import types_of

        return next((node for node in types_of(self) if node.name == name), None)

    def artifact_collections(
        self,
        after: str | None = None,
        first: int | None = None,
        filters: str | None = None,
        order: str | None = None,
    ) -> Connection:
        from tests.server.artifacts import collections_of

        return connect(collections_of(self), after, first)

    def artifact_collection(self, name: str) -> ArtifactSequenceNode | None:
        from tests.server.artifacts import collections_of

        return next((node for node in collections_of(self) if node.name == name), None)

    def artifact_collection_membership(self, name: str) -> MembershipNode | None:
        """`name` is `collection:alias`, `:latest` when nothing is said."""
        collection, _, alias = name.partition(":")
        found = self.artifact_collection(collection)
        return found.artifact_membership(alias or "latest") if found else None

    def artifact(self, name: str) -> ArtifactNode | None:
        membership = self.artifact_collection_membership(name)
        return membership.artifact if membership else None
