"""Killed at random moments and at every durable step: nothing acknowledged is lost, ever."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wandbkeras
from scripts.crash_examination import examine
from scripts.crash_processes import in_a_child
from scripts.crash_writers import CONFIG, RUN_ID, Acknowledged, Tally, settings, values
from tests.disks import KillingDisk, Moment, SteppedDisk
from tests.power_cuts import REFUSED, SEGMENT_BYTES
from wandbkeras.errors import RunExistsError
from wandbkeras.recording import opening
from wandbkeras.recording.opening import open_run
from wandbkeras.recording.recorder import Run
from wandbkeras.store import blobs, process, segments, writer
from wandbkeras.store.layout import run_directory_name

ROOT = Path(__file__).parents[1]
# The row of this number has a table.
TABLE_AT = 2


def script(
    store: Path, disk: SteppedDisk, say: Callable[..., Any], rows: int, run_id: str = RUN_ID
) -> None:
    """Record a run, or an attempt that goes on, with all that makes steps on the disk.

    ``say`` is told what is acknowledged. Nothing happens in the background, so the steps are the
    same each time: what the writer's threads do each second is done in between.
    """
    run = open_run(settings(store, run_id), disk=disk, segment_bytes=SEGMENT_BYTES)
    run.config.update(CONFIG)
    run.sync()
    say(begun=1)
    for number in range(rows):
        if run.step == REFUSED:
            disk.room = 20
        run.log(values(run.step) | (a_table(run) if number == TABLE_AT else {}))
        disk.room = None
        say(rows=run.step)
        if number == rows // 2:
            behind(run)
        if number == 1:
            log_two_files(run, store)
            say(artifacts=1)
    run.sync()
    say(synced=run.step)
    run.finish()
    say(finished=1)


def behind(run: Run) -> None:
    """Do what the threads of the run's writer do each second."""
    assert run._writer is not None
    run._writer.tick()
    run._writer._segments.seal_waiting()


def a_table(run: Run) -> dict[str, Any]:
    return {"t": wandbkeras.Table(["step"], [[run.step]])}


def log_two_files(run: Run, store: Path) -> None:
    """Log one that is copied and one that is given away, which another run may have too."""
    folder = store / "sources"
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_bytes(b"the same in every run")
    (folder / "notes").write_bytes(b"of step %d" % run.step)
    artifact = wandbkeras.Artifact("model", "model")
    artifact.add_file(folder / "weights", adopt=True)
    artifact.add_file(folder / "notes")
    artifact.add(wandbkeras.Table(["step"], [[run.step]]), "table")
    run.log_artifact(artifact)


def record(store: Path, rows: int, kill_at: float, moment: Moment) -> list[tuple[str, bool]]:
    """Run the script until it is killed; return its steps if it is not.

    Of each its name, and whether it writes on in a temporary file.
    """
    disk = KillingDisk(kill_at, moment)
    tally = Tally(store / "acknowledged")

    def say(*, synced: int = 0, artifacts: int = 0, **changes: int) -> None:
        tally.say(**changes)
        if artifacts:
            tally.add_artifact()

    script(store, disk, say, rows)
    return list(zip(disk.done, disk.again, strict=True))


def judge(store: Path) -> list[str]:
    """Return what is wrong with what a killed process left, and with the run that went on."""
    said = Tally.read(store / "acknowledged")
    left = examine(store, said, more=2, skipped=[REFUSED])
    run = open_run(settings(store), disk=KillingDisk(), segment_bytes=SEGMENT_BYTES)
    run.config.update(CONFIG)
    for _ in range(3):
        run.log(values(run.step))
    run.finish()
    said = said._replace(begun=1, rows=run.step, finished=1)
    after = examine(store, said, more=0, skipped=[REFUSED])
    faults = [*left["faults"], *(f"gone on: {fault}" for fault in after["faults"])]
    return [*faults, *(["rows are lost"] if left["lost"] or after["lost"] else [])]


def _kill_and_judge(case: tuple[Path, Path, int, int, Moment]) -> list[str]:
    """Kill the script at one step, in a copy of the ``earlier`` store; return what is wrong."""
    store, earlier, rows, kill_at, moment = case
    shutil.copytree(earlier, store)
    _record_until_killed(store, rows, kill_at, moment)
    try:
        faults = in_a_child(judge, store)
    except RuntimeError as error:
        faults = [str(error)]
    shutil.rmtree(store)
    return [f"killed {moment} step {kill_at} of {store.name}: {fault}" for fault in faults]


def _record_until_killed(store: Path, rows: int, kill_at: int, moment: Moment) -> None:
    """Run the script in another process; it ends earlier if it has fewer steps this time."""
    try:
        in_a_child(record, store, rows, kill_at, moment)
    except RuntimeError as error:
        if "ended with status 9" not in str(error):
            raise


def kill_at_every_step(folder: Path) -> dict[str, Any]:
    """Kill a new run and a resumed one at each of their steps; return steps and faults.

    But for those that write on in a temporary file, which no reader opens: one before stands for
    all. This is for a process of its own, that has imported everything and has no threads: each
    case is a fork of it.
    """
    writer.SYNC_SECONDS = 1e6
    segments.SEAL_SECONDS = 0.0  # each time that the writer's threads do something
    opening._PATIENCE_S = 0.05
    blobs.SHARED_BYTES = 1
    neighbour, crashed = folder / "neighbour", folder / "crashed"
    neighbour.mkdir()
    in_a_child(script, neighbour, KillingDisk(), void, 3, "neighbour")
    shutil.copytree(neighbour, crashed)
    steps: list[str] = []
    cases: list[tuple[Path, Path, int, int, Moment]] = []
    for name, earlier, rows in (("new", neighbour, 8), ("resumed", crashed, 3)):
        whole = folder / name
        shutil.copytree(earlier, whole)
        names = in_a_child(record, whole, rows, 1e9, "before")
        steps += [step for step, _ in names]
        for number, (step, again) in enumerate(names):
            # After a step is before the next one, and within a write is before it and a bit more.
            moment: Moment = "within" if step == "write" else "before"
            if not again:
                cases.append((folder / f"{name}-{number}", earlier, rows, number, moment))
        if name == "new":
            _record_until_killed(crashed, rows, len(names) * 2 // 3, "within")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        faults = [f for found in pool.imap_unordered(_kill_and_judge, cases) for f in found]
    return {"steps": Counter(steps), "cases": len(cases), "faults": faults}


def void(**_: Any) -> None:
    """Hear what is acknowledged, and forget it."""


def in_a_forking_process(function: Callable[[Path], Any], folder: Path) -> Any:
    """Return what ``function`` of a test module returns in a process without threads."""
    module = function.__module__.removeprefix("tests.")
    code = (
        f"import json, pathlib, sys\nfrom tests.{module} import {function.__name__} as do\n"
        "print(json.dumps(do(pathlib.Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, str(folder.resolve())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_at_every_step_a_run_has_what_it_acknowledged_and_goes_on(tmp_path: Path) -> None:
    """Before each step on the disk and in the middle of each write, of a new and a resumed run."""
    found = in_a_forking_process(kill_at_every_step, tmp_path)
    assert found["faults"] == []
    every = {name for name in vars(SteppedDisk) if name[0] != "_" and name != "step"}
    assert set(found["steps"]) == every
    assert found["cases"] > 200


def test_killed_at_random_moments_writers_lose_nothing() -> None:
    """The short version of ``scripts/crash --trials 1000``; it has a real ``fit`` too."""
    command = [sys.executable, "scripts/crash.py", "--trials", "25", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^(\D+?) +([\d,]+)$", done.stdout, re.MULTILINE))
    assert (figures["rows lost"], figures["runs not resumable"]) == ("0", "0")
    assert figures["trials"] == "25"
    assert int(figures["kills"]) >= 20
    assert int(figures["rows acknowledged"].replace(",", "")) > 1_000


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    """The comparison that the tests stand on notices a lost row, a wrong one, and an extra one."""
    with open_run(settings(tmp_path)) as run:
        run.config.update(CONFIG)
        for step in range(5):
            run.log(values(step))

    def found(**changes: Any) -> tuple[int, int]:
        said = Acknowledged(begun=1, rows=5, artifacts=0, finished=1)
        seen = examine(tmp_path, said._replace(**changes), more=0)
        return seen["lost"], len(seen["faults"])

    assert found() == (0, 0)
    assert found(rows=7) == (2, 0)
    assert found(rows=4) == (0, 1)
    assert found(artifacts=1) == (0, 1)
    with open_run(settings(tmp_path)) as run:
        run.log({"n": 17, "loss": 0.5})
    assert found(rows=6) == (1, 0)


def _half_made(store: Path) -> Path:
    """Leave the directory of a run that was killed before it had a ``run.json``."""
    root = store / run_directory_name(RUN_ID, 1_000.0)
    root.mkdir(parents=True)
    (root / ".run.json.0badcafe.tmp").write_bytes(b"{")
    return root


def test_a_run_killed_before_it_was_one_is_begun_anew(
    store: Path, start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is not taken for ever: what it left is put aside, after a while."""
    monkeypatch.setattr(opening, "_PATIENCE_S", 0.05)
    root = _half_made(store)
    run = start(id=RUN_ID, resume="allow")
    run.finish()
    assert not root.exists()
    (found,) = wandbkeras.Store(store).runs()
    assert found.path == Path(run.dir or "")


def test_a_directory_that_holds_something_else_is_left_alone(
    store: Path, start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in the way of a new run is refused by name, not moved."""
    monkeypatch.setattr(opening, "_PATIENCE_S", 0.05)
    root = _half_made(store)
    (root / "history").mkdir()
    (root / "history" / "000-000-000.parquet").write_bytes(b"somebody's")
    with pytest.raises(RunExistsError, match="is there and is not a run of this id"):
        start(id=RUN_ID, resume="allow")
    assert (root / "history" / "000-000-000.parquet").exists()


@pytest.mark.parametrize("seam", ["_boot_id", "_pid_namespace"])
def test_a_launch_does_not_outlive_its_machine(seam: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the next boot, or in a restarted container, the same parent's number is another's.

    Else a run that goes on at once would take itself for a second worker of the killed one.
    """
    before = process.describe_process()["launch"]
    assert process.describe_process()["launch"] == before
    monkeypatch.setattr(process, seam, lambda: "another")
    assert process.describe_process()["launch"] != before
