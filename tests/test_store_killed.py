"""Killed at any moment: every row whose ``log`` returned is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wandbkeras
from tests.strategies import canonical
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import STREAMS, Layout
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.seal import seal

_LOG_FOR_EVER = """
import os, sys, wandbkeras
run = wandbkeras.init(dir=sys.argv[1], id=sys.argv[2], config={"lr": 0.1})
step = 0
while True:
    run.log({"loss": 1 / (step + 1), "n": step, "h": wandbkeras.Histogram([step])})
    os.write(1, b"%d\\n" % step)
    step += 1
"""


def test_every_acknowledged_row_survives_sigkill(tmp_path: Path) -> None:
    """Processes killed in the middle of logging lost nothing, and their runs are crashed."""
    arguments = [sys.executable, "-c", _LOG_FOR_EVER, str(tmp_path)]
    processes = {
        name: subprocess.Popen([*arguments, name], stdout=subprocess.PIPE)
        for name in ("early", "later", "late")
    }
    for process, rows in zip(processes.values(), (1, 3_000, 20_000), strict=True):
        assert process.stdout is not None
        for _ in range(rows):
            assert process.stdout.readline()
        process.kill()
    for name, process in processes.items():
        rest, _ = process.communicate()
        run = wandbkeras.Store(tmp_path).run(name)
        logged = list(run.rows())
        assert run.state == "crashed"
        assert run.exit_code is None
        assert run.config == {"lr": 0.1}
        assert [row.step for row in logged] == list(range(len(logged)))
        assert all(row.values["n"] == row.step for row in logged)
        assert all(row.values["loss"] == 1 / (row.step + 1) for row in logged)
        assert all(row.values["h"]["stats"]["max"] == row.step for row in logged)
        # What the pipe still held was acknowledged; a last line may be cut by the kill.
        acknowledged = rest.split(b"\n")[-2] if rest.count(b"\n") else b"0"
        assert len(logged) > int(acknowledged)
        assert run.damage == []


# One process imports, then forks one child a step: no thread has run when it forks.
_KILLED_AT_EVERY_STEP = """
import os, pathlib, signal, sys
import pyarrow.parquet
from wandbkeras.store import columns, parquet
from tests.disks import InterruptedDisk
from wandbkeras.store import document, seal
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.schema import ArtifactVersion, RunInfo
from wandbkeras.store.writer import RunWriter

pyarrow.array([1])  # loads pandas where there is one: once here, not in each child
HISTOGRAM = {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}

def record(root, steps):
    disk = InterruptedDisk(steps, lambda step: os.kill(os.getpid(), signal.SIGKILL))
    layout = Layout(root)
    process = {**describe_process(), "from_step": 0}
    writer = RunWriter(layout, process, disk=disk, segment_bytes=1_000)
    writer.event("config", {"update": {"lr": 0.1}, "remove": []})
    source = root.with_suffix(".source")
    source.write_bytes(b"weights")
    acknowledged = root.with_suffix(".acknowledged").open("ab", buffering=0)
    for step in range(8):
        values = {"loss": step / 2, "w": HISTOGRAM}
        writer.history(step, float(step), float(step), values, complete=True)
        acknowledged.write(b"r")
        if step == 4:
            file = writer.files.add(source)
            writer.artifact(ArtifactVersion("model", "model", files={"model.keras": file}))
            acknowledged.write(b"a")
    writer.close(0, 8.0)
    acknowledged.write(b"f")
    return disk.done

def in_a_child(steps):
    root = pathlib.Path(sys.argv[1]) / f"run-{steps}"
    root.mkdir()
    document.write(Disk(), root / "run.json", RunInfo("k3j9x2ab", 0.0).to_document())
    child = os.fork()
    if not child:
        done = record(root, steps)
        root.with_suffix(".steps").write_text(str(done))
        os._exit(0)
    return child

os.waitpid(in_a_child(10_000), 0)
total = int((pathlib.Path(sys.argv[1]) / "run-10000.steps").read_text())
living = set()
for steps in range(total):
    living.add(in_a_child(steps))
    if len(living) == 8:
        living.discard(os.wait()[0])
for child in living:
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The directories of one run killed before each of its steps, the last one not killed."""
    directory = tmp_path_factory.mktemp("killed")
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", _KILLED_AT_EVERY_STEP, str(directory)], cwd=root, check=True
    )
    roots = [path for path in directory.iterdir() if path.is_dir()]
    return sorted(roots, key=lambda path: int(path.name.removeprefix("run-")))


def _acknowledged(root: Path) -> str:
    path = root.with_suffix(".acknowledged")
    return path.read_text() if path.exists() else ""


def test_killed_at_any_step_a_run_has_all_that_was_acknowledged(killed: list[Path]) -> None:
    """At every durable step of recording and sealing, what had been acknowledged is read."""
    assert len(killed) > 60
    for root in killed:
        run, said = StoredRun(root), _acknowledged(root)
        rows = [(row.step, row.values["loss"]) for row in run.rows()]
        assert len(rows) >= said.count("r")
        assert rows == [(step, step / 2) for step in range(len(rows))]
        assert run.histograms()["_step"].to_pylist() == list(range(len(rows)))
        assert len(run.artifacts) >= said.count("a")
        for version in run.artifacts:
            (file,) = version.files.values()
            assert run.blob(file.sha256).read_bytes() == b"weights"
        assert run.state in (("finished",) if "f" in said else ("crashed", "finished"))
        assert run.damage == []
    assert _acknowledged(killed[-1]).endswith("f")


def test_a_run_killed_at_any_step_is_sealed_by_another_process(killed: list[Path]) -> None:
    """Sealing after the kill keeps everything and leaves one part a stream."""
    for root in killed:
        layout = Layout(root)
        segments = layout.segment_numbers(0, 0)
        if not segments:
            continue
        before = canonical([[r.step, r.values] for r in StoredRun(root).rows()])
        summary = StoredRun(root).summary
        seal(Disk(), layout, 0, 0, before=segments[-1] + 1, compact=True)
        assert canonical([[r.step, r.values] for r in StoredRun(root).rows()]) == before
        assert StoredRun(root).summary == summary
        assert layout.segment_numbers(0, 0) == []
        for stream in STREAMS:
            assert len(layout.part_files(stream, 0, 0)) <= 1
