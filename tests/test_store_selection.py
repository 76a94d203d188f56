"""Which runs are meant: each criterion, and how several go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wandbkeras import Run
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.selection import age_s, criterion, duration_s, is_selected


@pytest.fixture
def run(start: Callable[..., Run]) -> StoredRun:
    """A failed run, some moments old."""
    run = start(id="k3j9x2ab", name="first [a]", tags=["baseline", "cnn"])
    run.log({"loss": 1.0})
    run.finish(3)
    return StoredRun(Path(run.dir or ""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k3j9x2ab", True), ("k3j*", True), ("first*", True), ("second*", False), ("K3J*", False),
        ("id=k3j*", True), ("id=first*", False), ("name=first*", True), ("name=k3j*", False),
        ("tag=cnn", True), ("tag=cn", False), ("state=failed", True), ("state=f*", True),
        ("state=finished", False), ("age<1h", True), ("age>1h", False), ("age>0s", True),
    ],
)  # fmt: skip
def test_a_criterion_looks_at_one_thing(text: str, expected: bool, run: StoredRun) -> None:
    """Patterns are case sensitive and are of the whole text; a bare one is of id or name."""
    assert criterion(text).holds(run) is expected


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], True),
        (["tag=cnn", "tag=rnn"], [], True),
        (["tag=cnn", "state=finished"], [], False),
        (["tag=cnn", "state=failed"], [], True),
        ([], ["tag=cnn", "state=finished"], False),
        (["tag=cnn"], ["age>1h"], True),
    ],
)
def test_criteria_go_together(
    include: list[str], exclude: list[str], expected: bool, run: StoredRun
) -> None:
    """Of one kind any holds, of several kinds one each; one exclusion is enough."""
    wanted, unwanted = [*map(criterion, include)], [*map(criterion, exclude)]
    assert is_selected(run, wanted, unwanted) is expected


def test_the_age_counts_from_the_last_record(run: StoredRun) -> None:
    """A run that was made long ago and went on is young."""
    assert 0 <= age_s(run) < 600


@pytest.mark.parametrize("text", ["", "tags=a", "state<7d", "age>7", "age>d", "age=7d", "id="])
def test_what_can_not_be_told_is_refused(text: str) -> None:
    """With what was received and what is expected."""
    with pytest.raises(UsageError, match="expected"):
        criterion(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("2m", 120), ("1.5h", 5400), ("2w", 1209600)]
)
def test_durations(text: str, seconds: float) -> None:
    """Seconds, minutes, hours, weeks; days are in the example."""
    assert duration_s(text) == seconds
