"""The one user behind the API key, its entity, and what the server says it can do."""

from __future__ import annotations

from dataclasses import dataclass

from tests.server.context import Context
from tests.server.paging import Connection, connect
from tests.server.refusal import RefusalError
from tests.server.state import node_id

# What the hosted server says yes to, less what this one does not do.
FEATURES = (
    "LARGE_FILENAMES",
    "ARTIFACT_TAGS",
    "CLIENT_IDS",
    "STRUCTURED_CONSOLE_LOGS",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID",
    "MARK_RUN_FILES_UPLOADED",
    "FILESTREAM_GZIP",
    "ARTIFACT_DIGEST_ALGORITHM",
)


@dataclass(frozen=True)
class UserNode:
    name: str
    admin: bool = False
    flags: str = "{}"
    deleted_at: None = None

    @property
    def id(self) -> str:
        return node_id("User", 1)

    @property
    def username(self) -> str:
        return self.name

    @property
    def email(self) -> str:
        return f"{self.name}@example.com"

    @property
    def entity(self) -> str:
        return self.name

    @property
    def api_keys(self) -> Connection:
        return connect([])

    @property
    def teams(self) -> Connection:
        return connect([EntityNode(self.name)])

    @property
    def organizations(self) -> list[object]:
        return []


@dataclass(frozen=True)
class EntityNode:
    """The personal entity of the one user: no organization, no xxhash digests."""

    name: str
    organization: None = None
    xxhash_digests_enabled: bool = False

    @property
    def id(self) -> str:
        return node_id("Entity", 1)

    @property
    def user(self) -> UserNode:
        return UserNode(self.name)


@dataclass(frozen=True)
class Feature:
    name: str
    is_enabled: bool = True


class ServerInfoNode:
    @property
    def features(self) -> list[Feature]:
        return [Feature(name) for name in FEATURES]


def entity_name(context: Context, name: str | None) -> str:
    """The entity that is meant; the key's user when none is named."""
    if name not in (None, "", context.state.entity):
        raise RefusalError(404, f"entity {name} not found")
    return context.state.entity
