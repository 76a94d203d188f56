"""``wandbkeras status``: one line a destination, one document, true exit codes, no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.server.process import LoopbackServer
from tests.syncing import command, printed, tree
from wandbkeras import Run

NOWHERE = {"WANDB_BASE_URL": "http://127.0.0.1:1"}


def record(start: Callable[..., Run], run_id: str) -> Path:
    run = start(project="digits", id=run_id)
    run.log({"loss": 1.0})
    run.finish()
    return Path(run.dir or "")


def test_status_follows_a_run(
    start: Callable[..., Run], store: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """Never synced, failed with its reason, arrived; each with its exit code."""
    env = wandb_server.environ(tmp_path / "home")
    path = record(start, "k3j9x2ab")
    found = command("status", store)
    assert (found.returncode, found.stderr) == (6, "")
    assert found.stdout.splitlines()[1].split()[:5] == ["k3j9x2ab", "-", "finished", "no", "1"]

    wandb_server.add_fault("status", operation="UpsertBucket", status=403)
    assert command("sync", store, env=env).returncode == 9
    found = command("status", store)
    _, line, reason = found.stdout.splitlines()
    assert (found.returncode, "failed (RefusedError)" in line) == (9, True)
    assert reason.startswith("k3j9x2ab: ")
    assert "refuse" in reason

    wandb_server.clear_faults()
    assert command("sync", store, env=env).returncode == 0
    before, requests = tree(store), len(wandb_server.requests())
    found = command("status", store, env=env)
    _, line = found.stdout.splitlines()
    assert (found.returncode, found.stderr) == (0, "")
    assert line.split()[3:5] == ["yes", "-"]
    assert line.endswith(f"{wandb_server.url}/loopback/digits/runs/k3j9x2ab")
    assert (tree(store), len(wandb_server.requests())) == (before, requests)

    (run,) = printed(command("status", store, "--json"))["runs"]
    (place,) = run["destinations"]
    assert (run["path"], run["arrived"], run["pending"]["rows"]) == (str(path), True, 0)
    assert (place["receipt"]["rows"], place["receipt"]["not_sent"]) == (1, [])
    assert (place["failure"], place["project"], place["arrived"]) == (None, "digits", True)


def test_a_server_that_is_not_there_leaves_its_reason(
    start: Callable[..., Run], store: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """With --state-dir the reason lies there, and nothing is written into the run."""
    path = record(start, "k3j9x2ab")
    before = tree(path)
    env = wandb_server.environ(tmp_path / "home") | NOWHERE
    state = ("--state-dir", tmp_path / "state")
    assert command("sync", store, *state, env=env).returncode == 7
    found = printed(command("status", store, *state, "--json"))
    (place,) = found["runs"][0]["destinations"]
    assert found["exit_code"] == 7
    assert (place["failure"]["class"], place["failure"]["retryable"]) == ("UnreachableError", True)
    assert "does not answer" in place["failure"]["message"]
    assert tree(path) == before


def test_an_unreadable_run_does_not_hide_the_others(start: Callable[..., Run], store: Path) -> None:
    """It is named on standard error, and the gravest exit code wins."""
    bad = record(start, "bad")
    record(start, "good")
    (bad / "run.json").write_text("{}")
    found = command("status", store)
    assert (found.returncode, len(found.stderr.splitlines())) == (4, 1)
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["RUN", "good"]
