"""Make the golden runs of the present format version: `python -m scripts.golden`.

Those that are there stay: once a version is released its runs are never made again, because later
versions must read them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import wandbkeras
from tests import damage
from tests.test_format import record_tables
from tests.test_golden import GOLDEN, described
from wandbkeras.recording.attempt import Begun
from wandbkeras.recording.recorder import Run
from wandbkeras.store import document
from wandbkeras.store.console import ConsoleFiles, Line
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import FORMAT_VERSION, ArtifactVersion, Reference, RunInfo
from wandbkeras.store.writer import RunWriter

INFO = RunInfo("w0rk3rs1", 1795499100.0, project="digits", group="g", notes='a "note"\n')


def main() -> int:
    folder = GOLDEN / f"version-{FORMAT_VERSION}"
    sys.argv = ["train.py"]  # what the run says of its program
    for name, record in RECORD.items():
        root = folder / name
        if root.exists():
            print(f"{root} is there already: remove it only if this version was never released")
            continue
        record(root)
        text = json.dumps(described(root), indent=2, ensure_ascii=False, sort_keys=True)
        root.with_name(f"{name}.json").write_text(f"{text}\n")
    return 0


def record_one_of_each(root: Path) -> None:
    """A run that was killed elsewhere, and finished by a second attempt."""
    damage.record(root)
    root.with_suffix(".source").unlink()


def record_two_writers(root: Path) -> None:
    """An attempt of two processes that were killed, then one that goes on from an earlier step."""
    layout = Layout(root)
    root.mkdir(parents=True)
    document.write(Disk(), layout.info, INFO.to_document())
    chief, other = _writer(layout, from_step=0), _writer(layout, from_step=None, attempt=0)
    chief.event("config", {"update": {"lr": 0.1, "layers": [64, {"é": None}]}, "remove": []})
    chief.event("metric", {"name": "loss", "summary": ["min", "mean"], "goal": "minimize"})
    chief.event("metric", {"name": "val.*", "summary": ["max"], "step_metric": "epoch"})
    for step in range(6):
        chief.history(step, 1000.0 + step, float(step), {"loss": 1 / (step + 1)}, complete=False)
        values = {"epoch": step // 2, "val.acc": step / 8, "big": 2**53 + step}
        chief.history(step, 1000.5 + step, step + 0.5, values, complete=True)
        other.history(
            step, 1000.25 + step, step + 0.25, {"loss": 9.0, "worker": "é"}, complete=True
        )
    _keep_files(chief, root.with_suffix(".source"))
    for writer in (chief, other):
        printed = ConsoleFiles(Disk(), layout, 0, writer.number, 1_000_000)
        printed.write([Line(0, "stdout", 1900.0, " 10%"), Line(0, "stdout", 1901.0, "100%")])
        printed.write([Line(1, "stderr", 1902.0, f"größe {writer.number}")])
        printed.close()
        writer.abandon()
    with layout.journal(0, 0, 0).open("ab") as file:
        file.write(b"\x40\0\0\0torn")
    earlier = StoredRun(root)
    resume = earlier.state_before(3).to_resume_body()
    writer = _writer(layout, from_step=3, resume=resume)
    run = Run(Begun(INFO, writer, first_step=3, earlier=earlier))
    run.log({"loss": 0.125, "big": 0.5, "val.acc": None, "any": [1, {"a": float("nan")}]})
    run.log({"loss": float("-inf"), "w": wandbkeras.Histogram([0.0, 1.0, float("nan")])})
    record_tables(run)
    run.summary["best"] = float("inf")
    run.finish(3)


def _keep_files(writer: RunWriter, source: Path) -> None:
    """Keep a file, and two versions of an artifact, one of which is dropped."""
    source.write_bytes(b"weights")
    file = writer.files.add(source)
    source.unlink()
    writer.event("file", {"path": "code/train.py", **asdict(file)})
    references = {"data": Reference("s3://bucket/data.npz", "s3://bucket/data.npz", 7)}
    for aliases in (("latest",), ("latest", "best")):
        writer.artifact(
            ArtifactVersion("model", "model", aliases, "é", {}, {"m": file}, references)
        )
    writer.event("artifact_dropped", {"manifest": "000-000-0000.json"})


def _writer(layout: Layout, *, from_step: int | None, **arguments: object) -> RunWriter:
    process = {**describe_process(), "host": "elsewhere", "launch": "x", "from_step": from_step}
    clock = iter(range(1000 + (from_step or 0), 10_000)).__next__
    return RunWriter(layout, {**process, "run": asdict(INFO)}, clock=clock, **arguments)


RECORD = {
    "run-20261123_054500-k3j9x2ab": record_one_of_each,
    "run-20261124_054500-w0rk3rs1": record_two_writers,
}

if __name__ == "__main__":
    sys.exit(main())
