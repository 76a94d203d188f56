"""``define_metric`` as a script uses it; the rules are in ``test_store_metrics.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import wandbkeras
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def _rows(run: StoredRun) -> list[dict[str, Any]]:
    return [dict(row.values) for row in run.rows()]


def test_aggregates_appear_in_the_summary(start: Start, stored: Stored) -> None:
    """Every aggregate that was asked for, of a name or of a prefix."""
    run = start()
    run.define_metric("loss", summary="min, max,MEAN")
    wandbkeras.define_metric("val*", summary="first,last")
    run.define_metric("hidden", summary="none")
    for value in (3, 1, 2):
        run.log({"loss": value, "val.loss": value, "hidden": value, "plain": value})
    expected = {
        "loss": {"min": 1, "max": 3, "mean": 2.0},
        "val.loss": {"first": 3, "last": 2},
        "plain": 2,
    }
    assert dict(run.summary) == stored(run).summary == expected
    run.finish()
    assert stored(run).summary == expected


def test_a_summary_set_by_hand_goes_before_an_aggregate(start: Start, stored: Stored) -> None:
    """From there on the last value logged counts, as in wandb."""
    run = start()
    run.define_metric("loss", summary="min")
    run.log({"loss": 1})
    run.summary["loss"] = 77
    assert run.summary["loss"] == 77
    run.log({"loss": 5})
    run.finish()
    assert stored(run).summary == dict(run.summary) == {"loss": 5}


def test_rows_carry_their_step_metric(start: Start, stored: Stored) -> None:
    """A row without its x-axis gets the latest value of it, however the row is ended."""
    run = start()
    run.define_metric("epoch")
    run.define_metric("loss", step_metric="epoch")
    run.log({"loss": 1})
    run.log({"epoch": 3})
    run.log({"loss": 2})
    run.log({"loss": 3}, step=10)
    run.log({"epoch": 7}, step=11)
    run.log({"loss": 4}, step=12)
    run.log({"loss": 5}, step=13, commit=True)
    run.log({"loss": 6}, step=20)
    run.log({"epoch": 8}, commit=False)
    run.log({"loss": 7})
    run.log({"other": 1})
    run.log({"loss": 8}, commit=False)
    run.finish()
    assert _rows(stored(run)) == [
        {"loss": 1, "epoch": 0},
        {"epoch": 3},
        {"loss": 2, "epoch": 3},
        {"loss": 3, "epoch": 3},
        {"epoch": 7},
        {"loss": 4, "epoch": 7},
        {"loss": 5, "epoch": 7},
        {"loss": 7, "epoch": 8},
        {"other": 1},
        {"loss": 8, "epoch": 8},
    ]


def test_a_step_metric_may_be_left_alone(start: Start, stored: Stored) -> None:
    """``step_sync=False`` only says against what a metric is drawn."""
    run = start()
    run.define_metric("loss", step_metric="epoch", step_sync=False)
    run.log({"epoch": 3})
    run.log({"loss": 1})
    assert _rows(stored(run)) == [{"epoch": 3}, {"loss": 1}]
    (definition,) = stored(run).folded.metrics.all()
    assert (definition.step_metric, definition.step_sync) == ("epoch", False)


def test_a_definition_is_recorded_whole(start: Start, stored: Stored) -> None:
    """What was asked for is there for W&B when the run is synced."""
    run = start()
    run.define_metric("acc", hidden=True, summary="max", goal="maximize")
    run.define_metric("acc", summary="last", goal="maximize", overwrite=True)
    run.finish()
    (definition,) = stored(run).folded.metrics.all()
    assert definition.to_body() == {
        "name": "acc",
        "step_metric": None,
        "step_sync": False,
        "hidden": False,
        "summary": ["last"],
        "goal": "maximize",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "received ''; expected a name or a prefix"),
        ({"name": 5}, "received 5"),
        ({"name": "a*b"}, r"received 'a\*b'"),
        ({"name": "a", "summary": "best"}, r"received summary \['best'\]; expected any of min"),
        ({"name": "a", "summary": 5}, "received summary 5"),
        ({"name": "a", "goal": "up"}, "received goal 'up'; expected minimize, maximize"),
        ({"name": "a", "step_metric": 5}, "received step_metric 5"),
    ],
)
def test_a_wrong_argument_is_named(start: Start, arguments: dict[str, Any], message: str) -> None:
    """What W&B would refuse is refused at once."""
    with pytest.raises(UsageError, match=f"define_metric: {message}"):
        start().define_metric(**arguments)
