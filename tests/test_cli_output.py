"""The command line's manners: help, pipes, terminals, and JSON in every case."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from wandbkeras_cli.main import cli
from wandbkeras_cli.output import human_size

import wandbkeras
from tests.server.process import LoopbackServer
from tests.syncing import COMMAND, command, on_a_terminal, plain, printed, until


@pytest.mark.parametrize("name", ["", *cli.commands])
def test_every_help_has_an_example(name: str) -> None:
    """The example is a command line that begins with wandbkeras and names the command."""
    done = command(*name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"Examples?:\n +wandbkeras {name}", done.stdout)


def test_the_version_is_the_packages() -> None:
    """`--version` says name and version."""
    assert command("--version").stdout == f"wandbkeras, version {wandbkeras.__version__}\n"


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--json"], ["--help"]])
def test_a_closed_pipe_is_no_trouble(arguments: list[str], finished: Path) -> None:
    """`| head` that has seen enough causes no traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    paths = [finished] if "ls" in arguments else []
    done = subprocess.run(
        [COMMAND, *arguments, *paths], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_progress_is_shown_on_a_terminal_only(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """On a terminal each step is said, and what was sent; in a pipe there are results, no more."""
    (finished.parent / "run-20991123_054500-damaged").mkdir()
    (finished.parent / "run-20991123_054500-damaged" / "run.json").write_text("{}")
    env = {**wandb_server.environ(tmp_path), "TERM": "xterm", "COLUMNS": "150"}
    code, seen = on_a_terminal("sync", finished.parent, env=env)
    assert code == 4
    steps = ["0/2 runs", "asking", "sending 1 row, 0 artifact versions", "reading back"]
    found = [plain(seen).find(step) for step in [*steps, "verified"]]
    assert found == sorted(found)
    assert found[0] >= 0
    # What was shown is wiped out before a result is printed, and the cursor is there again.
    assert re.search(r"\x1b\[2K\r?\n?k3j9x2ab: verified", seen)
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    (finished / "sync").rename(tmp_path / "receipts")
    done = command("sync", finished, env=env)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_quiet_is_quiet_on_a_terminal(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """With `--quiet` there is neither progress nor a result."""
    env = wandb_server.environ(tmp_path)
    assert on_a_terminal("sync", "--quiet", finished, env=env) == (0, "")


def test_what_runs_have_sent_is_counted_and_names_are_no_markup() -> None:
    """Rows and bytes of the runs that are done; a stranger's name is shown as it is."""
    code = (
        "from wandbkeras_cli.progress import Progress\n"
        "progress = Progress(3)\n"
        "def results():\n"
        "    for number in range(3):\n"
        "        progress.say(f'[red]{number}[/] \\x1b[31m')\n"
        "        yield number\n"
        "for number in progress.over(results(), sent=lambda n: (1000 * n, 10**6)):\n"
        "    print(f'result {number}')\n"
    )
    env = {"TERM": "xterm", "COLUMNS": "150"}
    code_seen, seen = on_a_terminal("-c", code, env=env, program=sys.executable)
    assert code_seen == 0
    assert "2/3 runs · 1,000 rows, 2.0 MB sent · [red]2[/] \\x1b[31m" in plain(seen)
    assert re.findall(r"result \d", plain(seen)) == ["result 0", "result 1", "result 2"]


def test_no_key_is_no_question(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """On a terminal too a missing key is said, and no one is asked for it."""
    env = wandb_server.environ(tmp_path)
    del env["WANDB_API_KEY"]
    code, seen = on_a_terminal("sync", finished, env=env)
    assert code == 8
    assert "wandb login" in seen
    assert len(seen.splitlines()) == 1


def test_an_interrupted_sync_says_how_to_go_on(
    finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """Ctrl-C ends with 130, one line and no traceback."""
    wandb_server.add_fault("delay", kind="file_stream", seconds=30.0)
    syncing = subprocess.Popen(
        [COMMAND, "sync", finished, "--json"],
        env=wandb_server.environ(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: "UpsertBucket" in [request.operation for request in wandb_server.requests()])
    syncing.send_signal(signal.SIGINT)
    out, said = syncing.communicate()
    assert syncing.returncode == 130
    assert said.split("\n") == [
        "", "wandbkeras: interrupted: run the command again, it goes on where it was", "",
    ]  # fmt: skip
    assert '"exit_code": 130' in out


def test_an_internal_error_is_one_line(finished: Path) -> None:
    """A bug of ours has an exit code of its own, and a way to its traceback."""
    code = (
        "import sys, wandbkeras_cli.ls as ls, wandbkeras_cli.main as main\n"
        "def broken(paths): raise RuntimeError('a bug')\n"
        "ls.run_directories = broken\n"
        f"sys.argv = ['wandbkeras', 'ls', '--json', {str(finished)!r}]\n"
        "main.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 70
    (line,) = done.stderr.splitlines()
    assert "internal error, RuntimeError: a bug" in line
    assert "WANDBKERAS_DEBUG=1" in line
    assert printed(done)["error"]["class"] == "RuntimeError"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "WANDBKERAS_DEBUG": "1"},
    )
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (10**9, "1.0 GB"),
     (7 * 10**12, "7.0 TB"), (10**16, "10000.0 TB")],
)  # fmt: skip
def test_sizes_have_units(size: int, text: str) -> None:
    """Powers of ten, as disks are sold."""
    assert human_size(size) == text
