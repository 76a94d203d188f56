"""What W&B's reading client answers, as plain values.

Its objects are not named here: whatever has these members will do.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from wandbkeras.sync.history_pages import Span, decode_all
from wandbkeras.sync.remote import RemoteArtifact, RemoteFile, RemoteRun

_PAGE_FILES = 200
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?")


def described(
    run: Any,
    files: Collection[str],
    *,
    uses: bool,
    samples: int,
    console: dict[int, tuple[str | None, str]] | None,
) -> RemoteRun:
    """Return a run with those of its ``files`` that are named, so many ``samples`` of its system
    metrics, and with ``uses`` the artifacts that it takes in; what else of it is there to ask.
    """
    metadata = run.metadata or {}
    return RemoteRun(
        url=run.url,
        state=run.state,
        name=run.name,
        group=run.group or None,
        job_type=run.jobType or None,
        tags=tuple(run.tags or ()),
        notes=run.notes or None,
        host=metadata.get("host"),
        started=_seconds(metadata.get("startedAt")),
        heartbeat=_seconds(run.heartbeatAt) or 0.0,
        config=run.config,
        summary=run.summary_metrics,
        line_count=int(run.historyLineCount or 0),
        artifacts=_artifacts(run, uses=uses),
        files=_files(run, files),
        mask_labels=_mask_labels(run.rawconfig),
        id=run.storage_id,
        samples=_samples(run, samples),
        console=console,
    )


def scanned(run: Any, span: Span) -> Iterator[Any]:
    """Return the rows as they are received, to be decoded while the next ones are on their way."""
    rows = run.scan_history(
        min_step=span.first, max_step=span.last + 1, page_size=span.page, use_cache=False
    )
    # wandb would decode them, cell by cell, which takes three times as long. A version of it that
    # doesn't know this name, or lets nobody set it, goes on doing so.
    with suppress(AttributeError):
        rows._convert_history_row_to_dict = lambda row: row
    return iter(rows)


def decoded(row: Any) -> dict[str, Any]:
    """Return a row that was received with its values decoded."""
    if isinstance(row, dict):
        return row
    names = [item.key for item in row.history_items]
    return dict(zip(names, decode_all([i.value_json for i in row.history_items]), strict=True))


def _seconds(instant: str | None) -> float | None:
    """Return seconds since the epoch of an instant as W&B writes it, in UTC.

    >>> _seconds("1970-01-01T00:01:00.5Z"), _seconds("1970-01-01T00:01:00"), _seconds(None)
    (60.5, 60.0, None)
    """
    parts = _INSTANT.match(instant or "")
    if parts is None:
        return None
    moment = datetime.fromisoformat(parts[1]).replace(tzinfo=timezone.utc)
    return moment.timestamp() + float(parts[2] or 0)


def _artifacts(run: Any, *, uses: bool) -> tuple[RemoteArtifact, ...]:
    """Return the versions that a run has made, and with ``uses`` those that it takes in."""
    used = {version.id: version for version in run.used_artifacts()} if uses else {}
    versions = {version.id: version for version in run.logged_artifacts()} | used
    return tuple(_artifact(version, used=id in used) for id, version in versions.items())


def _samples(run: Any, most: int) -> tuple[Mapping[str, Any], ...]:
    """Return system metrics; a server that holds more than ``most`` chooses."""
    if not most:
        return ()
    return tuple(run.history(samples=most, stream="system", pandas=False))


def _mask_labels(config: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    internal = config.get("_wandb") or {}
    held = internal.get("value", internal).get("mask/class_labels") or {}
    return {key: item["value"] for key, item in held.items()}


def _artifact(version: Any, *, used: bool) -> RemoteArtifact:
    return RemoteArtifact(
        name=version.name.rpartition(":")[0],
        type=version.type,
        version=version.version,
        digest=version.digest,
        aliases=tuple(version.aliases),
        description=version.description or None,
        metadata=dict(version.metadata or {}),
        files={path: entry.digest for path, entry in version.manifest.entries.items()},
        references={path: str(e.ref) for path, e in version.manifest.entries.items() if e.ref},
        id=str(version.id),
        used=used,
    )


def _files(run: Any, names: Collection[str]) -> dict[str, RemoteFile]:
    """Return those of the files ``names`` that the server holds the bytes of."""
    found = run.files(list(names), per_page=_PAGE_FILES) if names else ()
    return {
        str(file.name): RemoteFile(int(file.size or 0), _hexadecimal(file.md5)) for file in found
    }


def _hexadecimal(md5: str | None) -> str | None:
    """Return an MD5, in base64 or in hexadecimal as servers give it, in hexadecimal.

    >>> _hexadecimal("1B2M2Y8AsgTpgAmY7PhCfg=="), _hexadecimal(None)
    ('d41d8cd98f00b204e9800998ecf8427e', None)
    """
    if not md5 or re.fullmatch(r"[0-9a-f]{32}", md5):
        return md5 or None
    try:
        return base64.b64decode(md5).hex()
    except ValueError:
        return md5
