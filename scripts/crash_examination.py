"""What a second process finds of a run whose writer was killed, and a third going on with it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # noqa: F401  pyarrow imports it when it first reads a file

import wandbkeras
from scripts.crash_writers import CONFIG, RUN_ID, Acknowledged, values
from wandbkeras.errors import NotFoundError
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.verify import verify_run

ROWS_AFTER = 3


@dataclass
class Found:
    """What a process that opened the run found."""

    rows: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)


def examine(
    store: Path,
    said: Acknowledged,
    exact: bool = True,
    more: int = 1,
    skipped: Collection[int] = (),
) -> dict[str, Any]:
    """Compare the run with what was acknowledged, and verify every byte of it.

    ``more`` rows may be there that were being written, at the steps that follow; ``skipped`` are
    steps that may be missing. Returns the members of a :class:`Found`.
    """
    found = Found()
    try:
        run = Store(store).run(RUN_ID)
    except NotFoundError:
        if said.begun:
            found.faults.append("there is no run")
        found.lost = said.rows
        return vars(found)
    found.faults += [f"damage: {line}" for line in (*run.damage, *verify_run(run.path).damage)]
    _compare_rows(run, said, exact, more, skipped, found)
    if len(run.artifacts) < said.artifacts:
        found.faults.append(f"{said.artifacts} artifacts were logged, {len(run.artifacts)} found")
    for version in run.artifacts:
        for file in version.files.values():
            run.blob(file.sha256)  # it is there; verify has compared its bytes
    if said.begun and run.config != CONFIG:
        found.faults.append(f"the config is {run.config}")
    if run.state not in (("finished",) if said.finished else ("crashed", "finished")):
        found.faults.append(f"the run is {run.state}")
    return vars(found)


def _compare_rows(
    run: StoredRun,
    said: Acknowledged,
    exact: bool,
    more: int,
    skipped: Collection[int],
    found: Found,
) -> None:
    table = run.history()
    steps = table["_step"].to_numpy()
    found.rows = len(steps)
    end = int(steps[-1]) + 1 if len(steps) else 0
    missing = np.setdiff1d(np.arange(max(end, said.rows)), [*steps, *skipped])
    found.lost = len(missing)
    if end > said.rows + more or len(np.unique(steps)) != len(steps):
        found.faults.append(f"rows that nobody logged: {said.rows} were, {len(steps)} up to {end}")
    if exact and len(steps):
        wrong = (table["n"].to_numpy() != steps) | (table["loss"].to_numpy() != 1 / (steps + 1))
        found.lost += int(wrong.sum())
    if run.row_count != len(steps):
        found.faults.append(f"the run counts {run.row_count} rows, its history {len(steps)}")


def resume(store: Path) -> int:
    """Go on with the run, as a script that is started again does; return its rows then."""
    run = wandbkeras.init(dir=store, id=RUN_ID, resume="allow", config=CONFIG)
    for _ in range(ROWS_AFTER):
        run.log(values(run.step))
    run.finish()
    return run.step
