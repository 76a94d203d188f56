"""The console of a run arrives on W&B's Logs page, once, and is read back line by line."""

from __future__ import annotations

import sqlite3
import sys
import traceback
from pathlib import Path

import pytest

import wandbkeras
from tests.server.process import LoopbackServer
from tests.server.state import DATABASE
from tests.syncing import held, receipts, sync_one
from wandbkeras.store.console import ConsoleFiles, Line
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.choice import Choice
from wandbkeras.sync.console import console_differences, console_lines


def test_it_arrives_and_a_second_sync_sends_nothing(
    server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also that of a later attempt, behind the first; a server that lacks a line gets it."""
    run = wandbkeras.init(dir=tmp_path / "runs", project="digits", console="auto")
    run.log({"loss": 1.0})
    print("größe\r100%")
    print("an error", file=sys.stderr)
    run.finish()
    assert sync_one(run.dir).rows_sent == 1
    assert held(server, run.id).console == ["100%e", "an error"]
    assert "console" not in receipts(Path(run.dir or ""))[0].not_compared
    again = wandbkeras.init(
        dir=tmp_path / "runs", project="digits", id=run.id, resume="must", console="auto"
    )
    print("went on")
    again.finish()
    sync_one(run.dir)
    assert held(server, run.id).console == ["100%e", "an error", "went on"]
    assert sync_one(run.dir, check=True).bytes_sent == 0
    with sqlite3.connect(server.directory / DATABASE) as state:
        state.execute("delete from lines where file = 'output.log' and number = 2")
    sync_one(run.dir, check=True)
    assert held(server, run.id).console == ["100%e", "an error", "went on"]
    assert server.violations() == []


def test_a_traceback_that_was_printed_arrives_once(
    server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what a config value is redacted for is hidden in it, too."""
    run = wandbkeras.init(
        dir=tmp_path / "runs", project="digits", config={"db": "postgres"}, console="auto"
    )
    with pytest.raises(ZeroDivisionError), run:
        print("connected to postgres")
        try:
            print(1 / 0)
        except ZeroDivisionError:
            traceback.print_exc()
            raise
    sync_one(run.dir, choice=Choice(redact=("db",)))
    console = "\n".join(held(server, run.id).console)
    assert console.count("ZeroDivisionError: division by zero") == 1
    assert console.startswith("connected to (redacted)\n")
    assert server.violations() == []


def test_only_metrics_leave_it_out(
    server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is among the files then, which are said not to be sent."""
    run = wandbkeras.init(dir=tmp_path / "runs", project="digits", console="auto")
    print("stays here")
    run.finish()
    result = sync_one(run.dir, choice=Choice(artifacts=False, files=False))
    assert result.receipt is not None and result.receipt.not_sent == ["files"]
    assert held(server, run.id).console == []


def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    """In the place of the lines; those of another writer of the attempt have its number."""
    run = wandbkeras.init(dir=tmp_path)
    assert run.dir is not None
    for writer, lines in enumerate(([0, 1, 7], [0])):
        files = ConsoleFiles(Disk(), Layout(Path(run.dir)), 0, writer, 1_000_000)
        files.write([Line(n, "stdout", 10.0 + n, f"line {n}  ") for n in lines])
        files.close()
    run.finish()
    expected = ["line 0", "line 1", "… 5 lines are not kept …", "line 7"]
    found = console_lines(StoredRun(run.dir), ["7"], "(redacted)")
    assert [line.text for line in found] == [*expected[:3], "line (redacted)"]


def test_every_difference_is_seen(tmp_path: Path) -> None:
    """A missing line, one too many, another text and another stream."""
    run = wandbkeras.init(dir=tmp_path)
    assert run.dir is not None
    files = ConsoleFiles(Disk(), Layout(Path(run.dir)), 0, 0, 1_000_000)
    files.write([Line(0, "stdout", 1.0, "one"), Line(1, "stderr", 1.0, "two")])
    files.close()
    run.finish()
    lines = console_lines(StoredRun(run.dir), [], "")
    same = {0: (None, "one"), 1: ("error", "two")}
    assert [*console_differences(lines, same)] == []
    assert [*console_differences(lines, None)] == []
    for given, text in (
        ({0: (None, "one")}, "line 1 of 2 is missing"),
        ({**same, 2: (None, "three")}, "expected 2 lines, found 3"),
        ({**same, 0: (None, "eins")}, "line 0: expected"),
        ({**same, 1: (None, "two")}, "line 1: expected"),
    ):
        (difference,) = console_differences(lines, given)
        assert text in difference
