"""A run that was preempted is so in W&B, and its next attempt goes on in the same run there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import command, connect, held, sync_one
from wandbkeras import Run

ONLINE = """
import wandb
run = wandb.init(project="digits", id="online", settings=wandb.Settings(x_disable_stats=True))
run.log({"loss": 1.0})
run.mark_preempting()
run.log({"loss": 0.5})
run.finish(exit_code=75)
"""


@pytest.fixture(autouse=True)
def _connected(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(wandb_server, tmp_path / "home", monkeypatch)


def test_a_preempted_run_is_what_wandb_makes_of_one(
    start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """State and exit code are those of a run whose `mark_preempting` was called online."""
    subprocess.run([sys.executable, "-c", ONLINE], check=True)
    run = start(project="digits", id="k3j9x2ab")
    run.log({"loss": 1.0})
    run.mark_preempting()
    run.log({"loss": 0.5})
    result = sync_one(run.dir)
    assert (result.receipt and result.receipt.state, result.error) == ("preempting", None)
    run.finish(75)
    result = sync_one(run.dir)
    assert (result.receipt and result.receipt.state, result.rows_sent) == ("preempted", 0)
    ours, online = (wandb_server.run("loopback", "digits", name) for name in ("k3j9x2ab", "online"))
    assert (ours.state, ours.exit_code) == (online.state, online.exit_code) == ("preempted", 75)
    env = wandb_server.environ(tmp_path)
    for name in ("ls", "status"):
        shown = json.loads(command(name, run.dir, "--json", env=env).stdout)
        assert [found["state"] for found in shown["runs"]] == ["preempted"]
    assert json.loads(command("show", run.dir, "--json", env=env).stdout)["state"] == "preempted"


def test_the_next_attempt_goes_on_in_the_same_run(
    start: Callable[..., Run], wandb_server: LoopbackServer
) -> None:
    """It is running there again, with the rows of both, and ends as the last attempt does."""
    for attempt in range(2):
        run = start(project="digits", id="k3j9x2ab", resume="allow")
        run.log({"loss": 1.0 / (attempt + 1)})
        result = sync_one(run.dir)
        assert (result.receipt and result.receipt.state, result.rows_sent) == ("running", 1)
        if attempt == 0:
            run.mark_preempting()
            run.finish(75)
            result = sync_one(run.dir)
            assert result.receipt is not None
            assert result.receipt.state == "preempted"
    run.finish(1)
    assert sync_one(run.dir).outcome == "verified"
    there = held(wandb_server, "k3j9x2ab")
    assert (there.state, [row["_step"] for row in there.rows]) == ("failed", [0, 1])
