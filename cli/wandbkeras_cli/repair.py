"""``wandbkeras repair``: a sound run of what can be saved of a damaged one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import DamagedError, WandbkerasError, gravest
from wandbkeras.store.repair import repair_run
from wandbkeras.store.verify import verify_run
from wandbkeras_cli.output import failure, json_option, print_json, say
from wandbkeras_cli.paths import run_directories
from wandbkeras_cli.progress import Progress
from wandbkeras_cli.verify import damage_document


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Change nothing, only say what would be lost.")
@json_option
def repair(paths: tuple[Path, ...], dry_run: bool, as_json: bool) -> None:
    """Make the runs in PATHS (stores or runs) sound again, as far as they can be saved.

    What is sound is sealed anew, the damaged originals move to damaged/ in the run, and what is
    lost is said: rows, steps, artifacts. A sound run is not touched, and one that is still being
    recorded is refused. It can be interrupted and run again. Exit status 0 means that all runs are
    sound now.

    \b
    Example:
      wandbkeras repair --dry-run runs
      wandbkeras repair runs
    """
    directories = run_directories(paths)
    progress = Progress(len(directories))
    repaired = []
    for found in progress.over(_describe(path, dry_run, progress.say) for path in directories):
        repaired.append(found)
        if repaired[-1]["error"]:
            say(f"wandbkeras: {repaired[-1]['error']}", err=True)
        elif not as_json:
            _print(repaired[-1], dry_run)
    code = gravest(entry.pop("exit_code") for entry in repaired)
    if as_json:
        print_json({"runs": repaired, "exit_code": code})
    click.get_current_context().exit(code)


def _describe(path: Path, dry_run: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Repair a run and return how that went."""
    try:
        done = repair_run(path, dry_run=dry_run, progress=progress)
        # What was repaired is not believed to be sound, it is looked at.
        sound = not done.damage or not (dry_run or verify_run(path, progress=progress).damage)
        return {
            "path": str(path),
            "id": done.run_id,
            "sound": sound,
            "damage": [damage_document(damage) for damage in done.damage],
            "rows_kept": done.rows_kept,
            "rows_lost": done.rows_lost,
            "rows_lost_is_exact": done.is_exact,
            "artifacts_lost": done.artifacts,
            "files_lost": done.saved_files,
            "tables_lost": done.tables,
            "moved": done.moved,
            "error": None,
            "exit_code": 0 if sound else DamagedError.exit_code,
        }
    except (WandbkerasError, OSError) as error:
        return {"path": str(path), **failure(path, error)}


def _print(run: dict[str, Any], dry_run: bool) -> None:
    if not run["damage"]:
        say(f"{run['id']}: sound: nothing to repair")
        return
    for damage in run["damage"]:
        say(f"{run['id']}: {damage['path']}: {damage['reason']}")
    for line in (*run["artifacts_lost"], *run["files_lost"], *run["tables_lost"]):
        say(f"{run['id']}: lost: {line}")
    rows = f"{run['rows_kept']} rows kept, {_lost(run)} lost"
    if dry_run:
        say(f"{run['id']}: can be repaired: {rows}")
    elif run["sound"]:
        say(f"{run['id']}: repaired: {rows}; the originals are in {run['path']}/damaged")
    else:
        say(f"{run['id']}: not repaired: see `wandbkeras verify {run['path']}`")


def _lost(run: dict[str, Any]) -> str:
    """Return how many rows are lost; nobody knows how many damaged bytes of a journal were."""
    if run["rows_lost_is_exact"]:
        return str(run["rows_lost"])
    unknown = "those in the damaged bytes of the journal"
    return f"{run['rows_lost']} and {unknown}" if run["rows_lost"] else unknown
