"""Artifacts as they are written: created, committed, aliased, used, updated, deleted."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.server import manifests
from tests.server.artifacts import (
    ALGORITHM,
    ArtifactNode,
    ArtifactSequenceNode,
    artifact_by_id,
)
from tests.server.context import Context
from tests.server.projects import ProjectNode, make_project, need_project
from tests.server.refusal import RefusalError, violation
from tests.server.runs import find_run, need_run

LONGEST_NAME = 128
MOST_METADATA_KEYS = 100
FORBIDDEN = re.compile(r"[/:]")


def create(context: Context, fields: dict[str, Any]) -> ArtifactNode:
    """A pending version, or the committed one whose digest is the latest's."""
    project = make_project(context, fields["entityName"], fields["projectName"])
    if fields["digestAlgorithm"] != ALGORITHM:
        raise violation(
            "digest", f"the digest algorithm {fields['digestAlgorithm']} is not enabled"
        )
    _check_metadata(fields.get("metadata"))
    sequence = _sequence(context, project, fields)
    run = _run(context, project, fields.get("runName"))
    aliases = [alias["alias"] for alias in fields.get("aliases") or []]
    found = _again(context, sequence, fields)
    if found is None:
        pk = context.state.insert(
            "artifacts", collection=sequence.pk, state="PENDING", digest=fields["digest"],
            description=fields.get("description"), metadata=fields.get("metadata"),
            tags=json.dumps([tag["tagName"] for tag in fields.get("tags") or []]),
            ttl_seconds=fields.get("ttlDurationSeconds"), history_step=fields.get("historyStep"),
            run=run, wanted_aliases=json.dumps(aliases), created_at=context.now,
        )  # fmt: skip
        found = ArtifactNode(context, context.state.row("artifacts", pk))
    elif found.state == "COMMITTED":
        for alias in aliases:
            set_alias(context, sequence, alias, found)
    if fields.get("clientID"):
        context.state.db.execute(
            "insert or replace into client_ids values (?, ?)", (fields["clientID"], found.pk)
        )
    if run is not None:
        _link_run(context, run, found, "output")
    return found


def _check_metadata(metadata: str | None) -> None:
    if metadata is None:
        return
    try:
        keys = json.loads(metadata)
    except ValueError:
        keys = None
    if not isinstance(keys, dict):
        raise violation("json", f"artifact metadata is no JSON object: {metadata[:200]}")
    if len(keys) > MOST_METADATA_KEYS:
        raise RefusalError(
            400, f"artifact metadata has {len(keys)} keys, at most {MOST_METADATA_KEYS}"
        )


def _sequence(
    context: Context, project: ProjectNode, fields: dict[str, Any]
) -> ArtifactSequenceNode:
    names = fields.get("artifactCollectionNames") or [fields.get("artifactCollectionName")]
    if len(names) != 1 or not names[0]:
        raise violation("artifact name", "one collection name is needed")
    name = names[0]
    if len(name) > LONGEST_NAME or FORBIDDEN.search(name):
        raise RefusalError(400, f"invalid artifact name {name!r}")
    wanted = fields["artifactTypeName"]
    held = project.artifact_collection(name)
    if held is not None:
        if held.default_artifact_type.name != wanted:
            raise RefusalError(
                409,
                f"artifact {name} has the type {held.default_artifact_type.name}, not {wanted}",
            )
        return held
    kind = project.artifact_type(wanted)
    type_pk = (
        kind.pk
        if kind
        else context.state.insert(
            "artifact_types", project=project.pk, name=wanted, created_at=context.now
        )
    )
    pk = context.state.insert(
        "collections", project=project.pk, type=type_pk, name=name, created_at=context.now
    )
    return ArtifactSequenceNode(context, context.state.row("collections", pk))


def _run(context: Context, project: ProjectNode, name: str | None) -> int | None:
    if name is None:
        return None
    run = find_run(context, project, name)
    if run is None:
        raise RefusalError(404, f"run {name} not found")
    return run.pk


def _again(
    context: Context, sequence: ArtifactSequenceNode, fields: dict[str, Any]
) -> ArtifactNode | None:
    """The version this request makes no new one of: the latest with the same digest, or the
    pending one a retried request made before."""
    latest = sequence.latest_artifact
    if fields.get("enableDigestDeduplication") and latest and latest.digest == fields["digest"]:
        return latest
    row = context.state.one(
        "select a.* from artifacts a join client_ids c on c.artifact = a.pk"
        " where c.client_id = ? and a.collection = ? and a.digest = ? and a.state = 'PENDING'",
        fields.get("clientID"),
        sequence.pk,
        fields["digest"],
    )
    return ArtifactNode(context, row) if row else None


def _link_run(
    context: Context, run: int, artifact: ArtifactNode, direction: str, used_as: str | None = None
) -> None:
    context.state.db.execute(
        "insert or ignore into run_artifacts values (?, ?, ?, ?)",
        (run, artifact.pk, direction, used_as),
    )


def set_alias(
    context: Context, sequence: ArtifactSequenceNode, alias: str, artifact: ArtifactNode
) -> None:
    """An alias stands at one version of its sequence: it moves."""
    if not alias or len(alias) > LONGEST_NAME or FORBIDDEN.search(alias):
        raise RefusalError(400, f"invalid alias {alias!r}")
    context.state.db.execute(
        "insert into aliases (collection, alias, artifact) values (?, ?, ?)"
        " on conflict (collection, alias) do update set artifact = excluded.artifact",
        (sequence.pk, alias, artifact.pk),
    )


def commit(context: Context, artifact_id: str) -> ArtifactNode:
    """Makes a version of a pending artifact; refused unless everything its manifest names is here
    and its digest is what the manifest gives."""
    artifact = artifact_by_id(context, artifact_id)
    if artifact.state == "COMMITTED":  # a retry after a lost answer
        return artifact
    entries = manifests.entries_of(artifact)
    size = 0
    for name, entry in entries.items():
        size += _check_entry(artifact, name, entry)
    found = manifests.digest(entries)
    if found != artifact.digest:
        raise violation("digest", f"the manifest's digest is {found}, declared {artifact.digest}")
    sequence = artifact.artifact_sequence
    latest = context.state.one(
        "select max(version_index) as version from artifacts where collection = ?", sequence.pk
    )
    assert latest is not None
    version = 0 if latest["version"] is None else latest["version"] + 1
    context.state.update(
        "artifacts", artifact.pk, state="COMMITTED", version_index=version, size=size,
        file_count=len(entries), updated_at=context.now,
    )  # fmt: skip
    for alias in {"latest", *json.loads(artifact.row["wanted_aliases"])}:
        set_alias(context, sequence, alias, artifact)
    return ArtifactNode(context, context.state.row("artifacts", artifact.pk))


def _check_entry(artifact: ArtifactNode, name: str, entry: dict[str, Any]) -> int:
    """The size of one entry, whose bytes are here unless it is a reference."""
    if "ref" in entry:
        return int(entry.get("size") or 0)
    row = manifests.stored_file(artifact, entry)
    if row is None:
        raise violation("commit", f"the file {name} was not uploaded", status=409)
    if entry.get("size") not in (None, row["size"]):
        raise violation(
            "commit", f"the file {name} has {row['size']} bytes, {entry['size']} declared"
        )
    return int(row["size"])


def use(context: Context, fields: dict[str, Any]) -> ArtifactNode:
    """The run has the version as its input."""
    run = need_run(context, fields["entityName"], fields["projectName"], fields["runName"])
    artifact = artifact_by_id(context, fields["artifactID"])
    _link_run(context, run.pk, artifact, "input", fields.get("usedAs"))
    return artifact


def update(context: Context, fields: dict[str, Any]) -> ArtifactNode:
    """Description, metadata, tags and aliases of a version; its contents never change."""
    artifact = artifact_by_id(context, fields["artifactID"])
    changes: dict[str, object] = {"updated_at": context.now}
    _check_metadata(fields.get("metadata"))
    for name in ("description", "metadata"):
        if fields.get(name) is not None:
            changes[name] = fields[name]
    if fields.get("ttlDurationSeconds") is not None:
        changes["ttl_seconds"] = fields["ttlDurationSeconds"]
    add = [tag["tagName"] for tag in fields.get("tagsToAdd") or []]
    drop = {tag["tagName"] for tag in fields.get("tagsToDelete") or []}
    tags = [tag.name for tag in artifact.tags if tag.name not in drop]
    changes["tags"] = json.dumps(list(dict.fromkeys(tags + add)))
    if fields.get("aliases") is not None:
        context.state.db.execute("delete from aliases where artifact = ?", (artifact.pk,))
        for alias in fields["aliases"]:
            set_alias(context, artifact.artifact_sequence, alias["alias"], artifact)
    context.state.update("artifacts", artifact.pk, **changes)
    return ArtifactNode(context, context.state.row("artifacts", artifact.pk))


def delete(context: Context, artifact_id: str, *, aliases_too: bool) -> ArtifactNode:
    artifact = artifact_by_id(context, artifact_id)
    if artifact.aliases and not aliases_too:
        raise RefusalError(409, "the artifact has aliases")
    context.state.db.execute("delete from aliases where artifact = ?", (artifact.pk,))
    context.state.update("artifacts", artifact.pk, state="DELETED", updated_at=context.now)
    return ArtifactNode(context, context.state.row("artifacts", artifact.pk))


def aliases_of(
    context: Context, artifact_id: str, wanted: list[dict[str, str]]
) -> list[tuple[ArtifactSequenceNode, str, ArtifactNode]]:
    """What an alias mutation is about, each name resolved."""
    artifact = artifact_by_id(context, artifact_id)
    found = []
    for alias in wanted:
        project = need_project(context, alias["entityName"], alias["projectName"])
        sequence = project.artifact_collection(alias["artifactCollectionName"])
        if sequence is None or sequence.pk != artifact.artifact_sequence.pk:
            raise RefusalError(404, f"collection {alias['artifactCollectionName']} not found")
        found.append((sequence, alias["alias"], artifact))
    return found
