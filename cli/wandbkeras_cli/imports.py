"""``wandbkeras import``: what wandb recorded offline, as runs of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import DamagedError, WandbkerasError, gravest
from wandbkeras.store.wording import counted
from wandbkeras_cli.output import failure, json_option, print_json, say
from wandbkeras_cli.progress import Progress


@click.command("import")
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "store",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="The store that the runs are put into.",
)
@json_option
def import_(directories: tuple[Path, ...], store: Path, as_json: bool) -> None:
    """Make runs of what wandb left offline: DIRECTORIES offline-run-…, or wandb with such in it.

    Takes over all that is in the log, files, and artifacts that are still where wandb staged them.
    Exit status 4 means that something could not be taken over: it is said, and noted in the run.
    Changes nothing of the source, needs no network.

    \b
    Example:
      wandbkeras import wandb -o runs
      wandbkeras sync runs
    """
    found = list(_expanded(directories))
    progress = Progress(len(found))
    described = []
    for run in progress.over(_describe(path, store, progress) for path in found):
        described.append(run)
        _print(run, as_json=as_json)
    code = gravest(run.pop("exit_code") for run in described)
    if as_json:
        print_json({"runs": described, "exit_code": code})
    click.get_current_context().exit(code)


def _expanded(directories: Sequence[Path]) -> Iterator[Path]:
    """Yield the directories of single runs."""
    from wandbkeras.sync.importing import is_wandb_directory

    for path in directories:
        inner = sorted(filter(is_wandb_directory, path.iterdir())) if path.is_dir() else []
        # `latest-run` is a link to one of them.
        yield from [run for run in inner if not run.is_symlink()] or [path]


def _describe(path: Path, store: Path, progress: Progress) -> dict[str, Any]:
    """Import a directory and return what became of it; or the reason why nothing did."""
    from wandbkeras.sync.importing import import_run

    unknown: dict[str, Any] = {"source": str(path), "path": None, "run_id": None, "left_out": []}
    progress.say(f"reading {path}")
    try:
        done = import_run(path, store)
    except (WandbkerasError, OSError) as error:
        return {**unknown, **failure(path, error)}
    return {
        **vars(done),
        "source": str(done.source),
        "path": str(done.path),
        "left_out": list(done.left_out),
        "error": None,
        "exit_code": DamagedError.exit_code if done.left_out else 0,
    }


def _print(run: dict[str, Any], *, as_json: bool) -> None:
    if run["error"]:
        say(f"wandbkeras: {run['error']}", err=True)
        return
    for line in run["left_out"]:
        say(f"{run['run_id']}: not taken over: {line}", err=True)
    if as_json:
        return
    kept = ", ".join(f"{count} {kind}" for kind, count in run["kept"].items())
    notes = [
        ", ".join(
            [
                counted(run["rows"], "row"),
                counted(run["artifacts"], "artifact version"),
                counted(run["files"], "file"),
            ]
        ),
        *([f"kept as they were: {kept}"] if kept else []),
        *([f"{run['torn']} bytes of a last record that was not finished"] if run["torn"] else []),
    ]
    say(f"{run['run_id']}: imported to {run['path']}: {'; '.join(notes)}")
