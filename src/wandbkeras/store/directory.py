"""A store: a directory of runs, each found by what lies in it, and by its id."""

from __future__ import annotations

import os
from pathlib import Path

from wandbkeras.errors import DamagedError, NotFoundError
from wandbkeras.store.layout import is_named_for
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.source import is_run


class Store:
    """A directory of runs."""

    def __init__(self, path: Path | str = "runs") -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise NotFoundError(
                f"{self.path}: no such directory: expected a store (a directory of runs) or a run"
            )

    def paths(self) -> list[Path]:
        """Return the run directories, oldest first."""
        with os.scandir(self.path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
        return [path for path in map(self.path.joinpath, names) if is_run(path)]

    def runs(self) -> list[StoredRun]:
        """Return the runs, oldest first; DamagedError if one can't be opened at all."""
        return [StoredRun(path) for path in self.paths()]

    def run(self, run_id: str) -> StoredRun:
        """Return the run of this id, also from a renamed directory; NotFoundError if there is none.

        Directories that can't be read are passed over, unless they have the run's name.
        """
        paths = self.paths()
        named = [path for path in paths if is_named_for(path.name, run_id)]
        for path in (*named, *(path for path in paths if path not in named)):
            try:
                run = StoredRun(path)
            except DamagedError:
                if path in named:
                    raise
                continue
            if run.info.id == run_id:
                return run
        raise NotFoundError(f"{self.path}: no run with id {run_id!r}")
