"""The environment of a run: recorded in the background, durable, and sent as W&B's own metadata."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from wandbkeras_cli.main import main

from tests.server.process import LoopbackServer
from tests.syncing import connect, held, sync_one
from tests.test_context_git import git, repository  # noqa: F401
from wandbkeras import Run
from wandbkeras.context.environment import find_environment
from wandbkeras.context.git import DIFF_BYTES
from wandbkeras.context.packages import installed, requirements
from wandbkeras.context.program import Program
from wandbkeras.errors import DamagedError, UsageError
from wandbkeras.store.directory import Store
from wandbkeras.store.environment import DIFF, REQUIREMENTS
from wandbkeras.store.reader import StoredRun

TRAIN = """
import sys
{module} = __import__(sys.argv[1])
run = {module}.init(project="digits", dir=sys.argv[2], id=sys.argv[3])
run.log({{"a": 1}})
run.finish()
"""


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is recorded, as it is by default."""
    monkeypatch.delenv("WANDBKERAS_ENVIRONMENT")


def content(run: StoredRun, name: str) -> bytes:
    return run.blob(run.files[name].sha256).read_bytes()


@pytest.mark.usefixtures("recorded")
def test_a_run_says_where_it_was_made(
    start: Callable[..., Run],
    stored: Callable[[Run], StoredRun],
    repository: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Machine, program, packages and repository are in the run once it has finished."""
    (repository / "train.py").write_text("lr = 2\n")
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "2", "\udcff"])
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    run = start()
    monkeypatch.setattr(sys, "argv", ["something", "else"])
    monkeypatch.chdir("/")
    run.finish()
    found = stored(run)
    environment = found.environment
    assert environment is not None
    assert (environment.program, environment.args) == (
        str(repository / "train.py"), ["--lr", "2", "?"],
    )  # fmt: skip
    assert (environment.code_path, environment.directory) == ("train.py", str(repository))
    assert environment.python == f"CPython {sys.version.split()[0]}"
    assert (environment.executable, environment.host) == (sys.executable, os.uname().nodename)
    assert environment.cpu.count_logical == os.cpu_count()
    assert environment.memory.total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert environment.frameworks["keras"] == version("keras")
    assert environment.git is not None
    assert environment.git.commit == git(repository, "rev-parse", "HEAD").strip()
    assert environment.scheduler is not None
    assert environment.scheduler.job_id == "42"
    packages = content(found, REQUIREMENTS).decode().splitlines()
    assert f"numpy=={version('numpy')}" in packages
    assert packages == requirements(installed()).decode().splitlines()
    assert b"+lr = 2" in content(found, DIFF)
    assert (found.folded.failures, found.folded.dropped_events) == (0, 0)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ({"save_code": False}, {}),
        ({}, {"WANDB_SAVE_CODE": "false"}),
        ({}, {"WANDB_DISABLE_CODE": "true"}),
    ],
)
def test_code_stays_where_it_is_if_that_is_wanted(
    start: Callable[..., Run],
    stored: Callable[[Run], StoredRun],
    repository: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    variables: dict[str, str],
) -> None:
    """Without code there is the commit, and no diff."""
    (repository / "train.py").write_text("secret = 2\n")
    monkeypatch.chdir(repository)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = start(**arguments)
    run.finish()
    found = stored(run)
    assert list(found.files) == [REQUIREMENTS]
    assert found.environment is not None
    assert found.environment.git is not None
    assert found.environment.git.dirty
    assert not [path for path in found.path.rglob("*") if b"secret" in _bytes(path)]


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_one_switch_turns_it_off(
    start: Callable[..., Run],
    stored: Callable[[Run], StoredRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An argument, or a variable that it goes before; a word that is none is refused."""
    for arguments, variable, is_recorded in (
        ({}, "off", False),
        ({"environment": True}, "off", True),
        ({"environment": False}, "on", False),
    ):
        monkeypatch.setenv("WANDBKERAS_ENVIRONMENT", variable)
        run = start(**arguments)
        run.finish()
        assert (stored(run).environment is not None) == is_recorded
    monkeypatch.setenv("WANDBKERAS_ENVIRONMENT", "perhaps")
    with pytest.raises(UsageError, match="WANDBKERAS_ENVIRONMENT: received 'perhaps'"):
        start()


@pytest.mark.usefixtures("recorded")
def test_a_run_that_goes_on_has_each_environment_and_one_copy_of_its_files(
    start: Callable[..., Run], stored: Callable[[Run], StoredRun]
) -> None:
    """Each attempt says where it ran; the run's is that of the first."""
    run = start(id="k3j9x2ab")
    run.finish()
    start(id="k3j9x2ab", resume="must").finish()
    found = stored(run)
    kinds = [event.type for event in found.events()]
    assert (kinds.count("environment"), kinds.count("file")) == (2, len(found.files))


def test_what_fails_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that can't be found out is left out, and said; the rest is there."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: 1 / 0)
    found = find_environment(Program.now(), tmp_path, save_code=True)
    assert found.failures == ["disks: ZeroDivisionError: division by zero"]
    assert found.environment.disks == {}
    assert found.environment.cpu.count_logical == os.cpu_count()


def test_a_user_without_a_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under one: nothing is missing then, and nothing is said."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 1_234_567)
    found = find_environment(Program.now(), tmp_path, save_code=True)
    assert (found.environment.user, found.failures) == ("1234567", [])


def test_an_argument_that_is_a_key_is_masked(tmp_path: Path) -> None:
    """As on the console: by what variables that look like keys hold."""
    program = Program(("train.py", "--key=sesame-open"), tmp_path, {"MY_API_KEY": "sesame-open"})
    found = find_environment(program, tmp_path, save_code=True)
    assert found.environment.args == ["--key=***"]


@pytest.mark.usefixtures("recorded")
def test_it_is_in_a_run_that_was_killed(tmp_path: Path) -> None:
    """Once it is there it survives SIGKILL: nobody has to finish the run."""
    script = (
        "import os, signal, sys, threading, wandbkeras\n"
        "run = wandbkeras.init(dir=sys.argv[1], id='k3j9x2ab')\n"
        "next(t for t in threading.enumerate() if t.name == 'wandbkeras-environment').join()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True)
    run = Store(tmp_path).run("k3j9x2ab")
    assert run.state == "crashed"
    assert run.environment is not None
    assert REQUIREMENTS in run.files


@pytest.mark.usefixtures("recorded")
def test_it_arrives_as_an_online_run_would_have_sent_it(
    wandb_server: LoopbackServer,
    repository: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same program, once with W&B's client online and once recorded and synced, compared."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-2]")
    monkeypatch.setenv("WANDB_SAVE_CODE", "true")  # the client's default is not to send a diff
    (repository / "train.py").write_text(TRAIN.format(module="client"))
    git(repository, "remote", "add", "origin", "https://example.com/a/b.git")
    for module, run_id in (("wandb", "theirs"), ("wandbkeras", "ours")):
        arguments = [sys.executable, "train.py", module, tmp_path / module, run_id]
        subprocess.run(arguments, cwd=repository, check=True, capture_output=True)
    ours = Store(tmp_path / "wandbkeras").run("ours")
    assert sync_one(ours.path).outcome == "verified"
    online, replayed = held(wandb_server, "theirs"), held(wandb_server, "ours")
    # With it the client sends the program, too.
    assert {*replayed.files} == {*online.files} - {"code/train.py"}
    assert replayed.files["diff.patch"] == online.files["diff.patch"]
    ours_packages, theirs_packages = (
        {line.lower() for line in run.files["requirements.txt"].decode().split()}
        for run in (replayed, online)
    )
    assert ours_packages == theirs_packages
    ours_metadata, theirs_metadata = (
        json.loads(run.files["wandb-metadata.json"]) for run in (replayed, online)
    )
    assert ours_metadata.pop("username")  # which the client has a place for, and leaves out
    assert ours_metadata.keys() == theirs_metadata.keys()
    differ = {"startedAt", "args", "disk", "root", "writerId"}  # the client's root is of its files
    assert {k: v for k, v in ours_metadata.items() if k not in differ} == {
        k: v for k, v in theirs_metadata.items() if k not in differ
    }
    assert ours_metadata["disk"]["/"].keys() == theirs_metadata["disk"]["/"].keys()
    assert sync_one(ours.path, check=True).files_sent == 0


@pytest.mark.usefixtures("recorded")
def test_it_is_shown_and_verified(
    start: Callable[..., Run],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``wandbkeras show`` says where the run was made, and ``verify`` checks its files."""

    def command(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["wandbkeras", *map(str, arguments)])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capsys.readouterr().out

    run = start()
    run.finish()
    assert "\nenvironment\n" in command("show", run.id, "--store", store)
    assert json.loads(command("show", run.id, "--store", store, "--json"))["environment"]
    (checked,) = json.loads(command("verify", store, "--json"))["runs"]
    assert checked["sound"]


def test_an_environment_that_is_none_is_damage(
    start: Callable[..., Run], stored: Callable[[Run], StoredRun]
) -> None:
    """A stranger's record of another shape is refused in one line; unknown members are not."""
    for body, is_one in (({"os": 7}, False), ({"cpu": {"count": -1}}, False), ({"new": 1}, True)):
        run = start()
        run.record_environment(body, {})
        run.finish()
        if is_one:
            assert stored(run).environment is not None
        else:
            with pytest.raises(DamagedError, match="an environment that is none"):
                _ = stored(run).environment


@pytest.mark.usefixtures("recorded")
def test_a_diff_that_is_not_recorded_is_said(
    start: Callable[..., Run],
    stored: Callable[[Run], StoredRun],
    repository: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By one line, and by the run."""
    (repository / "train.py").write_text("x" * (DIFF_BYTES + 1))
    monkeypatch.chdir(repository)
    run = start()
    run.finish()
    found = stored(run)
    assert DIFF not in found.files
    reasons = [e.body["reason"] for e in found.events() if e.type == "failure"]
    assert (
        len(reasons) == 1
        and "the diff of what is not committed has more than 10000000 bytes" in reasons[0]
    )
    assert capsys.readouterr().err.count("the diff of what is not committed") == 1
