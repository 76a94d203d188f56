"""``wandbkeras sync``: bring runs to W&B and prove that they arrived."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wandbkeras.errors import gravest
from wandbkeras.store.shortage import counts_text
from wandbkeras.store.wording import counted
from wandbkeras_cli.output import error_document, json_option, print_json, say
from wandbkeras_cli.paths import (
    run_directories,
    selected,
    selection_options,
    state_dir_option,
)
from wandbkeras_cli.preview import show_previews
from wandbkeras_cli.progress import Progress
from wandbkeras_cli.sync_options import options_of, sync_options
from wandbkeras_cli.watch import pace_of, watch, watch_options

if TYPE_CHECKING:
    from wandbkeras.sync.options import Result


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@selection_options
@sync_options
@watch_options
@state_dir_option
@click.option("--dry-run", is_flag=True, help="Only say what would go where; asks the server.")
@click.option("-q", "--quiet", is_flag=True, help="Print troubles only.")
@json_option
def sync(
    paths: tuple[Path, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    state_dir: Path | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **said: Any,
) -> None:
    """Bring the runs in PATHS (stores, runs or patterns; default: ./runs) to Weights & Biases.

    Sends what the server lacks, reads everything back and compares. Exit status 0 means that all
    of it was found there. Syncing again sends nothing, or only what is new. Server and credentials
    are wandb's own: WANDB_BASE_URL, WANDB_API_KEY, ~/.netrc.

    \b
    Example:
      wandbkeras sync runs
      wandbkeras sync runs --include tag=baseline --exclude state=running --dry-run
      wandbkeras sync runs --watch --exit-when-done
    """
    options = options_of(said, state_dir)
    paths = paths or (Path("runs"),)
    pace = pace_of(said)
    if pace is not None:
        code = watch(paths, include, exclude, options, pace, quiet=quiet, as_json=as_json)
        click.get_current_context().exit(code)
    directories = selected(run_directories(paths), include, exclude)
    # wandb takes a second to import, which no other command should wait for.
    from wandbkeras.sync.engine import sync as sync_runs
    from wandbkeras.sync.preview import preview

    progress = Progress(len(directories), shown=not quiet)
    if dry_run:
        previews = preview(directories, options, progress=progress.say)
        click.get_current_context().exit(show_previews(progress.over(previews), as_json=as_json))
    results = []
    synced = sync_runs(directories, options, progress=progress.say)
    for result in progress.over(synced, sent=lambda result: (result.rows_sent, result.bytes_sent)):
        results.append(result)
        _print(result, quiet=quiet or as_json)
    code = gravest(result.exit_code for result in results)
    if as_json:
        print_json({"runs": [_document(result) for result in results], "exit_code": code})
    click.get_current_context().exit(code)


def _print(result: Result, *, quiet: bool) -> None:
    """Print how a run ended: troubles always, to standard error."""
    if result.outcome == "skipped":
        say(f"{result.run_id}: skipped: {result.error}", err=True)
    elif result.error is not None:
        say(f"wandbkeras: {result.run_id or result.path}: {result.error}", err=True)
    elif not quiet:
        _print_arrival(result)
    for line in result.receipt.not_sent if result.receipt else ():
        say(f"{result.run_id}: not sent: {line}", err=True)
    if counts := counts_text(result.dropped, result.dropped_events):
        say(f"{result.run_id}: {counts} could not be recorded", err=True)
    if result.lost:
        say(
            f"{result.run_id}: {len(result.lost)} places were damaged and are not in it: see "
            f"`wandbkeras show {result.path}`",
            err=True,
        )


def _print_arrival(result: Result) -> None:
    assert result.receipt is not None
    receipt = result.receipt
    held = f"{counted(receipt.rows, 'row')}, "
    held += counted(len(receipt.artifacts), "artifact version")
    held += f", {counted(receipt.files, 'file')}" if receipt.files else ""
    if result.outcome == "unchanged":
        say(f"{result.run_id}: nothing to send: {held}, verified at {receipt.url}")
    else:
        say(
            f"{result.run_id}: verified: {held}, summary, config and state ({receipt.state}) at "
            f"{receipt.url} ({counted(result.rows_sent, 'row')} sent, {result.seconds:.1f} s)"
        )


def _document(result: Result) -> dict[str, Any]:
    receipt, error = result.receipt, result.error
    return {
        "path": str(result.path),
        "run_id": result.run_id,
        "destination": None if result.destination is None else vars(result.destination),
        "outcome": result.outcome,
        "url": receipt.url if receipt else None,
        "state": receipt.state if receipt else None,
        "rows_sent": result.rows_sent,
        "rows_verified": receipt.rows if receipt else 0,
        "artifacts_sent": result.artifacts_sent,
        "artifacts_verified": len(receipt.artifacts) if receipt else 0,
        "files_sent": result.files_sent,
        "files_verified": receipt.files if receipt else 0,
        "bytes_sent": result.bytes_sent,
        "seconds": round(result.seconds, 3),
        "lost": list(result.lost),
        "dropped": result.dropped,
        "dropped_events": result.dropped_events,
        "not_sent": receipt.not_sent if receipt else [],
        "error": error_document(error),
    }
