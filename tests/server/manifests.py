"""Manifests and the files they name; W&B's digest of a manifest."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.server.context import Context
from tests.server.refusal import violation
from tests.server.state import instant, node_id, parse_id

if TYPE_CHECKING:
    from tests.server.artifacts import ArtifactNode

HEADER = b"wandb-artifact-manifest-v1\n"
Entries = dict[str, dict[str, Any]]


def digest(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """What W&B calls an artifact's digest: the md5 of its names and their digests, in order."""
    md5 = hashlib.md5(HEADER, usedforsecurity=False)
    for name in sorted(entries):
        md5.update(f"{name}:{entries[name]['digest']}\n".encode())
    return md5.hexdigest()


def current(artifact: ArtifactNode) -> ManifestNode | None:
    row = artifact.context.state.one(
        "select * from manifests where artifact = ? order by pk desc limit 1", artifact.pk
    )
    return ManifestNode(artifact, row) if row else None


def entries_of(artifact: ArtifactNode) -> Entries:
    """The contents of the uploaded manifest; what an incremental one leaves out is its base's."""
    from tests.server.artifacts import ArtifactNode

    manifest = current(artifact)
    if manifest is None or manifest.row["object"] is None:
        raise violation("commit", f"the manifest of {artifact.id} is missing", status=409)
    try:
        contents = json.loads(
            artifact.context.state.object_path(manifest.row["object"]).read_bytes()
        )["contents"]
        found: Entries = {str(name): dict(entry) for name, entry in contents.items()}
        for entry in found.values():
            str(entry["digest"])
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise violation("manifest", f"the manifest of {artifact.id} is malformed: {exc!r}") from exc
    if manifest.row["type"] != "FULL" and manifest.row["base"] is not None:
        base = ArtifactNode(
            artifact.context, artifact.context.state.row("artifacts", manifest.row["base"])
        )
        found = {**entries_of(base), **found}
    return found


def stored_file(artifact: ArtifactNode, entry: Mapping[str, Any]) -> sqlite3.Row | None:
    """The uploaded file behind a manifest's entry: the artifact it was born in brought it."""
    birth = entry.get("birthArtifactID")
    pk = int(parse_id("Artifact", birth)[0]) if birth else artifact.pk
    return artifact.context.state.one(
        "select * from artifact_files where artifact = ? and md5 = ? and object is not null",
        pk,
        entry["digest"],
    )


def files_of(artifact: ArtifactNode, *, names: list[str] | None = None) -> list[ArtifactFileNode]:
    """The files of a version, in the order of their names; references have none."""
    found = []
    for name, entry in sorted(entries_of(artifact).items()):
        if "ref" in entry or (names and name not in names):
            continue
        row = stored_file(artifact, entry)
        if row is not None:
            found.append(ArtifactFileNode(artifact.context, row, name=name))
    return found


class ManifestNode:
    def __init__(self, artifact: ArtifactNode, row: sqlite3.Row) -> None:
        self.artifact = artifact
        self.row = row
        self.pk = int(row["pk"])
        self.digest = str(row["digest"])

    @property
    def id(self) -> str:
        return node_id("ArtifactManifest", self.pk)

    @property
    def file(self) -> ManifestFileNode:
        return ManifestFileNode(self)


class ManifestFileNode:
    """The manifest as a file."""

    upload_multipart_urls = None
    storage_path = None
    mimetype = "application/json"
    updated_at = None

    def __init__(self, manifest: ManifestNode) -> None:
        self.manifest = manifest
        self.context = manifest.artifact.context
        self.artifact = manifest.artifact
        self.name = str(manifest.row["name"])
        self.display_name = self.name
        self.digest = manifest.digest
        self.md5 = manifest.digest

    @property
    def id(self) -> str:
        return node_id("File", "manifest", self.manifest.pk)

    @property
    def size_bytes(self) -> int:
        return self.context.state.object_path(self.manifest.row["object"]).stat().st_size

    @property
    def direct_url(self) -> str:
        return self.context.object_url(self.manifest.row["object"] or "0" * 64, self.name)

    def url(self, upload: bool = False) -> str:
        return self.upload_url if upload else self.direct_url

    @property
    def upload_headers(self) -> list[str]:
        return [f"Content-MD5:{self.digest}"] if self.digest else []

    @property
    def upload_url(self) -> str:
        return self.context.upload_url("manifest", self.manifest.pk, md5=self.digest or None)


class ArtifactFileNode:
    """A file an artifact brought along, or one that is being brought."""

    def __init__(self, context: Context, row: sqlite3.Row, *, name: str | None = None) -> None:
        self.context = context
        self.row = row
        self.pk = int(row["pk"])
        self.name = name or str(row["name"])
        self.display_name = self.name
        self.md5 = str(row["md5"])
        self.digest = self.md5
        self.size_bytes = row["size"] or 0
        self.storage_path = str(row["storage_path"])
        self.mimetype = mimetypes.guess_type(self.name)[0]
        self.updated_at = instant(row["updated_at"])

    @property
    def id(self) -> str:
        return node_id("File", "artifact", self.pk)

    @property
    def artifact(self) -> ArtifactNode:
        from tests.server.artifacts import ArtifactNode

        return ArtifactNode(self.context, self.context.state.row("artifacts", self.row["artifact"]))

    @property
    def direct_url(self) -> str:
        return self.context.object_url(self.row["object"] or "0" * 64, self.name)

    def url(self, upload: bool = False) -> str | None:
        return self.upload_url if upload else self.direct_url

    @property
    def upload_headers(self) -> list[str]:
        return [f"Content-MD5:{self.md5}", "Content-Type:application/octet-stream"]

    @property
    def upload_url(self) -> str | None:
        """None when the bytes are there already; wandb asks for it even when they come in parts."""
        if self.row["object"] is not None:
            return None
        return self.context.upload_url("artifact_file", self.pk, md5=self.md5)

    @property
    def upload_multipart_urls(self) -> MultipartUrls | None:
        if self.row["object"] is not None or self.row["upload_id"] is None:
            return None
        return MultipartUrls(self.context, self.row)


class MultipartUrls:
    """Where the parts of one large file go."""

    def __init__(self, context: Context, row: sqlite3.Row) -> None:
        self.upload_id = str(row["upload_id"])
        parts = context.state.all("select * from parts where file = ? order by part", row["pk"])
        self.upload_url_parts = [PartUrl(context, part) for part in parts]


class PartUrl:
    def __init__(self, context: Context, row: sqlite3.Row) -> None:
        self.part_number = int(row["part"])
        self.upload_url = context.upload_url(
            "part", row["file"], md5=row["md5"], part=self.part_number
        )
