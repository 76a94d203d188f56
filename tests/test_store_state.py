"""The writer's state, the sealed one and the one a reader folds are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wandbkeras
from tests.strategies import canonical
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import Row
from wandbkeras.store.seal import seal
from wandbkeras.store.state import Event, RunState, read_records

NAMES = st.sampled_from(["a", "b", "ab", "c.d", "e"])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.sampled_from(["x", [1, 2]])
)
ROWS = st.dictionaries(NAMES, VALUES, max_size=3)
LOG = st.tuples(st.just("log"), ROWS, st.none() | st.integers(0, 12), st.sampled_from([None, 0, 1]))
SUMMARY = st.tuples(st.just("summary"), NAMES, VALUES)
CONFIG = st.tuples(st.just("config"), NAMES, VALUES)
DELETE = st.tuples(st.just("delete"), st.sampled_from(["summary", "config"]), NAMES)
DEFINE = st.tuples(
    st.just("define"),
    st.sampled_from(["a", "b", "ab", "a*", "*"]),
    st.fixed_dictionaries(
        {},
        optional={
            "summary": st.lists(
                st.sampled_from(["min", "max", "mean", "first", "last", "none"]), max_size=3
            ).map(",".join),
            "step_metric": st.just("e"),
            "step_sync": st.booleans(),
            "overwrite": st.booleans(),
        },
    ),
)
SEAL = st.just(("seal",))
SEQUENCES = st.lists(LOG | LOG | LOG | SUMMARY | CONFIG | DELETE | DEFINE | SEAL, max_size=15)


def _do(run: wandbkeras.Run, action: tuple[Any, ...]) -> None:
    kind, *arguments = action
    if kind == "log":
        data, step, commit = arguments
        run.log(data, step=step, commit=None if commit is None else bool(commit))
    elif kind in ("summary", "config"):
        getattr(run, kind).update({arguments[0]: arguments[1]}, **_allowed(kind))
    elif kind == "delete":
        getattr(run, arguments[0]).pop(arguments[1], None)
    elif kind == "define":
        run.define_metric(arguments[0], **arguments[1])
    elif kind == "seal":
        assert run._writer is not None
        if run._writer._partial is not None:
            return  # a segment never ends within a row
        run._writer._rotate()
        layout = Layout(Path(run.dir or ""))
        segments = layout.segment_numbers(0, 0)
        seal(Disk(), layout, 0, 0, before=segments[-1], compact=False)


def _allowed(kind: str) -> dict[str, bool]:
    return {"allow_val_change": True} if kind == "config" else {}


def _state(state: RunState) -> Any:
    return canonical(json.loads(json.dumps(state.to_document(), sort_keys=True)))


@given(actions=SEQUENCES)
def test_a_reader_finds_the_summary_that_the_process_saw(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[Any, ...]]
) -> None:
    """Whatever was logged, set, defined and deleted, sealed in between or not, all states agree."""
    run = wandbkeras.init(dir=tmp_path_factory.mktemp("runs"))
    try:
        for action in actions:
            _do(run, action)
    finally:
        run.finish()
    assert run._writer is not None and run.dir is not None
    stored = StoredRun(run.dir)
    assert canonical(stored.summary) == canonical(dict(run.summary))
    assert canonical(stored.config) == canonical(dict(run.config))
    assert _state(stored.attempts[0].state) == _state(run._writer.state)
    assert stored.row_count == len(list(stored.rows())) == run._writer.state.rows


@given(actions=SEQUENCES)
def test_a_running_process_and_its_reader_agree_after_each_step(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[Any, ...]]
) -> None:
    """A second reader sees the same summary at once, but for a row that is still open."""
    run = wandbkeras.init(dir=tmp_path_factory.mktemp("runs"))
    try:
        for action in actions:
            _do(run, action)
            assert run.dir is not None
            stored = StoredRun(run.dir)
            if stored.settled_steps is None:
                assert canonical(stored.summary) == canonical(dict(run.summary))
    finally:
        run.finish()


def test_events_of_a_newer_version_are_passed_over() -> None:
    """An event type that this version does not know changes nothing but the time last seen."""
    state = RunState()
    state.apply(Event("hologram", 5.0, {"depth": 3}))
    assert state == RunState(metrics=state.metrics, last_seen=5.0)


def test_the_time_of_a_row_is_no_sign_of_life() -> None:
    """A user's own ``_timestamp`` makes a run neither dead nor immortal."""
    state = RunState()
    state.apply_event(Event("heartbeat", 100.0, {}))
    state.apply(Row(0, 1e12, 0.0, {"loss": 1}))
    assert (state.last_seen, state.last_row_timestamp) == (100.0, 1e12)


@pytest.mark.parametrize(
    "record", [["history"], ["event", "x"], ["event", 1, 2.0, {}], ["partial", 1, 2, 3]]
)
def test_a_record_of_another_shape_is_damage(record: list[Any]) -> None:
    """A sound frame with a record that makes no sense is refused, not guessed at."""
    with pytest.raises(ValueError, match="another shape"):
        list(read_records([record], 0))
