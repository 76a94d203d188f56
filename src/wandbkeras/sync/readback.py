"""W&B's reading side: the one module that talks to ``wandb.Api``.

What a server says it holds is returned as plain values; every exception of wandb is mapped here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

import wandb
import wandb.errors
from wandb.apis.public import Run
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from wandbkeras.errors import (
    CredentialsError,
    DeletedError,
    RefusedError,
    SyncError,
    UnreachableError,
    UsageError,
)
from wandbkeras.sync.beside import beside
from wandbkeras.sync.console import ALL_LINES, LAST_LINES
from wandbkeras.sync.history_pages import Span, decode_all, read_ahead, scans
from wandbkeras.sync.reachable import check_reachable, told_directly
from wandbkeras.sync.remote import RemoteArtifact, RemoteFile, RemoteRun

VERSION: str = wandb.__version__
_PAGE_FILES = 200
# wandb would ask again for minutes, and a process that ends would wait for it.
_RETRIES = 2
_ANSWER_SECONDS = 20
# Of all that upsert a run, the server tells the one that made it so.
_MAKE_RUN = """
mutation UpsertBucket($project: String, $entity: String, $name: String!, $state: String) {
    upsertBucket(input: {modelName: $project, entityName: $entity, name: $name, state: $state}) {
        inserted
    }
}
"""
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?")


class Server:
    """A W&B server, reached with wandb's own settings and credentials."""

    def __init__(self, base_url: str | None = None, timeout_s: int = _ANSWER_SECONDS) -> None:
        timeout_s = min(timeout_s, _ANSWER_SECONDS)
        self.base_url = (base_url or configured_base_url()).rstrip("/")
        check_reachable(self.base_url)
        with _mapped(self.base_url):
            self._api = wandb.Api(overrides={"base_url": self.base_url}, timeout=timeout_s)
            entity = self._api.default_entity
        if not entity:
            raise CredentialsError(f"{self.base_url}: the key belongs to no user: run wandb login")
        self.default_entity = str(entity)

    def find(
        self,
        entity: str,
        project: str,
        run_id: str,
        files: Collection[str] = (),
        *,
        uses: bool = False,
        samples: int = 0,
        console: int = 0,
    ) -> RemoteRun | None:
        """Return what the server holds of a run, of its files those that are named.

        With ``uses`` it is asked which artifacts the run takes in, and for so many ``samples`` of
        its system metrics, and lines of its ``console``, of many for the last. None if it holds
        none of this id.
        """
        with _mapped(self.base_url):
            run = self._run(entity, project, run_id)
            if run is None:
                return None
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
                console=_console(run, console),
            )

    def rows_and_state(self, entity: str, project: str, run_id: str) -> tuple[int, str | None]:
        """Return how many rows the server says that it holds of a run, and its state."""
        with _mapped(self.base_url):
            run = self._run(entity, project, run_id)
            return (0, None) if run is None else (int(run.historyLineCount or 0), str(run.state))

    def announce(self, entity: str, project: str, run_id: str) -> bool:
        """Make the run if it isn't there: the client that sends would hide why it can't be made.

        Return False if it was there already: of any number that ask at once, one makes it. True
        also where client or server don't tell. DeletedError if it was deleted, another SyncError if
        the server refuses it.
        """
        try:
            with _mapped(self.base_url), beside("WANDB_DIR"):
                return self._make(entity, project, run_id) is not False
        except RefusedError as error:
            failure = _failure(error)
            status = failure.response.http_status if failure and failure.response else 0
            kind = DeletedError if status == 409 else RefusedError
            raise kind(str(error)) from error

    def _make(self, entity: str, project: str, run_id: str) -> bool | None:
        """Make a run as ``Run.create`` does; return what that receives and keeps for itself."""
        service = getattr(self._api, "_service_api", None)
        if service is None:
            Run.create(self._api, run_id=run_id, project=project, entity=entity)
            return None
        place = {"name": run_id, "project": project, "entity": entity, "state": "running"}
        answer = service.execute_graphql(_MAKE_RUN, place)["upsertBucket"]
        inserted: bool | None = answer.get("inserted")
        return inserted

    def link(
        self, entity: str, project: str, run_id: str, config: Callable[..., Any], note: str
    ) -> None:
        """Replace the config of a run by what ``config`` makes of it, and add to its notes.

        Nothing happens if it isn't there. What its notes have is not added again.
        """
        with _mapped(self.base_url):
            run = self._run(entity, project, run_id)
            if run is None:
                return
            linked = config(dict(run.config))
            run.config.clear()
            run.config.update(linked)
            notes = run.notes or ""
            if note not in notes:
                run.notes = f"{notes}\n\n{note}" if notes else note
            run.update()

    def rows(
        self, entity: str, project: str, run_id: str, steps: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows that the server holds at ``steps``, ascending, and between them.

        Rows elsewhere are not seen: their number tells.
        """
        with _mapped(self.base_url):
            run = self._run(entity, project, run_id)
            if run is not None:
                received = (_scan(run, span) for span in scans(steps))
                yield from map(_decoded, read_ahead(received))

    def _run(self, entity: str, project: str, run_id: str) -> Any:
        try:
            self._api.flush()  # wandb keeps runs it has seen
            with beside("WANDB_DIR"):  # where it makes a directory for each
                return self._api.run(f"{entity}/{project}/{run_id}")
        except (wandb.errors.CommError, ValueError) as error:
            if "could not find" in str(error).lower():
                return None
            raise


def configured_base_url() -> str:
    """Return the server that wandb is set up for: its settings files and ``WANDB_BASE_URL``."""
    try:
        patience = wandb.Settings(
            x_graphql_retry_max=_RETRIES,
            x_graphql_timeout_seconds=_ANSWER_SECONDS,
            x_file_transfer_retry_max=_RETRIES,
        )
        # wandb.Settings() alone reads neither the environment nor the files.
        with beside("WANDB_CACHE_DIR"):
            return str(wandb.setup(settings=patience).settings.base_url)
    except ValueError as error:
        raise UsageError(f"wandb's settings are wrong: {_line(error)}") from error


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


def _scan(run: Any, span: Span) -> Iterator[Any]:
    """Return the rows as they are received, to be decoded while the next ones are on their way."""
    rows = run.scan_history(
        min_step=span.first, max_step=span.last + 1, page_size=span.page, use_cache=False
    )
    # wandb would decode them, cell by cell, which takes three times as long. A version of it that
    # doesn't know this name, or lets nobody set it, goes on doing so.
    with suppress(AttributeError):
        rows._convert_history_row_to_dict = lambda row: row
    return iter(rows)


def _decoded(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    names = [item.key for item in row.history_items]
    return dict(zip(names, decode_all([i.value_json for i in row.history_items]), strict=True))


def _console(run: Any, lines: int) -> dict[int, tuple[str | None, str]] | None:
    """Return the lines of the console; None if client or server is too old to be asked."""
    if not lines:
        return {}
    if not hasattr(run, "console_logs"):
        return None
    few = lines <= ALL_LINES
    found = run.console_logs() if few else run.console_logs(last=LAST_LINES)
    try:
        return {int(line.number): (line.level, line.content) for line in found}
    except wandb.errors.CommError as error:
        failure = _failure(error)
        if failure is not None and not _is_refusal(failure):
            raise
        return None


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


@contextmanager
def _mapped(base_url: str) -> Iterator[None]:
    """Map what wandb raises to this package's errors."""
    try:
        yield
    except (wandb.errors.Error, WandbApiFailedError, OSError, ValueError) as error:
        raise _mapped_error(base_url, error) from error


def _mapped_error(base_url: str, error: Exception) -> SyncError:
    text = _line(error)
    if isinstance(error, wandb.errors.UsageError):
        return CredentialsError(f"no key for {base_url}: run wandb login ({text})")
    failure = _failure(error)
    if failure is None:
        refused = isinstance(error, wandb.errors.AuthenticationError)
        kind: type[SyncError] = CredentialsError if refused else SyncError
        return kind(f"{base_url}: {text}")
    text = _line(failure)
    if failure.response is None:  # maybe it was told to wait, and does, for longer than we do
        text += told_directly(base_url)
    status = failure.response.http_status if failure.response else 0
    if status == 401:
        return CredentialsError(f"{base_url} refuses the key: {text}")
    if _is_refusal(failure):
        return RefusedError(f"{base_url} refuses: {text}")
    return UnreachableError(f"{base_url} gives no answer: {text}: try again later")


def _is_refusal(failure: WandbApiFailedError) -> bool:
    """Whether asking again would change nothing."""
    status = failure.response.http_status if failure.response else 0
    return 400 <= status < 500 and status not in (408, 429)


def _failure(error: BaseException | None) -> WandbApiFailedError | None:
    """Return the request that failed behind an error of wandb, if one did."""
    while error is not None and not isinstance(error, WandbApiFailedError):
        error = error.__cause__
    return error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
