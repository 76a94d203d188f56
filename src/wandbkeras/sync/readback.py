"""W&B's reading side: the one module that talks to ``wandb.Api``.

What a server says it holds is returned as plain values; every exception of wandb is mapped here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
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
from wandbkeras.sync.answers import decoded, described, scanned
from wandbkeras.sync.beside import beside
from wandbkeras.sync.console import ALL_LINES, LAST_LINES
from wandbkeras.sync.history_pages import read_ahead, scans
from wandbkeras.sync.reachable import check_reachable, told_directly
from wandbkeras.sync.remote import RemoteRun

VERSION: str = wandb.__version__
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
            return described(run, files, uses=uses, samples=samples, console=_console(run, console))

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
                received = (scanned(run, span) for span in scans(steps))
                yield from map(decoded, read_ahead(received))

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
