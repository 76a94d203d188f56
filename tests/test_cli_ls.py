"""``wandbkeras ls``: what it shows, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import command, printed, tree
from wandbkeras import Run
from wandbkeras.store import document

RECORD_AND_DIE = """
import os, sys, wandbkeras

run = wandbkeras.init(project="digits", id="crashed", dir=sys.argv[1])
run.log({"epoch": 0, "loss": 1.0})
os.kill(os.getpid(), 9)
"""


def record(start: Callable[..., Run], run_id: str, epochs: int = 2, **arguments: str) -> Run:
    run = start(project="digits", id=run_id, **arguments)
    for epoch in range(epochs):
        run.log({"epoch": epoch, "val_loss": 1.0 / (epoch + 1)})
        run.summary.update({"best_val_loss": 1.0 / (epoch + 1), "best_epoch": epoch})
    return run


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell]


def test_a_run_is_a_line(start: Callable[..., Run], store: Path) -> None:
    """Id, name, project, state, time, rows, epochs, best value with its epoch, size, synced."""
    record(start, "k3j9x2ab", epochs=3, name="first").finish()
    done = command("ls", store)
    header, line = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert header.split() == [
        "RUN", "NAME", "PROJECT", "STATE", "CREATED", "ROWS", "EPOCHS", "BEST", "SIZE", "SYNCED",
    ]  # fmt: skip
    found = [cell.strip() for cell in cells(line)]
    assert found[:4] == ["k3j9x2ab", "first", "digits", "finished"]
    assert found[5:8] == ["3", "3", "val_loss 0.33333 (epoch 2)"]
    assert (found[8].endswith("kB"), found[9]) == (True, "no")


def test_every_state_is_shown(start: Callable[..., Run], store: Path) -> None:
    """Finished, failed, crashed and running, the oldest first."""
    record(start, "finished").finish()
    record(start, "failed").finish(3)
    subprocess.run([sys.executable, "-c", RECORD_AND_DIE, str(store)])
    running = record(start, "running")
    runs = printed(command("ls", store, "--json"))["runs"]
    assert {run["id"]: run["state"] for run in runs} == {
        name: name for name in ("finished", "failed", "crashed", "running")
    }
    assert {run["id"]: run["exit_code_of_run"] for run in runs} == {
        "finished": 0, "failed": 3, "crashed": None, "running": None,
    }  # fmt: skip
    running.finish()


def test_the_document_says_all(start: Callable[..., Run], store: Path, tmp_path: Path) -> None:
    """Numbers for programs: rows, epochs, best values, artifacts, size and times."""
    run = record(start, "k3j9x2ab", name="first")
    (tmp_path / "f").write_text("x")
    run.log_artifact(tmp_path / "f", name="data")
    run.finish()
    done = printed(command("ls", store, "--json"))
    (found,) = done.pop("runs")
    assert done["exit_code"] == 0
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert found.pop("created") == pytest.approx(Path(run.dir or "").stat().st_ctime, abs=60)
    assert found.pop("path") == str(run.dir)
    expected = {
        "id": "k3j9x2ab", "name": "first", "project": "digits", "state": "finished",
        "exit_code_of_run": 0, "rows": 2, "epochs": 2, "best": {"val_loss": 0.5, "epoch": 1},
        "artifacts": 1, "size": size, "dropped": 0, "damage": [], "synced": "no", "error": None,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_a_diverged_run_is_a_valid_document(start: Callable[..., Run], store: Path) -> None:
    """NaN, which JSON lacks, becomes null."""
    run = start(project="digits")
    run.summary["best_val_loss"] = float("nan")
    run.finish()
    (found,) = printed(command("ls", store, "--json"))["runs"]
    assert found["best"] == {"val_loss": None}
    assert "val_loss nan" in command("ls", store).stdout


def test_whether_a_run_is_synced(
    start: Callable[..., Run], store: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """No, yes, and in part once it has grown."""
    run = record(start, "k3j9x2ab")
    env = wandb_server.environ(tmp_path)
    said = [cells(command("ls", store).stdout.splitlines()[1])[-1].strip()]
    assert command("sync", store, env=env).returncode == 0
    said.append(cells(command("ls", store).stdout.splitlines()[1])[-1].strip())
    run.log({"epoch": 2})
    said.append(cells(command("ls", store).stdout.splitlines()[1])[-1].strip())
    assert said == ["no", "yes", "in part"]


def test_unreadable_runs_do_not_hide_the_others(start: Callable[..., Run], store: Path) -> None:
    """The good runs are listed, the others named on standard error, and the exit code tells."""
    record(start, "good").finish()
    bad = record(start, "bad")
    bad.finish()
    (Path(bad.dir or "") / "run.json").write_bytes(document.encode({"format": "nonsense"}))
    done = command("ls", store)
    assert done.returncode == 4
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["RUN", "good"]
    (line,) = done.stderr.splitlines()
    assert str(bad.dir) in line
    listed = command("ls", store, "--json")
    assert [run.get("id") for run in printed(listed)["runs"]].count("good") == 1
    assert (printed(listed)["exit_code"], listed.returncode) == (4, 4)


def test_damage_and_losses_are_said(start: Callable[..., Run], store: Path) -> None:
    """Records that were not recorded are counted for all to see."""
    run = record(start, "k3j9x2ab")
    run.log({"late": 1}, step=0)
    run.finish()
    done = command("ls", store)
    assert "k3j9x2ab: 1 row could not be recorded" in done.stderr
    assert printed(command("ls", store, "--json"))["runs"][0]["dropped"] == 1


def test_a_damaged_run_is_listed(start: Callable[..., Run], store: Path) -> None:
    """Whatever can be read of it is shown; the damage is said, and the exit code is its own."""
    run = record(start, "k3j9x2ab")
    run.finish()
    with (Path(run.dir or "") / "run.json").open("r+b") as file:
        file.write(b"?")
    done = command("ls", store)
    assert done.returncode == 4
    assert "k3j9x2ab" in done.stdout
    assert done.stderr.startswith("k3j9x2ab: damaged: run.json: ")


def test_a_run_named_twice_is_listed_once(start: Callable[..., Run], store: Path) -> None:
    """Stores and runs may be mixed."""
    run = record(start, "k3j9x2ab")
    run.finish()
    assert len(printed(command("ls", store, run.dir, store, "--json"))["runs"]) == 1


def test_the_store_is_runs_unless_it_is_said(start: Callable[..., Run], store: Path) -> None:
    """Without arguments the store in the current directory is listed."""
    record(start, "k3j9x2ab").finish()
    assert "k3j9x2ab" in command("ls", cwd=store.parent).stdout


def test_ls_changes_nothing(start: Callable[..., Run], store: Path, tmp_path: Path) -> None:
    """Neither the store nor the home nor the current directory."""
    record(start, "k3j9x2ab").finish()
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    before = tree(store)
    done = command("ls", store, env={"HOME": str(tmp_path / "home")}, cwd=tmp_path / "here")
    assert done.returncode == 0
    assert tree(store) == before
    assert (tree(tmp_path / "home"), tree(tmp_path / "here")) == ({}, {})


def test_ls_loads_neither_wandb_nor_keras(start: Callable[..., Run], store: Path) -> None:
    """Listing is a light command."""
    record(start, "k3j9x2ab").finish()
    code = (
        "import sys; from wandbkeras_cli.main import cli\n"
        f"cli.main(['ls', {str(store)!r}], standalone_mode=False)\n"
        "heavy = {'wandb', 'keras', 'tensorflow', 'torch', 'jax', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_many_runs_are_listed_as_few_are(start: Callable[..., Run], store: Path) -> None:
    """Several processes read them: the same lines in the same order, a damaged run among them."""
    for number in range(5):
        record(start, f"run{number}").finish()
    (path,) = store.glob("*-run3")
    (path / "run.json").write_text("{")
    code = (
        "import sys; from wandbkeras_cli import ls, main\n"
        "ls._MANY = int(sys.argv.pop(1)); ls._CHUNK = 2\n"
        "main.main()\n"
    )
    few, many = (
        subprocess.run(
            [sys.executable, "-c", code, str(limit), "ls", str(store)],
            capture_output=True,
            text=True,
        )
        for limit in (6, 5)
    )
    assert (many.returncode, many.stderr, many.stdout) == (4, few.stderr, few.stdout)
    listed = [line.split()[0] for line in many.stdout.splitlines()[1:]]
    assert listed == [f"run{number}" for number in range(5)]
