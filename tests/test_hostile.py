"""A run directory from a stranger is refused with one line; nothing outside of it is touched."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import hostile, hostile_tables
from tests.damage import copy, record
from tests.server.process import LoopbackServer
from tests.syncing import ENTITY, PROJECT, connect, sync
from wandbkeras.errors import DamagedError
from wandbkeras.store.layout import Layout

CASES = {**hostile.CASES, **hostile_tables.CASES}
ROOT = Path(__file__).parent.parent
NAME = "run-20261123_054500-k3j9x2ab"
# Beside what the sound run takes: a bomb may unfold that far before it is seen for one.
PEAK_BYTES = 1_500_000_000


@dataclass(frozen=True)
class Audited:
    """What reading every case gave, in a process of its own."""

    directory: Path
    found: dict[str, Any]
    peak_bytes: int
    outside: dict[str, Any]

    def path(self, case: str) -> Path:
        return self.directory / str(list(CASES).index(case)) / NAME

    def run(self, case: str) -> dict[str, Any]:
        found: dict[str, Any] = self.found[str(self.path(case))]
        return found

    def strangers(self, case: str, kind: str) -> list[str]:
        """What the ``kind`` of ways opened or changed that is not of the run."""
        store = self.path(case).parent
        return [line for line in self.run(case)[kind]["touched"] if not _is_inside(line, store)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return record(tmp_path_factory.mktemp("sound") / NAME)


@pytest.fixture(scope="module")
def audited(sound: Layout, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """Make every case; read each in every way, repair it and go on with it."""
    directory = tmp_path_factory.mktemp("hostile")
    paths = []
    for number, (change, _) in enumerate(CASES.values()):
        layout = copy(sound, directory / str(number) / NAME)
        outside = directory / "outside" / str(number)
        outside.mkdir(parents=True)
        change(layout, outside)
        paths.append(layout.root)
    before = _tree(directory / "outside")
    warm = copy(sound, directory / "sound" / NAME)
    done = subprocess.run(
        [sys.executable, "-m", "tests.audited", warm.root, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    after = _tree(directory / "outside")
    changed = {name: after.get(name) for name in before | after if before.get(name) != after[name]}
    return Audited(directory, said["runs"], said["peak_bytes"], changed)


def _tree(root: Path) -> dict[str, Any]:
    """What lies below a directory, and when it was last written."""
    found = {path.relative_to(root).as_posix(): path.lstat() for path in root.rglob("*")}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_no_one_recorded_is_refused(audited: Audited, case: str) -> None:
    """Reading it strictly ends with one line, which names the trouble, and exit code 4."""
    outcome = audited.run(case)["read"]["outcomes"]["strictly"]
    assert outcome["class"] == "ours", outcome
    assert outcome["exit_code"] == DamagedError.exit_code, outcome
    assert CASES[case][1] in outcome["message"]
    assert "\n" not in outcome["message"]


@pytest.mark.parametrize("case", CASES)
def test_no_way_of_reading_leaves_the_run(audited: Audited, case: str) -> None:
    """Nothing outside is opened, nothing is written, and no exception but ours comes out."""
    outcomes = audited.run(case)["read"]["outcomes"]
    assert {outcome["class"] for outcome in outcomes.values()} <= {"ours", None}, outcomes
    changes = [line for line in audited.run(case)["read"]["touched"] if _event(line) not in READS]
    assert changes == audited.strangers(case, "read") == []


@pytest.mark.parametrize("case", CASES)
def test_no_change_leaves_the_run(audited: Audited, case: str) -> None:
    """Repaired or gone on with, it is changed inside, if it is not refused."""
    outcomes = audited.run(case)["changed"]["outcomes"]
    assert {outcome["class"] for outcome in outcomes.values()} <= {"ours", None}, outcomes
    assert audited.strangers(case, "changed") == []


def test_what_links_lead_to_is_as_it_was(audited: Audited) -> None:
    """No file outside of the runs was written, made or removed, by whatever path."""
    assert audited.outside == {}


READS = ("open", "list")


def _event(line: str) -> str:
    return line.partition(" ")[0]


def _is_inside(line: str, store: Path) -> bool:
    """Whether a line of the audit is about the run, or about the process that reads it."""
    # A path that the reader put together; that no link is followed in it, the tree outside shows.
    name = line.partition(" ")[2]
    inside = name == str(store) or name.startswith(f"{store}/")
    return inside or (_event(line) in READS and name.startswith("/proc/"))


def _make(sound: Layout, case: str, directory: Path) -> Path:
    """Make a case in a directory of its own; return the run."""
    layout = copy(sound, directory / "store" / NAME)
    outside = directory / "outside"
    outside.mkdir()
    CASES[case][0](layout, outside)
    return layout.root


def test_nothing_is_uploaded(
    sound: Layout, wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever leads out of a run, or names what lies outside, ``sync`` refuses before it sends."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    # The events it needs not, and does not read.
    leads_out = re.compile(r"(?!events).*(link|pipe|device|/|\.\.|out)")
    cases = [case for case in CASES if leads_out.match(case)]
    assert len(cases) > 80
    paths = [_make(sound, case, tmp_path / str(n)) for n, case in enumerate(cases)]
    for case, result in zip(cases, sync(*paths), strict=True):
        assert (result.outcome, result.exit_code) == ("failed", DamagedError.exit_code), case
    assert wandb_server.run_ids(ENTITY, PROJECT) == []
    (result,) = sync(copy(sound, tmp_path / "sound" / NAME).root)
    assert result.outcome == "verified"
    assert wandb_server.run_ids(ENTITY, PROJECT) == [result.run_id]


def test_memory_is_bounded(audited: Audited) -> None:
    """No bomb unfolds."""
    assert audited.peak_bytes < PEAK_BYTES
