"""The PATHS of a command, stores and runs, and the RUN of one."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import NotFoundError, WandbkerasError
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.selection import criterion, is_selected
from wandbkeras.store.source import is_run

state_dir_option: Callable[[Any], Any] = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where sync keeps the receipts, if not in the runs (for a read-only store).",
)


def one_run(command: Any) -> Any:
    """Add the RUN of a command on one run, and ``--store``: what :func:`find_run` takes."""
    command = click.option(
        "--store",
        type=click.Path(path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Where to look for a run by its id.",
    )(command)
    return click.argument("run")(command)


def find_run(run: str, store: Path) -> StoredRun:
    """Return a run by its directory, or by its id in a store."""
    path = Path(run)
    if is_run(path):
        return StoredRun(path)
    if path.exists() or "/" in run:
        raise NotFoundError(f"{path}: not a run: expected a run directory or a run id")
    return Store(store).run(run)


def selection_options(command: Any) -> Any:
    """Add ``--include`` and ``--exclude`` to a command on runs."""
    for name, text in (
        ("exclude", "Without the runs for which this holds."),
        (
            "include",
            "Only the runs for which this holds: id=, name=, tag=, state= and a pattern, age>7d, "
            "age<12h, or a pattern of id or name. Repeated, one of each kind must hold.",
        ),
    ):
        command = click.option(f"--{name}", multiple=True, metavar="WHAT", help=text)(command)
    return command


def selected(paths: Sequence[Path], include: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    """Return those of the run directories that are meant; one that can't be read is kept."""
    wanted, unwanted = [*map(criterion, include)], [*map(criterion, exclude)]
    if not wanted and not unwanted:
        return list(paths)
    found = []
    for path in paths:
        with suppress(WandbkerasError, OSError):  # the command itself will say it
            if not is_selected(StoredRun(path, strict=True), wanted, unwanted):
                continue
        found.append(path)
    return found


def run_directories(paths: Sequence[Path]) -> list[Path]:
    """Return the run directories that ``paths`` name, each once.

    A path is a run, a store with runs in it, or a pattern of such; anything else is a
    NotFoundError.
    """
    found: dict[Path, None] = {}
    for path in itertools.chain.from_iterable(map(_expanded, paths)):
        if is_run(path):
            found[path] = None
            continue
        if path.is_file():
            raise NotFoundError(f"{path}: a file: expected a store (a directory of runs) or a run")
        runs = Store(path).paths()
        if not runs:
            raise NotFoundError(
                f"{path}: no run in it (expected a store with run-*/run.json, or a run)"
            )
        found.update(dict.fromkeys(runs))
    return list(found)


def _expanded(path: Path) -> list[Path]:
    """Return what a pattern names that no shell has expanded; any other path as it is."""
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path)))]  # noqa: PTH207
    if not found:
        raise NotFoundError(f"{path}: nothing has such a name: expected a store or a run")
    named = [name for name in found if name.is_dir()]
    return named or found
