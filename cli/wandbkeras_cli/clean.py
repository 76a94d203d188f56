"""``wandbkeras clean``: free the disk of runs whose arrival is proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import WandbkerasError, gravest
from wandbkeras.store.selection import duration_s
from wandbkeras.store.source import is_run
from wandbkeras.sync.clean import clean_run, finish_cleaning
from wandbkeras_cli.output import failure, human_size, json_option, print_json, say
from wandbkeras_cli.paths import run_directories, selected, selection_options, state_dir_option


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@selection_options
@click.option(
    "--keep",
    type=click.Choice(["history"]),
    help="Keep the run and all its rows; remove the contents of its artifacts and files.",
)
@click.option(
    "--older-than",
    metavar="DURATION",
    default="0s",
    help="Only runs whose last record is older, as 7d or 12h.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@state_dir_option
@json_option
def clean(
    paths: tuple[Path, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    keep: str | None,
    older_than: str,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Remove those of the runs in PATHS (default: ./runs) that have verifiably arrived.

    Only what a receipt of a whole sync proves, whose rows were read back, and which has not changed
    since; every other run is kept, with the reason. Who a run was and its receipts stay in
    `cleaned/` of the store. Needs no network.

    \b
    Example:
      wandbkeras clean runs --older-than 7d --dry-run
    """
    older_than_s = duration_s(older_than)
    paths = paths or (Path("runs"),)
    left_over = sum(finish_cleaning(path, dry_run=dry_run) for path in paths if not is_run(path))
    described = []
    for path in selected(run_directories(paths), include, exclude):
        described.append(
            _describe(
                path,
                keep_history=keep == "history",
                older_than_s=older_than_s,
                state_directory=state_dir,
                dry_run=dry_run,
            )
        )
        _print(described[-1], dry_run=dry_run, as_json=as_json)
    code = gravest(run.pop("exit_code") for run in described)
    freed = left_over + sum(run["freed"] for run in described)
    if as_json:
        document = {"runs": described, "freed": freed, "dry_run": dry_run, "exit_code": code}
        print_json(document)
    else:
        say(f"{human_size(freed)} {'would be freed' if dry_run else 'freed'}")
    click.get_current_context().exit(code)


def _describe(path: Path, **how: Any) -> dict[str, Any]:
    """Clean a run and return what became of it; for one that can't be read, the reason."""
    unknown = {"path": str(path), "run_id": None, "freed": 0, "kept": None, "url": None}
    try:
        found = clean_run(path, **how)
    except (WandbkerasError, OSError) as error:
        return {**unknown, **failure(path, error)}
    return {**vars(found), "path": str(path), "error": None, "exit_code": 0}


def _print(run: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    if run["error"]:
        say(f"wandbkeras: {run['error']}", err=True)
    elif as_json:
        return
    elif run["kept"]:
        say(f"{run['run_id']}: kept: {run['kept']}")
    else:
        done = "would be removed" if dry_run else "removed"
        say(f"{run['run_id']}: {done}: {human_size(run['freed'])}; verified at {run['url']}")
