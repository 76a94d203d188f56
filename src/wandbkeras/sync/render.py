"""Rendering: a stored run, or what is missing of it, as the records of a transaction log.

A pure function of the content and the plan: tested without network, record by record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandbkeras.store.layout import run_directory_name
from wandbkeras.store.schema import ArtifactFile
from wandbkeras.sync import transaction_log as log
from wandbkeras.sync.content import Artifact, Content
from wandbkeras.sync.media import MadeFile
from wandbkeras.sync.plan import Plan


def render(content: Content, plan: Plan, directory: Path, producer: str) -> Path:
    """Write the log of what ``plan`` says is missing into ``directory``; return where it lies.

    The directory gets the form that ``wandb sync`` looks for:
    ``offline-run-<time>-<id>/run-<id>.wandb``.
    """
    run_id = plan.destination.run_id
    # Not the directory's own name: it may have been renamed.
    folder = directory / f"offline-{run_directory_name(content.info.id, content.info.created)}"
    (folder / "files").mkdir(parents=True)
    for name in plan.files:
        _put(folder / "files" / name, content, content.files[name])
    staging = directory / "staging"
    staging.mkdir(exist_ok=True)
    with log.TransactionLog(folder / f"run-{run_id}.wandb") as file:
        for record in records(content, plan, staging, producer):
            file.write(record)
    return folder


def records(content: Content, plan: Plan, staging: Path, producer: str) -> Iterator[Any]:
    """Yield the records in the order in which a client writes them."""
    info, process = content.info, content.process
    yield log.header(producer)
    yield log.run(
        run_id=plan.destination.run_id,
        entity=plan.entity,
        project=plan.destination.project,
        name=info.name,
        group=info.group,
        job_type=info.job_type,
        tags=info.tags,
        notes=info.notes,
        host=info.host,
        start_time=info.created,
        config=content.config,
    )
    yield log.environment(
        host=info.host or "",
        program=str(process.get("program", "")),
        python=str(process.get("python", "")),
        started=info.created,
    )
    for definition in content.metrics:
        yield log.metric(
            name=definition.name,
            step_metric=definition.step_metric,
            step_sync=definition.step_sync,
            hidden=definition.hidden,
            summary=definition.summary,
            goal=definition.goal,
        )
    for row in content.rows(plan.first_row):
        yield log.history(row.step, row.timestamp, row.runtime, row.values)
    for artifact in plan.artifacts:
        yield _artifact(content, plan, artifact, staging)
    if plan.files:
        yield log.files(plan.files)
    yield log.summary(content.summary, content.runtime)
    yield log.exit(content.exit_code, content.runtime, complete=not content.is_running)


def _artifact(content: Content, plan: Plan, artifact: Artifact, staging: Path) -> Any:
    version = artifact.version
    return log.artifact(
        run_id=plan.destination.run_id,
        entity=plan.entity,
        project=plan.destination.project,
        name=version.name,
        type=version.type,
        digest=artifact.digest,
        description=version.description,
        metadata=version.metadata,
        aliases=artifact.aliases,
        client_id=_client_id(content, plan, artifact, "version"),
        sequence_client_id=_client_id(content, plan, artifact, "sequence"),
        files={**_files(content, artifact), **_references(artifact)},
        staging_directory=staging.resolve(),
    )


def _files(content: Content, artifact: Artifact) -> dict[str, log.ManifestEntry]:
    return {
        path: log.ManifestEntry(
            digest=artifact.files[path],
            size=file.size,
            local_path=str(content.run.blob(file.sha256).resolve()),
        )
        for path, file in artifact.version.files.items()
    }


def _references(artifact: Artifact) -> dict[str, log.ManifestEntry]:
    return {
        path: log.ManifestEntry(digest=r.digest, size=r.size or 0, ref=r.ref)
        for path, r in artifact.version.references.items()
    }


def _put(path: Path, content: Content, file: ArtifactFile) -> None:
    """Put a file of the run at ``path``; a blob without a copy, because the client only reads it.

    It writes files of its own beside, which have other names.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(file, MadeFile):
        path.write_bytes(file.data)
    else:
        path.symlink_to(content.run.blob(file.sha256).resolve())


def _client_id(content: Content, plan: Plan, artifact: Artifact, what: str) -> str:
    """Return an id of 128 characters, the same at every try: the server can tell a repetition."""
    text = f"{plan.destination}/{content.info.id}/{artifact.number}/{what}"
    return hashlib.sha512(text.encode()).hexdigest()
