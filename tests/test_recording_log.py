"""``Run.log``: wandb's steps, as measured with wandb 0.31."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wandbkeras
from wandbkeras.errors import UnsupportedValueError, UsageError, WandbkerasError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def _rows(run: StoredRun) -> list[tuple[int, dict[str, Any]]]:
    return [(row.step, dict(row.values)) for row in run.rows()]


def test_each_log_is_the_next_step(start: Start, stored: Stored) -> None:
    """Without a step, a call is a row, and steps count from 0."""
    run = start()
    for value in (3, 2, 1):
        assert run.step == 3 - value
        run.log({"loss": value})
    assert _rows(stored(run)) == [(0, {"loss": 3}), (1, {"loss": 2}), (2, {"loss": 1})]


def test_a_row_stays_open_until_it_is_committed(start: Start, stored: Stored) -> None:
    """``commit=False`` adds to the row of the next call, whose values win."""
    run = start()
    run.log({"a": 1, "b": 1}, commit=False)
    run.log({"b": 2}, commit=False)
    assert run.step == 0
    run.log({"c": 3})
    assert run.step == 1
    assert _rows(stored(run)) == [(0, {"a": 1, "b": 2, "c": 3})]


def test_an_explicit_step_stays_open_for_more(start: Start, stored: Stored) -> None:
    """Calls of one step are one row; a call without a step ends it and goes on after it."""
    run = start()
    run.log({"e": 1}, step=10)
    run.log({"f": 1}, step=10)
    run.log({"g": 1}, step=10, commit=True)
    assert run.step == 11
    run.log({"i": 1})
    run.log({"j": 1}, step=20)
    assert run.step == 20
    run.log({"k": 1})
    assert run.step == 21
    run.log({"l": 1}, step=30)
    run.log({"m": 1}, step=40)
    run.finish()
    assert _rows(stored(run)) == [
        (10, {"e": 1, "f": 1, "g": 1}),
        (11, {"i": 1}),
        (20, {"j": 1, "k": 1}),
        (30, {"l": 1}),
        (40, {"m": 1}),
    ]


def test_an_empty_log_is_a_row_too(start: Start, stored: Stored) -> None:
    """``log({})`` commits what is open, or writes the step's time alone, and advances."""
    run = start()
    run.log({})
    run.log({"a": 1}, commit=False)
    run.log({})
    run.log({}, step=9, commit=True)
    run.log({}, step=20)
    run.log({"b": 1})
    run.finish()
    assert _rows(stored(run)) == [(0, {}), (1, {"a": 1}), (9, {}), (20, {"b": 1})]


def test_a_step_that_goes_back_is_counted_and_said_once(
    start: Start, stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of earlier steps are not recorded; the run says how many were lost."""
    run = start()
    run.log({"a": 1}, step=10, commit=True)
    for step in (0, 3, 10):
        run.log({"lost": 1}, step=step)
    run.log({}, step=5)
    run.log({"b": 1})
    assert _rows(stored(run)) == [(10, {"a": 1}), (11, {"b": 1})]
    assert stored(run).folded.dropped == 3
    run.finish()
    assert stored(run).folded.dropped == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "received step 0, the run is at step 11: steps must not go back" in line


@pytest.mark.parametrize("step", [np.int64(7), np.array(7), 7])
def test_a_step_is_any_integer(start: Start, stored: Stored, step: Any) -> None:
    """NumPy integers count."""
    run = start()
    run.log({"a": 1}, step=step, commit=True)
    assert _rows(stored(run)) == [(7, {"a": 1})]


@pytest.mark.parametrize("step", [1.0, "1", -1, 2**62, [1], np.float32(1)])
def test_a_step_that_is_none_is_refused(start: Start, stored: Stored, step: Any) -> None:
    """The message says what was received, and nothing is recorded."""
    run = start()
    with pytest.raises(UsageError, match="log: received step"):
        run.log({"a": 1}, step=step)
    assert _rows(stored(run)) == []
    assert run.step == 0


def test_the_largest_step_is_a_step(start: Start, stored: Stored) -> None:
    """Steps go up to the largest 64-bit integer."""
    run = start()
    run.log({"a": 1}, step=2**62 - 1)
    run.finish()
    assert _rows(stored(run)) == [(2**62 - 1, {"a": 1})]


@pytest.mark.parametrize("data", [None, [("a", 1)], "loss", 3])
def test_data_is_a_dict(start: Start, data: Any) -> None:
    """Anything else is refused by its type."""
    with pytest.raises(UnsupportedValueError, match=r"log: received \w+; expected a dict"):
        start().log(data)


def test_nested_names_are_joined_by_dots(start: Start, stored: Stored) -> None:
    """A dict in a dict is a metric with a dotted name, at any depth."""
    run = start()
    run.log({"val": {"loss": 1, "per": {"class": {"cat": 0.5}}}, "empty": {}})
    assert _rows(stored(run)) == [(0, {"val.loss": 1, "val.per.class.cat": 0.5})]


def test_a_row_carries_when_it_was_logged(start: Start, stored: Stored) -> None:
    """``_timestamp`` is the wall clock, ``_runtime`` the seconds since the start, rising."""
    before = time.time()
    run = start()
    for _ in range(3):
        run.log({"a": 1})
    after = time.time()
    rows = list(stored(run).rows())
    assert before <= rows[0].timestamp <= rows[1].timestamp <= rows[2].timestamp <= after
    assert 0 < rows[0].runtime < rows[1].runtime < rows[2].runtime <= after - before + 1


@pytest.mark.parametrize("moment", [1.5, 1795412700, 4e9])
def test_a_row_may_bring_its_own_timestamp(start: Start, stored: Stored, moment: float) -> None:
    """A ``_timestamp`` in the row is its time, not a metric."""
    run = start()
    run.log({"a": 1, "_timestamp": moment})
    (row,) = stored(run).rows()
    assert (row.timestamp, row.values) == (moment, {"a": 1})
    assert stored(run).state == "running"


@pytest.mark.parametrize("moment", ["now", None, True, float("nan"), float("inf")])
def test_a_timestamp_is_a_number(start: Start, moment: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(UnsupportedValueError, match="received _timestamp"):
        start().log({"a": 1, "_timestamp": moment})


@pytest.mark.parametrize("name", ["_step", "_runtime", "_attempt", "_null"])
def test_the_stores_own_names_are_refused(start: Start, stored: Stored, name: str) -> None:
    """A metric that would be taken for a column of the store is named and not recorded."""
    run = start()
    with pytest.raises(UnsupportedValueError, match=f"{name!r} is the store's own name"):
        run.log({name: 1})
    assert _rows(stored(run)) == []


def test_threads_log_side_by_side(start: Start, stored: Stored) -> None:
    """Every row of every thread is recorded whole, under a step of its own."""
    run = start()

    def work(number: int) -> None:
        for i in range(200):
            run.log({"thread": number, "i": i})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    rows = _rows(stored(run))
    assert [step for step, _ in rows] == list(range(800))
    for number in range(4):
        assert [v["i"] for _, v in rows if v["thread"] == number] == list(range(200))


def test_the_callers_data_is_left_as_it_was(start: Start, stored: Stored) -> None:
    """Logging changes no argument, and later changes of an argument change no row."""
    run = start()
    weights = [1.0, 2.0]
    data = {"w": weights, "_timestamp": 5.0}
    run.log(data)
    weights.append(3.0)
    assert data == {"w": weights, "_timestamp": 5.0}
    assert run.summary["w"] == [1.0, 2.0]
    assert _rows(stored(run)) == [(0, {"w": [1.0, 2.0]})]


def test_nothing_is_logged_after_the_end(start: Start) -> None:
    """A finished run says so for each way to change it."""
    run = start()
    run.finish()
    for change in (
        lambda: run.log({"a": 1}),
        lambda: run.summary.update({"a": 1}),
        lambda: run.config.update({"a": 1}),
        lambda: run.define_metric("a"),
        lambda: run.log_artifact(__file__),
    ):
        with pytest.raises(WandbkerasError, match=f"run {run.id} is finished"):
            change()
