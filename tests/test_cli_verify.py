"""``wandbkeras verify`` and ``wandbkeras repair``: what is said, and the exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandbkeras_cli.main import main

from tests.damage import copy, record
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.writer import RunWriter

NAME = "run-20261123_054500-k3j9x2ab"
HISTORY = "history/001-000-000.parquet"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return record(tmp_path_factory.mktemp("cli") / NAME)


@pytest.fixture
def run(recorded: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A copy in the store ``runs`` of the current directory."""
    monkeypatch.chdir(tmp_path)
    copy(recorded, tmp_path / "runs" / NAME)
    return Layout(Path("runs") / NAME)


@pytest.fixture
def wandbkeras(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; return exit code, standard output and standard error."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wandbkeras", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command


def _flip(layout: Layout, name: str, offset: int) -> None:
    path = layout.root / name
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def _json(said: tuple[int, str, str]) -> Any:
    code, out, _ = said
    document = json.loads(out)
    assert document["exit_code"] == code
    return document["runs"]


def test_a_sound_run_is_one_line(run: Layout, wandbkeras: Command) -> None:
    """The default is the store `runs`, the exit code 0, and nothing goes to standard error."""
    code, out, err = wandbkeras("verify")
    assert (code, err) == (0, "")
    assert out.startswith(f"{run.root}: sound: 12 files, ")
    assert out.count("\n") == 1


def test_a_damaged_run_is_a_line_a_place(run: Layout, wandbkeras: Command) -> None:
    """Each place has its file and offset, and the last line the command that goes on from there."""
    _flip(run, HISTORY, 120)
    _flip(run, "run.json", 20)
    code, out, _ = wandbkeras("verify", run.root)
    first, second, last = out.splitlines()
    assert code == 4
    assert first.startswith(f"{run.root}/run.json: ")
    assert second.startswith(f"{run.root}/{HISTORY}: 104 bytes at offset 92: column '_timestamp'")
    assert "damaged: 2 places in 12 files" in last
    assert f"wandbkeras repair --dry-run {run.root}" in last


def test_programs_get_one_document(run: Layout, wandbkeras: Command) -> None:
    """The members are those that docs/scripting.md tables, of sound runs and damaged ones."""
    (sound,) = _json(wandbkeras("verify", "--json"))
    assert (sound["sound"], sound["damage"], sound["error"]) == (True, [], None)
    _flip(run, HISTORY, -1)
    (found,) = _json(wandbkeras("verify", "--json"))
    (damage,) = found["damage"]
    assert (found["sound"], damage["path"], damage["rows"]) == (False, HISTORY, 6)
    text = (Path(__file__).parents[1] / "docs" / "scripting.md").read_text()
    section = text.partition("## `wandbkeras verify --json`")[2].partition("\n## ")[0]
    assert all(f".{name}" in section for name in found)
    assert all(f"`{name}`" in section for name in damage)


def test_a_run_is_repaired_and_what_was_lost_is_said_from_then_on(
    run: Layout, wandbkeras: Command
) -> None:
    """Verify, show and ls say what was lost once a run is sound again."""
    _flip(run, HISTORY, -1)
    code, out, _ = wandbkeras("repair", "--dry-run", "runs")
    assert (code, out.splitlines()[-1]) == (4, "k3j9x2ab: can be repaired: 3 rows kept, 6 lost")
    code, out, _ = wandbkeras("repair", "runs")
    assert code == 0
    assert out.splitlines()[-1] == (
        f"k3j9x2ab: repaired: 3 rows kept, 6 lost; the originals are in {run.root}/damaged"
    )
    assert wandbkeras("repair", "runs") == (0, "k3j9x2ab: sound: nothing to repair\n", "")
    code, out, _ = wandbkeras("verify")
    assert (code, out.splitlines()[-1].endswith("; 1 place lost earlier")) == (0, True)
    assert "1 damaged place lost" in wandbkeras("ls")[2]
    assert f"lost: {HISTORY}" in wandbkeras("show", "k3j9x2ab")[2]


def test_rows_that_a_damaged_journal_held_are_not_called_none(
    run: Layout, wandbkeras: Command
) -> None:
    """How many they were nobody knows; between which steps they were is said."""
    _flip(run, "attempts/000/journal-000-000.wbk", -150)
    _, out, _ = wandbkeras("repair", "--dry-run", run.root)
    *places, last = out.splitlines()
    assert places[0].endswith("after step 0, before step 2")
    rows = "8 rows kept, those in the damaged bytes of the journal lost"
    assert last == f"k3j9x2ab: can be repaired: {rows}"


def test_a_repair_for_programs(run: Layout, wandbkeras: Command) -> None:
    """Damage to a journal says that its rows are not counted; lost artifacts are named."""
    _flip(run, "attempts/000/journal-000-000.wbk", -1)
    _flip(run, "artifacts/001-000-0000.json", 5)
    (done,) = _json(wandbkeras("repair", "--json", "runs"))
    assert (done["sound"], done["rows_kept"], done["rows_lost_is_exact"]) == (True, 8, False)
    assert len(done["artifacts_lost"]) == 1
    assert len(done["moved"]) == len(done["damage"]) == 2
    text = (Path(__file__).parents[1] / "docs" / "scripting.md").read_text()
    section = text.partition("## `wandbkeras repair --json`")[2]
    assert all(f".{name}" in section for name in done)


def test_one_run_never_holds_up_the_others(
    run: Layout, recorded: Layout, wandbkeras: Command
) -> None:
    """The highest exit code wins, and every run is looked at."""
    _flip(run, HISTORY, 120)
    copy(recorded, run.root.with_name("run-20261124_000000-other"))
    newer = copy(recorded, run.root.with_name("run-20261125_000000-newer"))
    text = newer.info.read_text().replace('"version": 1', '"version": 2')
    newer.info.write_text(text)
    runs = _json(wandbkeras("verify", "--json"))
    assert [entry.get("sound") for entry in runs] == [False, True, False]
    code, out, _ = wandbkeras("repair", "runs")
    assert code == 0
    assert out.count("k3j9x2ab: repaired") == 2


def test_a_running_run_is_not_repaired(layout: Layout, wandbkeras: Command) -> None:
    """It is said in one line, and the exit code is that of a store that can't be used."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0})
    code, out, err = wandbkeras("repair", layout.root)
    writer.abandon()
    assert (code, out) == (3, "")
    assert err == f"wandbkeras: {layout.root}: still running: repair it once it has ended\n"


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_what_is_no_run_is_one_line(tmp_path: Path, wandbkeras: Command, command: str) -> None:
    """A wrong path is said with what was expected there, and programs are told as well."""
    code, out, err = wandbkeras(command, tmp_path / "nowhere")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "no such directory: expected a store" in err
    code, out, _ = wandbkeras(command, "--json", tmp_path)
    assert json.loads(out)["error"]["class"] == "NotFoundError"


@pytest.mark.parametrize("command", ["verify", "repair", "show"])
def test_help_has_an_example(wandbkeras: Command, command: str) -> None:
    """Whoever asks is shown a line to copy."""
    code, out, _ = wandbkeras(command, "--help")
    assert code == 0
    assert f"Example:\n    wandbkeras {command} " in out
