"""Rendering: a stored run, or what is missing of it, as the records of a transaction log.

A pure function of the content and the plan: tested without network, record by record.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandbkeras.store.layout import run_directory_name
from wandbkeras.sync import transaction_log as log
from wandbkeras.sync.artifacts import CLIENT_URI, Artifact
from wandbkeras.sync.content import Content
from wandbkeras.sync.log_rows import encode_rows
from wandbkeras.sync.logged_run import kept_records, kept_run
from wandbkeras.sync.outbox import Outbox
from wandbkeras.sync.plan import Plan


def render(
    content: Content,
    plan: Plan,
    directory: Path,
    producer: str,
    *,
    is_last: bool = True,
    outbox: Outbox | None = None,
) -> Path:
    """Write the log of what ``plan`` says is missing into ``directory``; return where it lies.

    Unless it ``is_last``, another log follows, which brings the summary and the end of the run. The
    directory gets the form that ``wandb sync`` looks for:
    ``offline-run-<time>-<id>/run-<id>.wandb``. Files lie in ``outbox``, unless given beside it.
    """
    run_id = plan.destination.run_id
    # Not the directory's own name: it may have been renamed.
    folder = directory / f"offline-{run_directory_name(content.info.id, content.info.created)}"
    (folder / "files").mkdir(parents=True)
    outbox = outbox or Outbox(content, directory)
    for name in plan.files:
        outbox.put(content.files[name], folder / "files" / name)
    with log.TransactionLog(folder / f"run-{run_id}.wandb") as file:
        for record in records(content, plan, outbox, producer, is_last=is_last):
            file.write(record)
    outbox.finish()
    return folder


def records(
    content: Content,
    plan: Plan,
    outbox: Outbox,
    producer: str,
    *,
    is_last: bool = True,
) -> Iterator[log.LogRecord]:
    """Yield the records in the order in which a client writes them."""
    info = content.info
    kept = content.imported.records if content.choice.files else None
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
        mask_labels=content.mask_labels,
        base=None if kept is None else kept_run(kept),
    )
    if kept is None:
        host = info.host or ""
        yield log.environment(content.environment, host=host, started=content.started)
    else:
        # Of what is sent once the server says nothing: it goes with the first rows.
        again = not is_last or (plan.remote is not None and plan.remote.line_count > 0)
        yield from kept_records(kept, again=again, hidden=content.choice.hidden(content.run.config))
    for definition in content.metrics:
        yield log.metric(
            name=definition.name,
            step_metric=definition.step_metric,
            step_sync=definition.step_sync,
            hidden=definition.hidden,
            summary=definition.summary,
            goal=definition.goal,
        )
    yield from encode_rows(content.rows(plan.first_row))
    for sample in plan.samples:
        yield log.stats(sample.timestamp, sample.body)
    for artifact in plan.artifacts:
        yield _artifact(content, plan, artifact, outbox)
    if plan.files:
        yield log.files(plan.files)
    for alert in plan.alerts:
        yield log.alert(title=alert.title, text=alert.text, level=alert.level)
    if is_last:
        for line in plan.console:
            yield log.console(f"{line.text}\n", line.timestamp, is_error=line.is_error)
        yield log.summary(content.summary, content.runtime)
    if content.run.preempting:
        yield log.preempting()
    is_complete = is_last and not content.is_running
    yield log.exit(content.exit_code, content.runtime, complete=is_complete)


def _artifact(content: Content, plan: Plan, artifact: Artifact, outbox: Outbox) -> Any:
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
        client_id=content.client_id(artifact.identity, "version"),
        sequence_client_id=content.client_id(version.name, "sequence"),
        files={
            **_files(artifact, outbox),
            **_references(artifact),
            **_links(content, artifact),
        },
        staging_directory=outbox.staging.resolve(),
        used=version.used,
        step=version.step,
    )


def _files(artifact: Artifact, outbox: Outbox) -> dict[str, log.ManifestEntry]:
    return {
        path: log.ManifestEntry(
            digest=artifact.files[path], size=file.size, local_path=outbox.local_path(file)
        )
        for path, file in {**artifact.version.files, **artifact.made}.items()
    }


def _references(artifact: Artifact) -> dict[str, log.ManifestEntry]:
    return {
        path: log.ManifestEntry(digest=r.digest, size=r.size or 0, ref=r.ref)
        for path, r in artifact.version.references.items()
    }


def _links(content: Content, artifact: Artifact) -> dict[str, log.ManifestEntry]:
    """Return references to what is in other versions; the client asks the server which they are."""
    entries = {}
    for path, link in artifact.links.items():
        place = content.versions.place(link)
        version = content.client_id(place.identity, "version")
        uri = f"{CLIENT_URI}{version}/{place.path}"
        entries[path] = log.ManifestEntry(digest=artifact.files[path], size=0, ref=uri)
    return entries
