"""Live mode with its real uploader: rows arrive while a run is recorded; nothing can harm it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import syncing
from tests.server.process import ROOT, LoopbackServer
from tests.syncing import COMMAND, command, held, on_a_terminal, plain, receipts, sync_one
from wandbkeras import Image, Run, Store
from wandbkeras.recording import live
from wandbkeras.store.live import LiveState, read_live
from wandbkeras.store.process import is_alive

Start = Callable[..., Run]
# A training that logs what it is told to, a row a line, with a child that was forked beside it.
TRAINING = """
import os, sys, time
import wandbkeras

run = wandbkeras.init(
    project="digits", id="k3j9x2ab", dir=sys.argv[1], mode="live", resume="allow"
)
if os.fork() == 0:
    time.sleep(600)
print(run.dir, flush=True)
for line in sys.stdin:
    run.log({"loss": float(line)})
    print(line.strip(), flush=True)
"""


# A server that does not answer.
NOWHERE = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
SHORT = """
import sys, wandbkeras
run = wandbkeras.init(project="digits", dir=sys.argv[1], mode="live", live_timeout=1)
for number in range(3):
    run.log({"loss": number})
run.finish()
"""


# Records the same attempt as another process.
BESIDE = """
import wandbkeras
wandbkeras.init(dir="runs", id="k3j9x2ab", resume="allow", mode="live", live_timeout=0)
print("begun", flush=True)
input()
"""
# Says how many uploaders there are while it has children of all kinds, and such a process.
WITH_WORKERS = """
import multiprocessing, os, psutil, subprocess, sys
import wandbkeras

def count(_=None):
    if wandbkeras.run is not None:
        wandbkeras.run.log({"loss": 0.5})
    commands = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    return sum("live" in command and path in command for command in commands)

path = os.environ.get("RUN", "")
if __name__ == "__main__":
    run = wandbkeras.init(dir="runs", id="k3j9x2ab", mode="live", live_timeout=0)
    path = os.environ["RUN"] = run.dir
    for how in ("fork", "spawn"):
        with multiprocessing.get_context(how).Pool(2) as pool:
            print(how + ":", max(pool.map(count, range(2))), flush=True)
    if os.fork() == 0:
        print("os.fork:", count(), flush=True)
        sys.exit()  # and so ends the run, if it were this process's
    os.wait()
    with subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=-1, stdout=-1) as beside:
        assert beside.stdout.readline() == b"begun\\n"
        print("beside:", count(), flush=True)
        beside.communicate(b"\\n")
    assert beside.returncode == 0
"""


@pytest.fixture
def go_live(start: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A run in live mode, uploaded often."""
    monkeypatch.setenv("WANDBKERAS_LIVE_INTERVAL", "0.1")
    return lambda **arguments: start(
        **{"project": "digits", "id": "k3j9x2ab", "mode": "live", **arguments}
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait long: the uploader has less of a processor than what else wants it."""
    syncing.until(condition, 240.0)


def log(run: Run, first: int, last: int) -> None:
    for number in range(first, last):
        run.log({"loss": number})


def losses(server: LoopbackServer) -> list[float]:
    """What the server holds; nothing of a run that it doesn't know yet."""
    try:
        return [row["loss"] for row in held(server, "k3j9x2ab").rows]
    except LookupError:
        return []


def note(path: str | Path | None) -> LiveState | None:
    return read_live(Path(path or "") / "sync")


def phase(run: Run) -> str | None:
    state = note(run.dir)
    return state and state.phase


def is_there(state: LiveState | None) -> bool:
    """Whether the uploader's process lives."""
    return state is not None and is_alive(dict(state.process), 0.0, 1e9)


def test_rows_arrive_while_they_are_recorded(
    go_live: Start, server: LoopbackServer, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each once, with its own times, also with a sync beside; ``finish`` says what is verified."""
    run = go_live(entity="loopback")
    url = f"{server.url}/loopback/digits/runs/k3j9x2ab"
    assert capfd.readouterr().err == f"wandbkeras: live: the run is at {url}\n"
    log(run, 0, 30)
    until(lambda: len(losses(server)) == 30)
    assert held(server, "k3j9x2ab").state == "running"
    log(run, 30, 50)
    assert sync_one(run.dir).error is None
    run.log_artifact(__file__, name="program", type="code")
    run.log({"loss": 50, "image": Image(np.zeros((2, 2), np.uint8))})
    log(run, 51, 60)
    run.finish()
    assert capfd.readouterr().err == (
        f"wandbkeras: live: verified: 60 rows and all else (finished) at {url}\n"
    )
    found, stored = held(server, "k3j9x2ab"), list(Store(store).run("k3j9x2ab").rows())
    assert (found.state, losses(server)) == ("finished", list(range(60)))
    for name in ("_timestamp", "_runtime"):
        expected = [getattr(row, name[1:]) for row in stored]
        assert [row[name] for row in found.rows] == expected
    assert [a.name for a in found.logged_artifacts] == ["program"]
    assert found.rows[50]["image"]["_type"] == "image-file"
    assert [(r.rows, r.state) for r in receipts(Path(run.dir or ""))] == [(60, "finished")]
    until(lambda: not is_there(note(run.dir)))
    assert command("status", run.dir).returncode == 0


def kill_uploader(run: Run, capfd: pytest.CaptureFixture[str]) -> str:
    """Kill it as soon as it has said that it is there; return what is said of that."""
    until(lambda: phase(run) is not None)
    state = note(run.dir)
    assert state is not None
    os.kill(state.process["pid"], signal.SIGKILL)
    heard: list[str] = []

    def is_said() -> bool:
        heard.append(capfd.readouterr().err)
        return "(exit status -9" in "".join(heard)

    until(is_said)
    status = command("status", run.dir).stdout
    assert f"live: the uploader (process {state.process['pid']} on" in status
    assert "was killed" in status
    return "".join(heard)


def test_an_uploader_that_is_killed_is_started_again(
    go_live: Start, server: LoopbackServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the latest when the run ends; that is said, and each row arrives once.

    Where memory runs out it goes before the training.
    """
    run = go_live()
    log(run, 0, 10)
    until(lambda: len(losses(server)) == 10)
    state = note(run.dir)
    assert state is not None
    own, its = (Path(f"/proc/{pid}/oom_score_adj") for pid in ("self", state.process["pid"]))
    assert int(its.read_text()) == min(int(own.read_text()) + 500, 1000)
    said = kill_uploader(run, capfd)
    assert "training and recording go on; it is started again in 10 s, or when the run ends" in said
    log(run, 10, 20)
    run.finish()
    assert "verified: 20 rows and all else (finished) at" in capfd.readouterr().err
    assert losses(server) == list(range(20))


def test_an_uploader_that_is_killed_again_and_again_harms_nothing(
    go_live: Start,
    server: LoopbackServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It is left at that, which is said; nothing is waited for, and a sync brings all."""
    monkeypatch.setattr(live, "_PAUSES_S", (0.1,))
    run = go_live()
    log(run, 0, 10)
    assert "it is started again in 0.1 s" in kill_uploader(run, capfd)
    first = note(run.dir)
    until(lambda: note(run.dir) not in (None, first))
    until(lambda: is_there(note(run.dir)))
    assert f"send the run later with `wandbkeras sync {run.dir}`" in kill_uploader(run, capfd)
    log(run, 10, 20)
    run.finish()
    said = capfd.readouterr().err
    assert f"was ended: all is recorded, complete it with `wandbkeras sync {run.dir}`" in said
    assert sync_one(run.dir).error is None
    assert losses(server) == list(range(20))


class Training:
    """A process that records in live mode, with a child beside it."""

    def __init__(self, store: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", TRAINING, store],
            cwd=ROOT,
            env=os.environ | {"WANDBKERAS_LIVE_INTERVAL": "0.1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.path = self._process.stdout.readline().strip()

    def log(self, first: int, last: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for number in range(first, last):
            print(number, file=self._process.stdin, flush=True)
            assert self._process.stdout.readline() == f"{number}\n"

    def end(self, number: int) -> None:
        self._process.send_signal(number)
        assert self._process.wait() == -number

    def end_child(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def test_a_training_that_is_ended_is_told_and_goes_on(
    go_live: Start, server: LoopbackServer, store: Path
) -> None:
    """The uploader sends the rest and ends, whatever children live and whoever is told to end.

    The next attempt goes on in the same run in W&B, with the merged history.
    """
    for number, state, first in ((signal.SIGTERM, "preempted", 0), (signal.SIGKILL, "failed", 12)):
        training = Training(store)
        training.log(first, first + 10)
        until(lambda first=first: len(losses(server)) == first + 10)
        uploader = note(training.path)
        assert uploader is not None
        training.log(first + 10, first + 12)
        training.end(number)
        os.kill(uploader.process["pid"], signal.SIGTERM)  # a scheduler tells all of a job
        until(lambda state=state: held(server, "k3j9x2ab").state == state)
        assert losses(server) == list(range(first + 12))
        until(lambda training=training: not is_there(note(training.path)))
        training.end_child()  # it was there all the time
    run = go_live(resume="must")
    log(run, 24, 27)
    run.finish()
    assert (held(server, "k3j9x2ab").state, losses(server)) == ("finished", list(range(27)))
    assert server.run_ids("loopback", "digits") == ["k3j9x2ab"]


def test_on_a_terminal_the_waiting_is_shown(store: Path) -> None:
    """What has arrived so far and what has not, until the time is up."""
    code, seen = on_a_terminal("-c", SHORT, store, env=os.environ | NOWHERE, program=sys.executable)
    said = plain(seen)
    assert (code, "waiting for W&B: 0 rows are verified" in said) == (0, True)
    assert "not verified in W&B yet, and 0 rows are: " in said


def test_an_outage_is_caught_up_with(
    go_live: Start, server: LoopbackServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """By itself; and one that is longer than the job by the command that ``finish`` names."""
    run = go_live(live_timeout=1)
    log(run, 0, 10)
    until(lambda: len(losses(server)) == 10)
    server.kill()
    log(run, 10, 20)
    until(lambda: phase(run) == "waiting")
    assert command("status", run.dir).returncode == 7
    server.restart()
    until(lambda: len(losses(server)) == 20)
    until(lambda: phase(run) == "following")
    server.kill()
    log(run, 20, 30)
    run.finish()
    said = capfd.readouterr().err
    assert "training and recording go on, and it is tried again" in said
    assert "goes on: 20 rows are verified" in said
    assert "10 rows are not verified in W&B yet, and 20 rows are: " in said
    assert f"complete it with `wandbkeras sync {run.dir}`" in said
    server.restart()
    assert sync_one(run.dir).rows_sent == 10
    assert (held(server, "k3j9x2ab").state, losses(server)) == ("finished", list(range(30)))


def test_a_wrong_key_is_said_and_holds_nothing_up(
    go_live: Start,
    server: LoopbackServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """``finish`` does not wait for what somebody must put right; then a sync brings all."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    run = go_live()
    log(run, 0, 5)
    until(lambda: phase(run) == "waiting")
    status = json.loads(command("status", "--json", run.dir).stdout)
    assert status["runs"][0]["live"]["phase"] == "waiting"
    assert "refuses the key" in status["runs"][0]["live"]["error"]
    run.finish()
    assert "5 rows are not verified in W&B yet, and 0 rows are" in capfd.readouterr().err
    state = note(run.dir)
    assert state is not None
    assert (state.phase, state.arrived, state.pending) == ("ended", False, 5)
    monkeypatch.setenv("WANDB_API_KEY", server.api_key)
    assert json.loads(command("sync", "--json", run.dir).stdout)["runs"][0]["rows_verified"] == 5


def test_rows_that_have_arrived_are_replaced_under_a_fresh_id(
    go_live: Start, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If that is asked for: the next attempt's curve is one, and the earlier run stays."""
    monkeypatch.setenv("WANDBKERAS_ON_ROLLBACK", "fresh-id")
    run = go_live(mode="offline")
    log(run, 0, 6)
    run.finish()
    assert sync_one(run.dir).error is None
    assert losses(server) == list(range(6))
    again = go_live(resume="must")
    again.log({"loss": 30}, step=3, commit=True)
    log(again, 40, 42)
    again.finish()
    found = held(server, "k3j9x2ab-2")
    assert [(row["_step"], row["loss"]) for row in found.rows] == [
        (0, 0), (1, 1), (2, 2), (3, 30), (4, 40), (5, 41),
    ]  # fmt: skip
    assert (found.state, losses(server)) == ("finished", list(range(6)))


@pytest.mark.parametrize(
    ("modules", "executable", "reason"),
    [
        # None is Python's way to say that there is no such module.
        ({"wandb": None}, sys.executable, "wandb is not installed here"),
        ({}, "/nowhere/python", "[Errno 2] No such file or directory: '/nowhere/python'"),
        ({}, "/bin/true", "'/bin/true' is no Python interpreter that could be started beside it"),
    ],
    ids=["no wandb", "no process", "no interpreter"],
)
def test_without_an_uploader_a_run_is_recorded_offline(
    modules: dict[str, None],
    executable: str,
    reason: str,
    go_live: Start,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Without wandb, or another process of Python; one line says so, and ``status`` does."""
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "executable", executable)
    run = go_live()
    log(run, 0, 5)
    run.finish()
    assert capfd.readouterr().err == (
        f"wandbkeras: live: {reason}: the run is recorded offline; send it later with "
        f"`wandbkeras sync {run.dir}`\n"
    )
    status = subprocess.run([COMMAND, "status", run.dir or ""], capture_output=True, text=True)
    assert f"k3j9x2ab: live: the uploader not started: {reason}\n" in status.stdout
    assert Store(Path(run.dir or "").parent).run("k3j9x2ab").state == "finished"


def test_processes_of_a_training_start_no_uploader(tmp_path: Path) -> None:
    """Neither those that are forked or begin anew, to load data, nor one that trains beside it."""
    program = tmp_path / "train.py"
    program.write_text(WITH_WORKERS)
    done = subprocess.run(
        [sys.executable, program, BESIDE],
        cwd=tmp_path,
        env=os.environ | NOWHERE | {"SLURM_JOB_ID": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "fork:", "1", "spawn:", "1", "os.fork:", "1", "beside:", "1",
    ]  # fmt: skip
