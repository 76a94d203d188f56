"""``wandbkeras clean``: after a real sync, without network, and never more than that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.server.process import LoopbackServer
from tests.syncing import command, printed, tree
from wandbkeras import Run


def record(start: Callable[..., Run], run_id: str, tmp_path: Path) -> Path:
    run = start(project="digits", id=run_id)
    run.log({"loss": 1.0})
    (tmp_path / "model").write_bytes(bytes(2_000))
    run.log_artifact(tmp_path / "model", name=f"model-{run_id}")
    run.finish()
    return Path(run.dir or "")


def test_clean_after_sync(
    start: Callable[..., Run], store: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """The synced run goes, the other one stays with the reason; no request is made."""
    env = wandb_server.environ(tmp_path / "home")
    synced, other = (record(start, run_id, tmp_path) for run_id in ("synced", "other"))
    assert command("sync", synced, env=env).returncode == 0
    before, requests = tree(store), len(wandb_server.requests())

    foreseen = command("clean", store, "--dry-run", env=env)
    assert (foreseen.returncode, tree(store)) == (0, before)
    assert "synced: would be removed: " in foreseen.stdout
    assert "other: kept: no receipt: it has not been synced" in foreseen.stdout

    kept = printed(command("clean", store, "--keep", "history", "--json", env=env))
    freed = {run["run_id"]: (run["freed"], run["kept"] is None) for run in kept["runs"]}
    assert freed == {"synced": (2_000, True), "other": (0, False)}
    assert command("verify", synced).returncode == 0
    assert command("sync", synced, env=env).stdout.startswith("synced: nothing to send")
    again = command("sync", synced, "-p", "elsewhere", env=env)
    assert (again.returncode, "was removed by `wandbkeras clean`" in again.stderr) == (3, True)
    requests = len(wandb_server.requests())

    done = command("clean", store, "--include", "synced", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert not synced.exists()
    assert other.exists()
    assert (store / "cleaned" / synced.name / "run.json").exists()
    assert len(wandb_server.requests()) == requests
    listed = [run["id"] for run in printed(command("ls", store, "--json"))["runs"]]
    assert listed == ["other"]


def test_a_duration_that_is_none_is_refused(start: Callable[..., Run], store: Path) -> None:
    """Before anything is looked at."""
    start(project="digits").finish()
    done = command("clean", store, "--older-than", "soon")
    assert (done.returncode, "expected a number and s, m, h, d or w" in done.stderr) == (2, True)
