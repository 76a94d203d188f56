"""W&B's reading side: the one module that talks to ``wandb.Api``.

What a server says it holds is returned as plain values; every exception of wandb is mapped here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import wandb
import wandb.errors

from wandbkeras.errors import CredentialsError, RefusedError, SyncError, UnreachableError

VERSION: str = wandb.__version__
# The client pages by step, not by row: asked for a range with gaps, it makes a request for every
# thousand steps of them. So each page is asked for by its own first and last step.
PAGE_ROWS = 1_000
_MAX_PAGE_STEPS = 2**31 - 1
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class RemoteArtifact:
    """A version of an artifact that the server has committed for a run."""

    name: str
    type: str
    version: str
    digest: str
    aliases: tuple[str, ...]
    description: str | None
    metadata: Mapping[str, Any]
    files: Mapping[str, str]


@dataclass(frozen=True)
class RemoteRun:
    """A run as the server describes it, without its history."""

    url: str
    state: str
    name: str
    group: str | None
    job_type: str | None
    tags: tuple[str, ...]
    notes: str | None
    host: str | None
    started: str | None
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    line_count: int
    artifacts: tuple[RemoteArtifact, ...]


class Server:
    """A W&B server, reached with wandb's own settings and credentials."""

    def __init__(self, base_url: str | None = None, timeout_s: int = 20) -> None:
        self.base_url = (base_url or configured_base_url()).rstrip("/")
        _check_reachable(self.base_url)
        with _mapped(self.base_url):
            self._api = wandb.Api(overrides={"base_url": self.base_url}, timeout=timeout_s)
            entity = self._api.default_entity
        if not entity:
            raise CredentialsError(f"{self.base_url}: the key belongs to no user: run wandb login")
        self.default_entity = str(entity)

    def find(self, entity: str, project: str, run_id: str) -> RemoteRun | None:
        """Return what the server holds of a run; None if it holds none of this id."""
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
                started=metadata.get("startedAt"),
                config=run.config,
                summary=run.summary_metrics,
                line_count=int(run.historyLineCount or 0),
                artifacts=tuple(map(_artifact, run.logged_artifacts())),
            )

    def rows(
        self, entity: str, project: str, run_id: str, steps: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows that the server holds at ``steps``, ascending, and between them.

        Rows elsewhere are not seen: their number tells.
        """
        with _mapped(self.base_url):
            run = self._run(entity, project, run_id)
            for first, last in _pages(steps if run is not None else ()):
                yield from run.scan_history(
                    min_step=first,
                    max_step=last + 1,
                    page_size=last + 1 - first,
                    use_cache=False,
                )

    def _run(self, entity: str, project: str, run_id: str) -> Any:
        try:
            self._api.flush()  # wandb keeps runs it has seen
            return self._api.run(f"{entity}/{project}/{run_id}")
        except (wandb.errors.CommError, ValueError) as error:
            if "could not find" in str(error).lower():
                return None
            raise


def _pages(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last step of each page.

    >>> list(_pages([0, 1, 2**40])), list(_pages([]))
    ([(0, 1), (1099511627776, 1099511627776)], [])
    """
    start = 0
    for index, step in enumerate(steps):
        if index - start == PAGE_ROWS or step - steps[start] >= _MAX_PAGE_STEPS:
            yield steps[start], steps[index - 1]
            start = index
    if steps:
        yield steps[start], steps[-1]


def configured_base_url() -> str:
    """Return the server that wandb is set up for: its settings files and ``WANDB_BASE_URL``."""
    # wandb.Settings() alone reads neither the environment nor the files.
    return str(wandb.setup().settings.base_url)


def _artifact(version: Any) -> RemoteArtifact:
    return RemoteArtifact(
        name=version.name.rpartition(":")[0],
        type=version.type,
        version=version.version,
        digest=version.digest,
        aliases=tuple(version.aliases),
        description=version.description or None,
        metadata=dict(version.metadata or {}),
        files={path: entry.digest for path, entry in version.manifest.entries.items()},
    )


def _check_reachable(base_url: str) -> None:
    """Fail in seconds, with the reason, where wandb would try again for minutes."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedError(f"{base_url!r} is not a server's address: set WANDB_BASE_URL")
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY")):
        return  # the way leads through a proxy, which alone can tell
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise UnreachableError(
            f"{base_url} does not answer ({error}): sync from a machine that reaches it"
        ) from error


@contextmanager
def _mapped(base_url: str) -> Iterator[None]:
    """Map what wandb raises to this package's errors."""
    try:
        yield
    except wandb.errors.AuthenticationError as error:
        raise CredentialsError(f"{base_url} refuses the key: {_line(error)}") from error
    except wandb.errors.UsageError as error:
        raise CredentialsError(
            f"no key for {base_url}: run wandb login ({_line(error)})"
        ) from error
    except wandb.errors.CommError as error:
        text = _line(error)
        if "401" in text or "unauthorized" in text.lower():
            raise CredentialsError(f"{base_url} refuses the key: {text}") from error
        if "403" in text or "permission" in text.lower():
            raise RefusedError(f"{base_url} refuses: {text}") from error
        raise SyncError(f"{base_url}: {text}") from error
    except (wandb.errors.Error, OSError, ValueError, TimeoutError) as error:
        raise SyncError(f"{base_url}: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
