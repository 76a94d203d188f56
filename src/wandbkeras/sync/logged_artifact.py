"""An artifact version as W&B's client wrote it into a transaction log, as plain values."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

from wandbkeras.store.checks import parse_json
from wandbkeras.sync.transaction_log import ManifestEntry


@dataclass(frozen=True)
class LoggedArtifact:
    """A version of an artifact: ``files`` by their paths, with where they were staged."""

    name: str
    type: str
    aliases: tuple[str, ...]
    description: str | None
    metadata: Mapping[str, Any]
    files: Mapping[str, ManifestEntry]
    used: bool
    client_id: str
    sequence_client_id: str
    why_not: str | None = None


def logged_artifact(artifact: pb.ArtifactRecord) -> LoggedArtifact:
    """Return what a record says of a version; ``why_not`` says why it can't be taken over."""
    why_not = None if artifact.finalize else "it is a part of a version that several runs write"
    try:
        files = _entries(artifact.manifest)
        metadata = parse_json(artifact.metadata) if artifact.metadata else {}
    except (OSError, ValueError, KeyError) as error:
        files, metadata, why_not = {}, {}, f"its manifest can't be read ({error})"
    return LoggedArtifact(
        name=artifact.name,
        type=artifact.type,
        aliases=tuple(artifact.aliases),
        description=artifact.description or None,
        metadata=metadata,
        files=files,
        used=artifact.use_after_commit,
        client_id=artifact.client_id,
        sequence_client_id=artifact.sequence_client_id,
        why_not=why_not,
    )


def _entries(manifest: pb.ArtifactManifest) -> dict[str, ManifestEntry]:
    """Return the files of a manifest, of a large one from the file that the client puts it into."""
    if manifest.manifest_file_path:
        with gzip.open(manifest.manifest_file_path, "rt") as lines:
            described = [json.loads(line) for line in lines]
        return {
            entry["path"]: ManifestEntry(
                entry["digest"],
                entry.get("size") or 0,
                entry.get("local_path") or "",
                entry.get("ref") or "",
            )
            for entry in described
        }
    return {
        entry.path: ManifestEntry(entry.digest, entry.size, entry.local_path, entry.ref)
        for entry in manifest.contents
    }
