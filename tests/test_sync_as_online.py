"""A whole program, logged online by wandb and offline by ours: what the server holds is compared.

All of it: each place of the dump is equal, or named in the list of docs/sync.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import QUIET
from tests.server.dump import dump
from tests.server.process import ROOT, LoopbackServer
from tests.syncing import COMMAND, ENTITY, PROJECT
from tests.whole_program import EXIT_CODE, RUN_ID
from wandbkeras import StoredRun

DOCUMENT = ROOT / "docs" / "sync.md"
NOTHING = object()


@dataclass(frozen=True)
class Both:
    """What the server holds of the program's run, online and ours, and our run itself."""

    online: dict[str, Any]
    ours: dict[str, Any]
    stored: StoredRun

    @property
    def differing(self) -> dict[str, tuple[Any, Any]]:
        """The places at which they are not the same, bit for bit and type for type."""
        places = dict.fromkeys((*self.online, *self.ours))
        values = {p: (self.online.get(p, NOTHING), self.ours.get(p, NOTHING)) for p in places}
        return {p: (a, b) for p, (a, b) in values.items() if repr(a) != repr(b)}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The program, both ways at the same time, each with a server of its own."""
    root = tmp_path_factory.mktemp("both")
    with LoopbackServer(root / "theirs").start() as theirs, LoopbackServer(root / "ours") as ours:
        programs = [play(root, theirs, "wandb"), play(root, ours, "wandbkeras")]
        assert [program.wait() for program in programs] == [EXIT_CODE, EXIT_CODE]
        work = root / "in wandbkeras"
        arguments = [COMMAND, "sync", "store", "--timeout", "30", "--quiet"]
        subprocess.run(arguments, cwd=work, env=environ(root, ours), check=True)
        assert theirs.violations() == ours.violations() == []
        (run,) = (work / "store").iterdir()
        dumps = [dump(server.directory, ENTITY, PROJECT, RUN_ID) for server in (theirs, ours)]
    return Both(*dumps, StoredRun(run))


def environ(root: Path, server: LoopbackServer) -> dict[str, str]:
    """As it is for a user: the console is captured, and the machine is watched."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    # The diff of whoever works on these tests is none of theirs.
    found = server.environ(root / "home") | {"PYTHONPATH": path, "WANDB_SAVE_CODE": "false"}
    return {name: value for name, value in found.items() if name not in {"WANDB_CONSOLE", *QUIET}}


def play(root: Path, server: LoopbackServer, module: str) -> subprocess.Popen[bytes]:
    """Start the program in a directory of its own, with the files that it needs."""
    work = root / f"in {module}"
    (work / "deep").mkdir(parents=True)
    (work / "notes.txt").write_text("größe\n")
    for name in ("a", "b"):
        (work / "deep" / f"{name}.json").write_text(f'["{name}"]')
    for grey, name in enumerate(("digit.png", "other.png")):
        Image.fromarray(np.full((4, 5), grey, np.uint8)).save(work / name)
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.whole_program", module, "store"],
        cwd=work,
        env=environ(root, server),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def allowed() -> list[str]:
    """The patterns of the list in the document: its rows that begin with nothing else."""
    text = DOCUMENT.read_text()
    section = text.split("\n## What differs from an online run\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ((?:`[^`]+` ?)+) \|", section, re.MULTILINE)
    return [pattern for row in rows for pattern in re.findall(r"`([^`]+)`", row)]


def test_nothing_differs_but_what_the_document_lists(both: Both) -> None:
    """Rows, summary, config, files, artifacts, lineage, tags, notes, state, exit code and all."""
    assert len(both.online) > 1_000
    surprises = {
        place: values
        for place, values in both.differing.items()
        if not any(fnmatchcase(place, pattern) for pattern in allowed())
    }
    assert surprises == {}


def test_all_that_the_document_lists_differs(both: Both) -> None:
    """So the list allows no more than what is seen."""
    places = both.differing
    idle = [p for p in allowed() if not any(fnmatchcase(place, p) for place in places)]
    # Whole seconds: two programs may take the same.
    idle = [pattern for pattern in idle if pattern != "*/_wandb/runtime"]
    assert idle == []


def test_the_times_are_those_of_the_recording(both: Both) -> None:
    """The server holds when the program logged, not when sync sent it; and how long it ran."""
    ours, stored = both.ours, both.stored
    for number, row in enumerate(stored.rows()):
        place = f"wandb-history.jsonl/{number}"
        assert ours[f"{place}/_timestamp"] == row.timestamp
        assert ours[f"{place}/_runtime"] == row.runtime
    assert ours["run/summary/_timestamp"] == row.timestamp
    assert ours["run/summary/_wandb/runtime"] == int(stored.folded.runtime)
