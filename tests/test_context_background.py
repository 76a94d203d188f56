"""A thread beside a training: whatever happens to it, the training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from wandbkeras.context import background
from wandbkeras.context.background import Background


@pytest.fixture
def reported() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def report(reported: list[tuple[str, str]]) -> Callable[[str, str], None]:
    return lambda what, reason: reported.append((what, reason))


def test_work_that_fails_is_said_and_reported_once(
    reported: list[tuple[str, str]],
    report: Callable[[str, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on standard error, one report, and waiting for it is no error."""
    work = Background("environment", lambda: {}["x"], report)
    work.wait()
    work.wait()
    assert reported == [("environment", "KeyError: 'x'")]
    assert capsys.readouterr().err == (
        "wandbkeras: the environment is not recorded: KeyError: 'x'\n"
    )


def test_work_that_takes_too_long_is_given_up(
    reported: list[tuple[str, str]],
    report: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of a training waits only so long for a file system that does not answer."""
    monkeypatch.setattr(background, "PATIENCE_S", 0.01)
    released = threading.Event()

    def hang() -> None:
        released.wait(30)

    work = Background("environment", hang, report)
    work.wait()
    released.set()
    assert reported == [("environment", "it took more than 0 s")]


def test_a_job_without_threads_trains_all_the_same(
    reported: list[tuple[str, str]],
    report: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that can't be started costs what it would have recorded."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    Background("system metrics", lambda: None, report).wait()
    assert reported == [("system metrics", "can't start new thread")]
