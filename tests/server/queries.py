"""The roots of every GraphQL query."""

from __future__ import annotations

from dataclasses import dataclass

from tests.server import state
from tests.server.artifacts import ArtifactNode, ArtifactSequenceNode, artifact_by_id
from tests.server.context import Context
from tests.server.paging import Connection, connect
from tests.server.people import EntityNode, ServerInfoNode, UserNode
from tests.server.projects import ProjectNode, find_project


@dataclass(frozen=True)
class ClientId:
    server_id: str


class Queries:
    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def viewer(self) -> UserNode:
        return UserNode(self._context.state.entity)

    @property
    def server_info(self) -> ServerInfoNode:
        return ServerInfoNode()

    def entity(self, name: str | None = None) -> EntityNode | None:
        own = self._context.state.entity
        return EntityNode(own) if name in (None, own) else None

    def organization(self, name: str) -> None:
        """There are none: the one user is on its own."""

    def project(
        self, name: str | None = None, entity_name: str | None = None
    ) -> ProjectNode | None:
        return find_project(self._context, entity_name, name)

    def model(self, name: str | None = None, entity_name: str | None = None) -> ProjectNode | None:
        return find_project(self._context, entity_name, name)

    def models(
        self,
        entity_name: str | None = None,
        after: str | None = None,
        first: int | None = None,
    ) -> Connection:
        rows = self._context.state.all(
            "select * from projects where entity = ? order by pk",
            entity_name or self._context.state.entity,
        )
        return connect([ProjectNode(self._context, row) for row in rows], after, first)

    def artifact(self, node_id: str) -> ArtifactNode:
        return artifact_by_id(self._context, node_id)

    def artifact_collection(self, node_id: str) -> ArtifactSequenceNode | None:
        (pk,) = state.parse_id("ArtifactCollection", node_id)
        row = self._context.state.one("select * from collections where pk = ?", int(pk))
        return ArtifactSequenceNode(self._context, row) if row else None

    def client_id_mapping(self, client_id: str) -> ClientId | None:
        row = self._context.state.one(
            "select artifact from client_ids where client_id = ?", client_id
        )
        return ClientId(state.node_id("Artifact", row["artifact"])) if row else None
