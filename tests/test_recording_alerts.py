"""``run.alert``: what is recorded of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import wandb

import wandbkeras
from wandbkeras import Run
from wandbkeras.errors import UsageError, WandbkerasError
from wandbkeras.store.reader import StoredRun


def test_alerts_are_recorded_with_their_times(
    start: Callable[..., Run], stored: Callable[[Run], StoredRun]
) -> None:
    """Level and waiting time have wandb's defaults and take its types; each alert is kept."""
    run = start()
    run.alert("Loss is NaN", "at step 7")
    run.alert("Loss is NaN", "é\nagain", "ERROR", timedelta(minutes=5))
    wandbkeras.alert(title="Low", text="accuracy", level=wandb.AlertLevel.WARN, wait_duration=0)
    before = stored(run).alerts
    run.finish()
    alerts = stored(run).alerts
    assert alerts == before
    assert [(a.title, a.text, a.level, a.wait_duration) for a in alerts] == [
        ("Loss is NaN", "at step 7", "INFO", 60.0),
        ("Loss is NaN", "é\nagain", "ERROR", 300.0),
        ("Low", "accuracy", "WARN", 0.0),
    ]
    times = [a.timestamp for a in alerts]
    assert run_began(stored(run)) <= times[0] <= times[1] <= times[2]


def run_began(run: StoredRun) -> float:
    return run.info.created


@pytest.mark.parametrize(
    "arguments",
    [
        (7, "text"),
        ("title", None),
        ("title", "text", "FATAL"),
        ("title", "text", 3),
        ("title", "text", "INFO", "soon"),
        ("title", "text", "INFO", -1),
        ("title", "text", "INFO", float("nan")),
        ("title", "text", "INFO", True),
    ],
)
def test_a_wrong_argument_is_refused(arguments: Any, start: Callable[..., Run]) -> None:
    """Nothing is recorded of a call that W&B would not have taken; a disabled run checks too."""
    for mode in ("offline", "disabled"):
        run = start(mode=mode)
        with pytest.raises(UsageError, match="alert: received"):
            run.alert(*arguments)
        run.finish()


def test_a_finished_run_takes_no_alert(start: Callable[..., Run]) -> None:
    """An alert after ``finish`` would be lost, so it is an error, as a row is."""
    run = start()
    run.finish()
    with pytest.raises(WandbkerasError, match="is finished"):
        run.alert("title", "text")
