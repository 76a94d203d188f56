"""What goes into a pending artifact: its manifest, its files, the parts of a large one."""

from __future__ import annotations

import base64
import os
from typing import Any

from tests.server.artifacts import ArtifactNode, artifact_by_id
from tests.server.context import Context
from tests.server.manifests import ArtifactFileNode, ManifestNode
from tests.server.refusal import RefusalError, violation
from tests.server.state import node_id, parse_id


def create_manifest(context: Context, fields: dict[str, Any]) -> ManifestNode:
    """The manifest's place; asked for twice, first without a digest."""
    artifact = pending(context, fields["artifactID"])
    kind = fields.get("type") or "FULL"
    base = fields.get("baseArtifactID")
    base_pk = artifact_by_id(context, base).pk if base else None
    context.state.db.execute(
        "insert into manifests (artifact, type, name, base, digest) values (?, ?, ?, ?, ?)"
        " on conflict (artifact, type) do update set name = excluded.name, base = excluded.base,"
        " digest = excluded.digest, object = null",
        (artifact.pk, kind, fields["name"], base_pk, fields["digest"]),
    )
    row = context.state.one(
        "select * from manifests where artifact = ? and type = ?", artifact.pk, kind
    )
    assert row is not None
    return ManifestNode(artifact, row)


def update_manifest(context: Context, fields: dict[str, Any]) -> ManifestNode:
    (pk,) = parse_id("ArtifactManifest", fields["artifactManifestID"])
    row = context.state.one("select * from manifests where pk = ?", int(pk))
    if row is None:
        raise RefusalError(404, "artifact manifest not found")
    artifact = pending(context, node_id("Artifact", row["artifact"]))
    if fields.get("digest"):
        context.state.update("manifests", row["pk"], digest=fields["digest"], object=None)
    return ManifestNode(artifact, context.state.row("manifests", row["pk"]))


def pending(context: Context, artifact_id: str) -> ArtifactNode:
    artifact = artifact_by_id(context, artifact_id)
    if artifact.state != "PENDING":
        raise violation("artifact state", f"{artifact_id} is {artifact.state}", status=409)
    return artifact


def create_files(context: Context, specs: list[dict[str, Any]]) -> list[ArtifactFileNode]:
    """A place for each file, in the order asked for; bytes the project has are not wanted again."""
    return [_create_file(context, spec) for spec in specs]


def _create_file(context: Context, spec: dict[str, Any]) -> ArtifactFileNode:
    artifact = pending(context, spec["artifactID"])
    digests = {spec[name] for name in ("md5", "digest") if spec.get(name)}
    if len(digests) != 1:
        raise violation("checksum", f"{spec['name']} is declared with the digests {digests}")
    (md5,) = digests
    held = context.state.one(
        "select f.* from artifact_files f join artifacts a on a.pk = f.artifact"
        " where f.md5 = ? and f.object is not null and a.collection = ? order by f.pk limit 1",
        md5,
        artifact.artifact_sequence.pk,
    )
    if held is not None:
        return ArtifactFileNode(context, held)
    parts = spec.get("uploadPartsInput") or []
    upload_id = os.urandom(8).hex() if parts else None
    path = f"wandb_artifacts/{artifact.pk}/{md5}"
    context.state.db.execute(
        "insert into artifact_files (artifact, name, md5, storage_path, upload_id, updated_at)"
        " values (?, ?, ?, ?, ?, ?) on conflict (artifact, name) do update set"
        " md5 = excluded.md5, storage_path = excluded.storage_path, object = null,"
        " upload_id = excluded.upload_id",
        (artifact.pk, spec["name"], md5, path, upload_id, context.now),
    )
    row = context.state.one(
        "select * from artifact_files where artifact = ? and name = ?", artifact.pk, spec["name"]
    )
    assert row is not None
    context.state.db.execute("delete from parts where file = ?", (row["pk"],))
    for part in parts:
        context.state.insert(
            "parts", file=row["pk"], part=part["partNumber"], md5=_base64(part["hexMD5"])
        )
    return ArtifactFileNode(context, row)


def _base64(hex_md5: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(hex_md5)).decode()
    except ValueError:
        raise violation("checksum", f"{hex_md5!r} is no md5 in hexadecimal") from None


def complete_multipart(context: Context, fields: dict[str, Any]) -> str:
    """Joins the parts of one file; each must have arrived with the md5 it was announced with."""
    artifact = pending(context, fields["artifactID"])
    row = context.state.one(
        "select * from artifact_files where artifact = ? and storage_path = ? and upload_id = ?",
        artifact.pk,
        fields["storagePath"],
        fields["uploadID"],
    )
    if row is None:
        raise violation("upload", f"no multipart upload {fields['uploadID']}", status=404)
    parts = context.state.all("select * from parts where file = ? order by part", row["pk"])
    wanted = [(part["part"], part["md5"]) for part in parts]
    told = [
        (part["partNumber"], _base64(part["hexMD5"].strip('"')))
        for part in fields["completedParts"]
    ]
    if told != wanted or any(part["object"] is None for part in parts):
        raise violation("upload", f"the parts of {row['name']} are not all there")
    blob = context.state.join_objects([part["object"] for part in parts])
    if blob.md5 != row["md5"]:
        raise violation("checksum", f"{row['name']}: md5 {blob.md5} where {row['md5']} is declared")
    context.state.update(
        "artifact_files", row["pk"], object=blob.sha256, size=blob.size, updated_at=context.now
    )
    return blob.md5
