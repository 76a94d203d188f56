"""``wandbkeras verify``: whether every byte of a run is what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import DamagedError, WandbkerasError, gravest
from wandbkeras.store.damage import Damage
from wandbkeras.store.shortage import counts_text
from wandbkeras.store.verify import verify_run
from wandbkeras.store.wording import counted
from wandbkeras_cli.output import failure, human_size, json_option, print_json, say
from wandbkeras_cli.paths import run_directories
from wandbkeras_cli.progress import Progress


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@json_option
def verify(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check every byte of the runs in PATHS (stores or runs; default: ./runs).

    Prints a line for each damaged place and one for each run. Exit status 0 means that everything
    is as it was written, 4 that something is not. Changes nothing.

    \b
    Example:
      wandbkeras verify runs
    """
    directories = run_directories(paths or (Path("runs"),))
    progress = Progress(len(directories))
    checked = []
    for found in progress.over(_describe(path, progress.say) for path in directories):
        checked.append(found)
        if not as_json:
            _print(checked[-1])
        elif checked[-1]["error"]:
            say(f"wandbkeras: {checked[-1]['error']}", err=True)
    code = gravest(entry.pop("exit_code") for entry in checked)
    if as_json:
        print_json({"runs": checked, "exit_code": code})
    click.get_current_context().exit(code)


def damage_document(damage: Damage) -> dict[str, Any]:
    """Return a damaged place for programs."""
    return {**vars(damage), "path": damage.path.as_posix()}


def _describe(path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return what was found in a run; for one that can't be checked, the reason."""
    try:
        found = verify_run(path, progress=progress)
        return {
            "path": str(path),
            "sound": not found.damage,
            "damage": [damage_document(damage) for damage in found.damage],
            "torn": found.torn,
            "lost": [damage_document(damage) for damage in found.lost],
            "dropped": found.dropped,
            "dropped_events": found.dropped_events,
            "files": found.files,
            "bytes": found.bytes,
            "error": None,
            "exit_code": DamagedError.exit_code if found.damage else 0,
        }
    except (WandbkerasError, OSError) as error:
        return {"path": str(path), **failure(path, error)}


def _print(run: dict[str, Any]) -> None:
    if run["error"]:
        say(f"wandbkeras: {run['error']}", err=True)
        return
    path = run["path"]
    for damage in run["damage"]:
        place = f"{damage['size']} bytes at offset {damage['offset']}"
        say(f"{path}/{damage['path']}: {place}: {damage['reason']}")
    checked = f"{counted(run['files'], 'file')}, {human_size(run['bytes'])}"
    dropped = counts_text(run["dropped"], run["dropped_events"])
    notes = [
        *([f"{dropped} could not be recorded"] if dropped else []),
        *([f"{run['torn']} bytes of a last record that was not finished"] if run["torn"] else []),
        *([f"{counted(len(run['lost']), 'place')} lost earlier"] if run["lost"] else []),
    ]
    if run["sound"]:
        say("; ".join([f"{path}: sound: {checked}", *notes]))
    else:
        places = f"{path}: damaged: {counted(len(run['damage']), 'place')} in {checked}"
        say("; ".join([places, *notes, f"see `wandbkeras repair --dry-run {path}`"]))
