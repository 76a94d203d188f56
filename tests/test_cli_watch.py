"""``sync --watch`` as a login node runs it: lines, JSON, a table, and its end by a signal."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import COMMAND, command, held, on_a_terminal, plain, printed, until
from wandbkeras import Run

QUICK = ("--watch", "--interval", "0.1")


@pytest.fixture
def env(wandb_server: LoopbackServer, tmp_path: Path) -> dict[str, str]:
    return wandb_server.environ(tmp_path / "home")


def watching(*arguments: str | Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, "sync", *map(str, arguments), *QUICK],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_in_a_pipe_an_event_is_a_line(
    store: Path, start: Callable[..., Run], env: dict[str, str], wandb_server: LoopbackServer
) -> None:
    """A store that is empty at first, a run that comes, a second watcher, and SIGTERM at last."""
    store.mkdir()
    with watching(store, env=env) as watcher:
        until(lambda: (store / ".watch").is_dir() and any((store / ".watch").iterdir()))
        second = command("sync", store, "--watch", env=env)
        run = start(project="digits", id="k3j9x2ab")
        run.log({"loss": 1.0})
        run.finish()
        assert watcher.stdout is not None
        found, arrived = watcher.stdout.readline(), watcher.stdout.readline()
        watcher.send_signal(signal.SIGTERM)
        rest, errors = watcher.communicate()
    assert found.endswith("-k3j9x2ab: found\n")
    assert "-k3j9x2ab: arrived: 1 row" in arrived
    assert "(finished) at http://127.0.0.1" in arrived
    assert (rest, errors, watcher.returncode) == ("", "", 0)
    assert (second.returncode, second.stdout) == (11, "")
    assert f"process {watcher.pid} on " in second.stderr
    assert "is watching these runs" in second.stderr
    assert len(held(wandb_server, "k3j9x2ab").rows) == 1
    assert [*(store / ".watch").iterdir()] == []


def test_json_is_a_stream_of_events(finished: Path, env: dict[str, str]) -> None:
    """A document a line, with the members of the table in docs/scripting.md."""
    done = command("sync", finished.parent, *QUICK, "--exit-when-done", "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    (event,) = map(json.loads, done.stdout.splitlines())
    assert event["time"] > 0
    expected = {
        "event": "arrived", "path": str(finished), "run_id": "k3j9x2ab", "state": "finished",
        "url": f"{env['WANDB_BASE_URL']}/loopback/digits/runs/k3j9x2ab", "rows_sent": 1,
        "rows_verified": 1, "artifacts_sent": 0, "retry_s": None, "error": None,
    }  # fmt: skip
    assert {key: event[key] for key in expected} == expected
    assert set(event) == {*expected, "time"}


def test_a_killed_watcher_holds_up_no_other(
    finished: Path, env: dict[str, str], wandb_server: LoopbackServer
) -> None:
    """The next one goes on where it was, whenever it was killed; each row arrives once."""
    with watching(finished.parent, env=env) as watcher:
        until(lambda: "UpsertBucket" in [r.operation for r in wandb_server.requests()])
        watcher.kill()
    done = command("sync", finished.parent, *QUICK, "--exit-when-done", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(held(wandb_server, "k3j9x2ab").rows) == 1


def test_what_is_left_is_told_by_the_exit_code(
    start: Callable[..., Run], env: dict[str, str], tmp_path: Path
) -> None:
    """A watcher that is ended while a run can't arrive says why it did not."""
    run = start(project="digits")
    run.finish()
    (tmp_path / "home").mkdir(exist_ok=True)
    wrong = env | {"WANDB_API_KEY": "f" * 40}
    with watching(run.dir or "", env=wrong) as watcher:
        assert watcher.stderr is not None
        line = watcher.stderr.readline()
        watcher.send_signal(signal.SIGINT)
        watcher.communicate()
    assert watcher.returncode == 8
    assert "next try in 600 s" in line


def test_on_a_terminal_a_table_changes(finished: Path, env: dict[str, str]) -> None:
    """Its last state stays: the run, its state there and its rows."""
    code, seen = on_a_terminal(
        "sync", finished, *QUICK, "--exit-when-done", env=env | {"COLUMNS": "160"}
    )
    assert code == 0
    last = [line.split() for line in plain(seen).splitlines() if line.strip()][-3:]
    assert last[0] == ["1", "runs,", "0", "under", "way"]
    assert last[1] == ["RUN", "STATE", "ROWS", "VERIFIED", "TROUBLE"]
    assert last[2][:3] == [finished.name, "finished", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--interval", "5"], "received --interval without --watch; expected both"),
        (["--exit-when-done"], "received --exit-when-done without --watch; expected both"),
        (["--watch", "--interval", "0"], "received --interval 0; expected more than 0 seconds"),
        (["--watch", "--interval", "5x"], "received the duration '5x'"),
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(
    finished: Path, arguments: list[str], message: str
) -> None:
    """One line, and the exit code of a usage error."""
    done = command("sync", finished, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line


def test_a_store_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    """Only one that was there may vanish."""
    done = command("sync", tmp_path / "nowhere", "--watch", "--json")
    assert done.returncode == 3
    assert printed(done)["error"]["exit_code"] == 3
