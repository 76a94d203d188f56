"""Whether a run was written to: told by what lies there, without reading it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from wandbkeras import Run
from wandbkeras.store.activity import activity
from wandbkeras.store.layout import Layout


def test_what_is_recorded_sealed_and_resumed_is_activity(start: Callable[..., Run]) -> None:
    """Each leaves other names, sizes or times; looking and reading leave none."""
    run = start(id="k3j9x2ab")
    layout = Layout(Path(run.dir or ""))
    seen = [activity(layout)]
    run.log({"loss": 1.0})
    seen.append(activity(layout))
    run.finish()
    seen.append(activity(layout))
    assert activity(layout) == seen[-1]
    again = start(id="k3j9x2ab", resume="must")
    seen.append(activity(layout))
    again.finish()
    seen.append(activity(layout))
    assert len(set(seen)) == len(seen)


def test_what_sync_leaves_is_none(start: Callable[..., Run]) -> None:
    """A receipt beside the records is no reason to look again."""
    run = start()
    run.finish()
    layout = Layout(Path(run.dir or ""))
    before = activity(layout)
    layout.receipts.mkdir()
    (layout.receipts / "receipt.json").write_text("{}")
    assert activity(layout) == before


def test_a_run_that_is_gone_has_none(start: Callable[..., Run]) -> None:
    """As a mount that vanished leaves it."""
    run = start()
    run.finish()
    layout = Layout(Path(run.dir or ""))
    assert activity(layout) != ()
    shutil.rmtree(layout.root)
    assert activity(layout) == ()
