"""What a sync would do: the server is asked, and nothing is sent or written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wandbkeras.errors import SyncError, WandbkerasError
from wandbkeras.store import limits
from wandbkeras.store.checks import TABLE
from wandbkeras.store.limits import json_bytes
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.options import Options
from wandbkeras.sync.plan import Plan, make_plan, plan_bytes
from wandbkeras.sync.session import Session


@dataclass(frozen=True)
class Preview:
    """What would go where. ``known`` artifact versions and rows are on the server already.

    ``bytes`` are those of the rows as W&B's client sends them, of artifacts and of files.
    ``not_sent`` names what would be left out: by choice, or because W&B does not take it;
    ``adapted`` what would arrive in another form than W&B's client would send.
    """

    path: Path
    run_id: str | None
    destination: Destination | None = None
    is_new: bool = False
    rows: int = 0
    rows_known: int = 0
    artifacts: int = 0
    artifacts_known: int = 0
    files: int = 0
    bytes: int = 0
    not_sent: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    unchanged: bool = False
    error: WandbkerasError | None = None


def preview(
    paths: Sequence[Path],
    options: Options | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Preview]:
    """Yield what a sync of the runs at ``paths`` would do."""
    session = Session(options or Options(), progress)
    for path in paths:
        run_id = None
        try:
            run = StoredRun(path, strict=True)
            run_id = run.info.id
            yield _preview(run, session)
        except WandbkerasError as error:
            yield Preview(path, run_id, error=error)
        except OSError as error:
            yield Preview(path, run_id, error=SyncError(f"{path}: {error}"))


def _preview(run: StoredRun, session: Session) -> Preview:
    destination, receipt = session.destination(run), session.proof(run)
    if receipt is not None:
        return Preview(
            run.path,
            run.info.id,
            destination,
            rows_known=receipt.rows,
            artifacts_known=len(receipt.artifacts),
            not_sent=tuple(receipt.not_sent),
            unchanged=True,
        )
    session.progress(f"{run.info.id}: asking {session.base_url} what it holds")
    options = session.options
    with session.content(run, destination, session.choice(run)) as content:
        plan = make_plan(
            content, destination, session.server(), settle_s=options.settle_s, level=options.level
        )
        return Preview(
            run.path,
            run.info.id,
            destination,
            is_new=plan.remote is None,
            rows=len(content.steps) - plan.first_row,
            rows_known=plan.first_row,
            artifacts=len(plan.artifacts),
            artifacts_known=len(content.artifacts) - len(plan.artifacts),
            files=len(plan.files),
            bytes=_bytes(content, plan),
            not_sent=tuple(content.not_sent),
            adapted=tuple(_adapted(content)),
        )


def _bytes(content: Content, plan: Plan) -> int:
    rows = content.rows(plan.first_row)
    return sum(json_bytes(row.values) for row in rows) + plan_bytes(content, plan)


def _adapted(content: Content) -> Iterator[str]:
    """Yield what arrives in another form than W&B's client would send, a line each: all of it."""
    for table in content.tables.named:
        where, rows = f"{table.key!r:.200} at step {table.step}", table.file.rows
        if table.kind == TABLE and rows > limits.MAX_TABLE_ROWS:
            parts = -(-rows // limits.MAX_TABLE_ROWS)
            yield f"{where}: {rows:,} rows, sent as {parts} tables of one version"
        elif table.kind != TABLE and rows > limits.MAX_IMAGES:
            client = f"W&B's client takes {limits.MAX_IMAGES}"
            yield f"{where}: {rows:,} images, all sent in one value; {client}"
