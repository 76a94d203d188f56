"""``wandbkeras export``: runs in a form that other tools take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wandbkeras.errors import WandbkerasError, gravest
from wandbkeras.store.wording import counted
from wandbkeras_cli.output import failure, json_option, print_json, say
from wandbkeras_cli.paths import run_directories, selected, selection_options

if TYPE_CHECKING:
    from wandbkeras.sync.export import Export


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@selection_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["wandb"]),
    required=True,
    help="wandb: the directory that wandb leaves offline, for plain `wandb sync`.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the directories are put (default: here).",
)
@json_option
def export(
    paths: tuple[Path, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    form: str,
    output: Path,
    as_json: bool,
) -> None:
    """Write the runs in PATHS (stores, runs or patterns) for another tool.

    Each becomes a directory offline-run-<time>-<id>, with all of its files: the run may go, but the
    directory must stay where it is until it is synced. Changes nothing of the run, needs no
    network.

    \b
    Example:
      wandbkeras export --format wandb runs/run-20261123_054500-k3j9x2ab -o exported
      wandb sync exported/offline-run-20261123_054500-k3j9x2ab
    """
    described = []
    for path in selected(run_directories(paths), include, exclude):
        described.append(_describe(path, output))
        _print(described[-1], as_json=as_json)
    code = gravest(run.pop("exit_code") for run in described)
    if as_json:
        print_json({"runs": described, "exit_code": code})
    click.get_current_context().exit(code)


def _describe(path: Path, output: Path) -> dict[str, Any]:
    """Export a run and return what became of it; for one that can't be read, the reason."""
    # Its modules know wandb, which takes a second to import.
    from wandbkeras.sync.export import export_run

    unknown: dict[str, Any] = {"path": str(path), "run_id": None, "directories": []}
    try:
        return _document(export_run(path, output))
    except (WandbkerasError, OSError) as error:
        return {**unknown, **failure(path, error)}


def _document(done: Export) -> dict[str, Any]:
    return {
        **vars(done),
        "path": str(done.path),
        "directories": list(map(str, done.directories)),
        "error": None,
        "exit_code": 0,
    }


def _print(run: dict[str, Any], *, as_json: bool) -> None:
    if run["error"]:
        say(f"wandbkeras: {run['error']}", err=True)
        return
    for line in run["not_sent"]:
        say(f"{run['run_id']}: left out: {line}", err=True)
    if not as_json:
        held = ", ".join(
            [
                counted(run["rows"], "row"),
                counted(run["artifacts"], "artifact version"),
                counted(run["files"], "file"),
            ]
        )
        places = " and, after that, ".join(run["directories"])
        say(f"{run['run_id']}: {held}: now `wandb sync` {places}")
