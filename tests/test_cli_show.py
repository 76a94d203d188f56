"""``wandbkeras show``: everything that is known of one run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from wandbkeras_cli.main import main

from tests.damage import flipped, record
from wandbkeras import Run
from wandbkeras.store.layout import Layout

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The run of the store ``runs`` in the current directory."""
    monkeypatch.chdir(tmp_path)
    return record(Path("runs/run-20261123_054500-k3j9x2ab"))


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command; return exit code, standard output and standard error."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wandbkeras", "show", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command


def test_a_run_is_shown_in_detail(run: Layout, show: Command) -> None:
    """Who it is, how it ended, config, summary, attempts, streams and artifacts, in this order."""
    code, out, err = show("k3j9x2ab")
    assert (code, err) == (0, "")
    places = [
        out.index(text)
        for text in (
            "run      k3j9x2ab\n",
            "project  digits\n",
            "state    finished (exit code 0)\n",
            "rows     9, last step 8\n",
            "config\n  lr  0.1\n",
            "\nsummary\n",
            "  table  table of 3 rows: tables/table/00000005-001-000-0000.parquet\n  best   0.5\n",
            "ATTEMPT  WRITER",
            "STREAM      ROWS  COLUMNS  PARTS  SIZE\nhistory     9     8        1",
            "TABLE  KIND   TIMES  LAST STEP  ROWS  SIZE\ntable  table  1      5          3",
            "ARTIFACT  TYPE   ALIASES  FILES  REFERENCES  TABLES  SIZE\n"
            "model     model  -        1      0           1",
        )
    ]
    assert places == sorted(places)


def test_references_and_saved_files_are_shown(show: Command) -> None:
    """What an artifact only points to is counted; a file that was saved has its name."""
    root = Path(__file__).parent / "golden/version-1/run-20261124_054500-w0rk3rs1"
    _, out, _ = show(root)
    assert "model     model    latest, best  1      1           0" in out
    assert "FILE           SIZE\ncode/train.py  7 B\n" in out


def test_a_run_is_found_by_its_directory_too(run: Layout, show: Command) -> None:
    """A path to a run and an id in a store are the same run."""
    assert show(run.root) == show("k3j9x2ab", "--store", "runs") == show("k3j9x2ab")


def test_programs_get_every_member(run: Layout, show: Command) -> None:
    """The members are those that docs/scripting.md tables."""
    code, out, _ = show("--json", "k3j9x2ab")
    document = json.loads(out)
    assert code == document["exit_code"] == 0
    assert [attempt["exit_code"] for attempt in document["attempts"]] == [None, 0]
    assert document["streams"][0]["columns"][-3:] == ["loss", "ok", "table"]
    assert document["started"] == 1000
    assert (document["lost"], document["damage"], document["torn"]) == ([], [], 0)
    text = (Path(__file__).parents[1] / "docs" / "scripting.md").read_text()
    section = text.partition("## `wandbkeras show --json`")[2].partition("\n## ")[0]
    assert all(f"`{name}" in section for name in document)


def test_what_is_damaged_is_shown_beside_the_rest(run: Layout, show: Command) -> None:
    """All rows are read, so a damaged part is said; the run is shown all the same.

    The exit code is that of damage.
    """
    with flipped(run.part("history", 1, 0, 0), 120):
        code, out, err = show("k3j9x2ab")
        assert json.loads(show("--json", "k3j9x2ab")[1])["exit_code"] == code == 4
    assert "rows     9, last step 8\n" in out
    assert err.startswith("k3j9x2ab: damaged: history/001-000-000.parquet: 104 bytes at offset 92")


def test_a_torn_tail_is_counted(run: Layout, show: Command) -> None:
    """The bytes of a record that a killed process did not finish are said."""
    path = run.journal(0, 0, 0)
    path.write_bytes(path.read_bytes()[:-3])
    assert "bytes of a last record were not finished" in show("k3j9x2ab")[2]


def test_alerts_and_the_traceback_are_shown(
    start: Callable[..., Run], store: Path, show: Command
) -> None:
    """What the script wanted to be told, and the exception that ended it, line by line."""
    run = start()
    run.alert("Loss is NaN", "at step\n7", "ERROR")
    with pytest.raises(ValueError), run:
        raise ValueError("red \x1b[31m")
    code, out, _ = show(run.id, "--store", store)
    assert code == 0
    assert "LEVEL  TITLE        TEXT" in out
    assert "ERROR  Loss is NaN  at step\\n7" in out
    assert "\ntraceback\n  Traceback (most recent call last):\n" in out
    assert "  ValueError: red \\x1b[31m\n" in out
    _, document, _ = show(run.id, "--store", store, "--json")
    shown = json.loads(document)
    assert shown["traceback"].startswith("Traceback")
    assert [alert["title"] for alert in shown["alerts"]] == ["Loss is NaN"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nope"], 3, "runs: no run with id 'nope'"),
        (["runs"], 3, "runs: not a run: expected a run directory or a run id"),
        (["elsewhere/run"], 3, "elsewhere/run: not a run"),
        (["nope", "--store", "elsewhere"], 3, "elsewhere: no such directory"),
        ([], 2, "Missing argument 'RUN'"),
    ],
)
def test_what_is_no_run_is_one_line(
    run: Layout, show: Command, arguments: list[str], code: int, text: str
) -> None:
    """A wrong name is said with what was expected."""
    got, out, err = show(*arguments)
    assert (got, out) == (code, "")
    assert text in err
