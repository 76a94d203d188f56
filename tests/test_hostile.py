"""A run directory from a stranger is refused with one line; nothing outside of it is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.damage import copy, record
from tests.hostile import CASES
from wandbkeras.errors import DamagedError
from wandbkeras.store.layout import Layout

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

    def path(self, case: str) -> Path:
        return self.directory / str(list(CASES).index(case)) / NAME

    def run(self, case: str) -> dict[str, Any]:
        found: dict[str, Any] = self.found[str(self.path(case))]
        return found


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return record(tmp_path_factory.mktemp("sound") / NAME)


@pytest.fixture(scope="module")
def audited(sound: Layout, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """Make every case and read them all, each in every way."""
    directory = tmp_path_factory.mktemp("hostile")
    paths = []
    for number, (change, _) in enumerate(CASES.values()):
        layout = copy(sound, directory / str(number) / NAME)
        outside = directory / f"outside-{number}"
        outside.mkdir()
        change(layout, outside)
        paths.append(layout.root)
    done = subprocess.run(
        [sys.executable, "-m", "tests.audited", sound.root, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    return Audited(directory, said["runs"], said["peak_bytes"])


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_no_one_recorded_is_refused(audited: Audited, case: str) -> None:
    """Reading it strictly ends with one line, which names the trouble, and exit code 4."""
    outcome = audited.run(case)["strictly"]
    assert outcome["class"] == "ours", outcome
    assert outcome["exit_code"] == DamagedError.exit_code, outcome
    assert CASES[case][1] in outcome["message"]


@pytest.mark.parametrize("case", CASES)
def test_no_way_of_reading_leaves_the_run(audited: Audited, case: str) -> None:
    """Nothing outside is opened, nothing is written, and no exception but ours comes out."""
    found = audited.run(case)
    store = audited.path(case).parent
    ways = {name: outcome for name, outcome in found.items() if name != "opened"}
    assert {outcome["class"] for outcome in ways.values()} <= {"ours", None}, ways
    strangers = [line for line in found["opened"] if not _is_inside(line, store)]
    assert strangers == []


def _is_inside(line: str, store: Path) -> bool:
    """Whether a line of the audit is about the run, or about the process that reads it."""
    event, _, name = line.partition(" ")
    # A path that the reader put together; that no link is followed in it, ``tree`` shows.
    inside = name == str(store) or name.startswith(f"{store}/")
    return event in ("open", "list") and (inside or name.startswith("/proc/"))


def test_memory_is_bounded(audited: Audited) -> None:
    """No bomb unfolds."""
    assert audited.peak_bytes < PEAK_BYTES
