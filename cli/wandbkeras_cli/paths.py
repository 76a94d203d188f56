"""The PATHS of a command: stores and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import NotFoundError
from wandbkeras.store.reader import Store
from wandbkeras.store.source import is_run

state_dir_option: Callable[[Any], Any] = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where sync keeps the receipts, if not in the runs (for a read-only store).",
)


def run_directories(paths: Sequence[Path]) -> list[Path]:
    """Return the run directories that ``paths`` name, each once.

    A path is a run, or a store with runs in it; anything else is a NotFoundError.
    """
    found: dict[Path, None] = {}
    for path in paths:
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
