"""`wandbkeras logs`: what a run printed, from the store alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import wandbkeras
from tests.syncing import command, on_a_terminal, printed
from wandbkeras.store.console import ConsoleFiles, Line
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that printed on both streams, of which a line is not kept."""
    run = wandbkeras.init(dir=tmp_path / "runs", id="k3j9x2ab")
    assert run.dir is not None
    files = ConsoleFiles(Disk(), Layout(Path(run.dir)), 0, 0, 1_000_000)
    lines = [(0, "stdout", "größe"), (1, "stderr", "an error"), (3, "stdout", "\x1b[1mend\x1b[0m")]
    files.write([Line(n, stream, 1795412700.0 + n, text) for n, stream, text in lines])  # type: ignore[arg-type]
    files.close()
    run.finish()
    return Path(run.dir)


def test_each_line_goes_to_its_stream(run: Path) -> None:
    """As it was, but for colours where nobody sees them; what is not kept is said."""
    done = command("logs", "k3j9x2ab", "--store", run.parent)
    assert (done.returncode, done.stdout) == (0, "größe\nend\n")
    assert done.stderr.splitlines() == [
        "an error",
        "wandbkeras: 1 lines are not kept (console_max_bytes)",
    ]
    last = command("logs", run, "--last", "1", "--times")
    assert last.stdout == "2026-11-23 05:45:03 end\n"


def test_the_document_has_every_line(run: Path) -> None:
    """With its time, its number and who printed it."""
    document = printed(command("logs", run, "--json"))
    assert document["lines"][2] == {
        "time": 1795412703.0, "attempt": 0, "writer": 0, "line": 3,
        "stream": "stdout", "text": "\x1b[1mend\x1b[0m",
    }  # fmt: skip
    assert (document["not_kept"], document["damage"], document["exit_code"]) == (1, [], 0)
    streams = {s["stream"]: s["rows"] for s in printed(command("show", run, "--json"))["streams"]}
    assert streams["console"] == 3


def test_a_strangers_run_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    """But set colours: no title, no clipboard, no movement."""
    run = wandbkeras.init(dir=tmp_path)
    assert run.dir is not None
    files = ConsoleFiles(Disk(), Layout(Path(run.dir)), 0, 0, 1_000_000)
    files.write([Line(0, "stdout", 1.0, "\x1b]0;title\x07\x1b[2J\x1b[1mbold\x1b[0m\ttab\x9b2J")])
    files.close()
    run.finish()
    code, seen = on_a_terminal("logs", run.dir, env={**os.environ})
    assert (code, seen) == (0, "]0;title[2J\x1b[1mbold\x1b[0m\ttab2J\r\n")
