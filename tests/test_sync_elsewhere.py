"""Syncing a copy, from anywhere: moved, read-only, without a home, with settings of another job."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.server.process import LoopbackServer
from tests.syncing import COMMAND, command, held, printed, tree
from wandbkeras import Image, Run, Table
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.receipt import sync_state

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1


@pytest.fixture
def finished(start: Callable[..., Run], tmp_path: Path) -> Path:
    """A finished run with rows, a table, an image, and two files of an artifact."""
    run = start(project="digits", id="k3j9x2ab", tags=["a"])
    for i in range(4):
        run.log({"loss": 1.0 / (i + 1)})
    image = Image(np.zeros((2, 2), np.uint8))
    run.log({"loss": 1.0 / 5, "table": Table(["n"], [[1]]), "image": image})
    (tmp_path / "files").mkdir()
    for i in range(2):
        (tmp_path / "files" / f"{i}.bin").write_bytes(bytes([i]) * 1000)
    run.log_artifact(tmp_path / "files", name="data", type="dataset")
    run.finish()
    shutil.rmtree(tmp_path / "files")
    assert run.dir is not None
    return Path(run.dir)


@pytest.fixture
def read_only(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the run in which nobody may write a byte."""
    copy = tmp_path / "read-only" / finished.name
    shutil.copytree(finished, copy)
    paths = [copy.parent, copy, *copy.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    yield copy
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


def obey_modes() -> None:
    """File modes hold for root too, from here on in this process."""
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


def all_is_there(server: LoopbackServer) -> bool:
    found = held(server, "k3j9x2ab")
    files = {artifact.name: artifact.files for artifact in found.logged_artifacts}
    media = [name.rpartition("/")[0] for name in found.files if name.startswith("media/")]
    return (
        [row["loss"] for row in found.rows] == [1.0 / (i + 1) for i in range(5)]
        and files["data"] == {f"{i}.bin": bytes([i]) * 1000 for i in range(2)}
        and list(files["run-k3j9x2ab-table"]) == ["table.table.json"]
        and media == ["media/images", "media/table"]
        and (found.state, found.tags) == ("finished", ("a",))
    )


def test_a_moved_run_arrives_from_an_empty_home(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """Nothing outside of the run directory is needed, and nothing is left behind."""
    moved = tmp_path / "a stick" / "é" / "renamed"
    moved.parent.mkdir(parents=True)
    finished.rename(moved)
    home, here, temporary = (tmp_path / name for name in ("home", "here", "tmp"))
    for path in (home, here, temporary):
        path.mkdir()
    env = wandb_server.environ(home)
    for name in [name for name in env if name.startswith(("WANDB_", "XDG_")) and "_DIR" in name]:
        del env[name]
    env |= {"TMPDIR": str(temporary)}
    done = command("sync", moved, "--timeout", "30", env=env, cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert all_is_there(wandb_server)
    assert (tree(home), tree(here)) == ({}, {})
    # wandb's command line itself writes a log there.
    assert {name for name in tree(temporary) if not name.startswith("debug-cli.")} == set()


def test_a_run_may_be_the_current_directory(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """The name `.` is as good as any, for the receipt elsewhere too."""
    done = command(
        "sync", ".", "--timeout", "30", "--state-dir", tmp_path / "state",
        env=wandb_server.environ(tmp_path), cwd=finished,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert all_is_there(wandb_server)
    assert [path.name for path in (tmp_path / "state").iterdir()] == [finished.name]


@pytest.mark.parametrize("home", ["/nonexistent", "/proc", None])
def test_no_home_is_needed(
    home: str | None, finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """A home that is not there or can't be written to changes nothing, and nothing is said."""
    env = wandb_server.environ(tmp_path / "home")
    for name in [name for name in env if name.startswith(("XDG_", "WANDB_")) and "_DIR" in name]:
        del env[name]
    del env["HOME"]
    done = command("sync", finished, env=env if home is None else {**env, "HOME": home})
    assert (done.returncode, done.stderr) == (0, "")
    assert all_is_there(wandb_server)


def test_a_read_only_run_syncs_with_its_receipt_elsewhere(
    read_only: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """With --state-dir nothing is written into the run, and a second sync asks nothing."""
    before = tree(read_only)
    arguments = ["sync", read_only.parent, "--state-dir", tmp_path / "state"]
    env = wandb_server.environ(tmp_path)
    for expected in ("verified", "unchanged"):
        requests = len(wandb_server.requests())
        done = subprocess.run(
            [COMMAND, *map(str, arguments), "--json"],
            env=env,
            capture_output=True,
            text=True,
            preexec_fn=obey_modes,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert [run["outcome"] for run in printed(done)["runs"]] == [expected]
    assert len(wandb_server.requests()) == requests
    assert all_is_there(wandb_server)
    assert tree(read_only) == before
    assert sync_state(StoredRun(read_only), tmp_path / "state") == "yes"


def test_where_no_receipt_can_be_written_nothing_is_sent(
    read_only: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """It is said at once, with the way out."""
    done = subprocess.run(
        [COMMAND, "sync", read_only],
        env=wandb_server.environ(tmp_path),
        capture_output=True,
        text=True,
        preexec_fn=obey_modes,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "nothing was sent" in line
    assert "--state-dir" in line
    assert wandb_server.run_ids("loopback", "digits") == []


def test_another_jobs_settings_change_nothing(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """What the environment says of a job's run is not for the runs that are synced."""
    settings = {
        "WANDB_MODE": "offline", "WANDB_DISABLED": "true", "WANDB_RUN_ID": "other",
        "WANDB_NAME": "other", "WANDB_NOTES": "other", "WANDB_RUN_GROUP": "other",
        "WANDB_JOB_TYPE": "other", "WANDB_TAGS": "x,y", "WANDB_PROJECT": "other",
        "WANDB_ENTITY": "nobody", "WANDB_RESUME": "must", "WANDB_HOST": "other",
    }  # fmt: skip
    done = command("sync", finished, env=wandb_server.environ(tmp_path) | settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert all_is_there(wandb_server)
    assert wandb_server.run_ids("loopback", "digits") == ["k3j9x2ab"]
    assert wandb_server.run_ids("loopback", "other") == []


def test_a_store_named_by_wandb_dir_is_left_alone(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """WANDB_DIR, which recording takes for the store, gets no directories of wandb's."""
    env = wandb_server.environ(tmp_path / "home") | {"WANDB_DIR": str(finished.parent)}
    assert command("sync", finished.parent, env=env).returncode == 0
    assert os.listdir(finished.parent) == [finished.name]  # noqa: PTH208


def test_the_entity_is_that_of_the_key(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """Where the run is looked for it is also sent, whatever a settings file calls the entity."""
    settings = tmp_path / "home" / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nentity = nobody\n")
    done = command("sync", finished, env=wandb_server.environ(tmp_path / "home"))
    assert (done.returncode, done.stderr) == (0, "")
    assert all_is_there(wandb_server)


_SYSCALLS = {"x86_64": 73, "aarch64": 32}


def no_flock() -> None:
    """From here on flock is not implemented, for programs that are started from here too."""
    jump, answer, load = 0x15, 0x06, 0x20
    program = [
        (load, 0, 0, 0),  # the number of the system call
        (jump, 0, 1, _SYSCALLS[platform.machine()]),
        (answer, 0, 0, 0x00050000 | errno.ENOSYS),
        (answer, 0, 0, 0x7FFF0000),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    filters = struct.pack("HP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)
    assert libc.prctl(22, 2, ctypes.create_string_buffer(filters)) == 0


def test_where_there_is_no_flock_at_all(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """Ours never locks; W&B's client does, below $TMPDIR: that it can't is said, and made up for.

    A file system without `flock` under the run is nothing to either: the client has no file there.
    """
    locked = "import fcntl; fcntl.flock(open('/dev/null'), fcntl.LOCK_EX)"
    tried = subprocess.run([sys.executable, "-c", locked], preexec_fn=no_flock, capture_output=True)
    assert b"Function not implemented" in tried.stderr
    env = wandb_server.environ(tmp_path / "home")
    done = subprocess.run(
        [COMMAND, "sync", finished], env=env, capture_output=True, text=True, preexec_fn=no_flock
    )
    (line,) = done.stderr.splitlines()
    assert (done.returncode, "not verified" in line) == (6, True)
    assert "wandb said" in line, line
    assert command("sync", finished, env=env).returncode == 0
    assert all_is_there(wandb_server)


def test_keras_is_not_needed(finished: Path, wandb_server: LoopbackServer, tmp_path: Path) -> None:
    """Where neither Keras nor a backend can be imported, a run arrives all the same."""
    (tmp_path / "without").mkdir()
    for name in ("keras", "tensorflow", "torch", "jax"):
        (tmp_path / "without" / f"{name}.py").write_text("raise ImportError(__name__)")
    env = wandb_server.environ(tmp_path / "home")
    path = os.pathsep.join([str(tmp_path / "without"), env.get("PYTHONPATH", "")])
    tried = subprocess.run([sys.executable, "-c", "import keras"], env=env | {"PYTHONPATH": path})
    assert tried.returncode == 1
    done = command("sync", finished, env=env | {"PYTHONPATH": path.rstrip(os.pathsep)})
    assert (done.returncode, done.stderr) == (0, "")
    assert all_is_there(wandb_server)
