"""Whether a store may hold a run of an id, by names and ``run.json`` alone.

Without pyarrow, which takes longer to import than a new run takes to begin.
"""

from __future__ import annotations

import os
from pathlib import Path

from wandbkeras.errors import WandbkerasError
from wandbkeras.store.layout import is_named_for
from wandbkeras.store.schema import read_info


def may_hold_run(store: Path, run_id: str) -> bool:
    """Return False only where :meth:`wandbkeras.Store.run` finds no run of this id."""
    with os.scandir(store) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    if any(is_named_for(name, run_id) for name in names):
        return True
    return any(_may_be(store / name, run_id) for name in names)


def _may_be(directory: Path, run_id: str) -> bool:
    """Whether a directory of another name may be the run; where it takes more to tell: yes."""
    try:
        return read_info(directory / "run.json").id == run_id
    except FileNotFoundError:
        return (directory / "attempts").is_dir()
    except (OSError, WandbkerasError):
        return True
