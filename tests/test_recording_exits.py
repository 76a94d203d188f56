"""How a script ends is how its run ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wandbkeras import Run
from wandbkeras.recording.exits import exit_code_of
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun

_BEGIN = """
import atexit, os, signal, sys, wandbkeras
run = wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab")
run.log({"a": 1})
"""


@pytest.mark.parametrize(
    ("end", "state", "code"),
    [
        pytest.param("pass", "finished", 0, id="at its last line"),
        pytest.param("raise ValueError('no')", "failed", 1, id="by an exception"),
        pytest.param("sys.exit(3)", "failed", 3, id="by sys.exit(3)"),
        pytest.param("sys.exit('message')", "failed", 1, id="by sys.exit with a message"),
        pytest.param("sys.exit()", "finished", 0, id="by sys.exit()"),
        pytest.param("raise KeyboardInterrupt", "failed", 130, id="by Ctrl-C"),
        pytest.param("run.finish()\nsys.exit(3)", "finished", 0, id="after finish"),
        pytest.param("os._exit(0)", "crashed", None, id="without a word"),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", "preempted", None, id="by SIGTERM"),
        pytest.param(
            "sys.excepthook(ValueError, ValueError(), None)\nsys.exit(4)",
            "failed",
            4,
            id="by the last of several ways",
        ),
        pytest.param(
            "def before(kind, error, traceback): print('hooked')\n"
            "sys.excepthook, theirs = before, sys.excepthook\n"
            "sys.excepthook = lambda *a: (before(*a), theirs(*a))\n"
            "raise ValueError",
            "failed",
            1,
            id="with another hook beside ours",
        ),
    ],
)
def test_the_end_of_a_script_is_recorded(
    tmp_path: Path, end: str, state: str, code: int | None
) -> None:
    """A run that was not finished ends as its process does, with its code if it has one."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + end, str(tmp_path)], capture_output=True, text=True
    )
    run = Store(tmp_path).run("k3j9x2ab")
    assert (run.state, run.exit_code) == (state, code), done.stderr
    assert [row.values for row in run.rows()] == [{"a": 1}]
    if code is not None and "finish()" not in end and code != 130:
        assert done.returncode == code
    if end.splitlines()[-1].startswith("raise"):
        assert "Traceback" in done.stderr
        assert run.traceback is not None
        assert run.traceback.splitlines()[-1] in done.stderr.splitlines()
    else:
        assert run.traceback is None


def test_the_traceback_of_a_with_block_is_kept(
    start: Callable[..., Run], stored: Callable[[Run], StoredRun]
) -> None:
    """A run as a context keeps the exception that leaves it, the end of it if it is long."""
    run = start()
    with pytest.raises(ValueError), run:
        raise ValueError("why \udcff" + 100_000 * "x" + "end")
    found = stored(run)
    assert found.state == "failed"
    assert found.traceback is not None
    assert found.traceback.endswith("xend\n")
    assert len(found.traceback) == 65_536


def test_a_key_in_a_traceback_is_masked(
    start: Callable[..., Run],
    stored: Callable[[Run], StoredRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the console hides is not told by the exception either."""
    monkeypatch.setenv("MY_API_KEY", "sesame-open")
    run = start()
    with pytest.raises(ValueError), run:
        raise ValueError("sesame-open is no key")
    assert str(stored(run).traceback).endswith("ValueError: *** is no key\n")


def test_a_run_that_goes_on_well_has_no_traceback(
    start: Callable[..., Run], stored: Callable[[Run], StoredRun]
) -> None:
    """What counts is how the last attempt ended."""
    run = start(id="k3j9x2ab")
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    assert "KeyboardInterrupt" in str(stored(run).traceback)
    start(id="k3j9x2ab", resume="must").finish()
    assert stored(run).traceback is None


def test_an_exit_code_is_pythons_own() -> None:
    """The code of an exception is the one with which Python ends on it."""
    assert exit_code_of(None) == 0
    assert exit_code_of(SystemExit(None)) == 0
    assert exit_code_of(SystemExit(7)) == 7
    assert exit_code_of(SystemExit("text")) == 1
    assert exit_code_of(ValueError()) == 1
    assert exit_code_of(KeyboardInterrupt()) == 130
