"""docs/format.md is enough: a reader and a writer that know nothing else agree with the package."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wandbkeras
from tests import strategies
from tests.disks import InterruptedDisk
from tests.format_contents import LINE
from tests.format_damage import Run, parse_segment, read_run
from tests.format_reader import MAGIC, UnreadableError, parse_document
from tests.strategies import canonical
from wandbkeras.data_types import Mask
from wandbkeras.errors import NewerFormatError
from wandbkeras.store import writer as writer_module
from wandbkeras.store.disk import Disk
from wandbkeras.store.journal_reader import read_journal
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.repair import repair_run
from wandbkeras.store.schema import RUN_FORMAT
from wandbkeras.store.seal import seal
from wandbkeras.store.tables import StoredTable
from wandbkeras.store.writer import RunWriter

DOCUMENT = Path(__file__).parent.parent / "docs" / "format.md"
Start = Callable[..., wandbkeras.Run]

# A value of each kind, and each way in which two kinds meet in one column.
VALUES: list[dict[str, Any]] = [
    {"loss": 0.5, "n": 1, "s": "a", "ok": True, "mixed": 1, "list": [1, None, float("nan")]},
    {"loss": float("nan"), "n": 2**60, "s": "é", "ok": None, "mixed": "1", "late": None},
    {"loss": float("-inf"), "n": -1, "s": "", "ok": False, "mixed": True, "late": None},
    {"loss": 3, "n": 0.25, "big": 2**63 - 1, "a.b": {"deep": [1.5]}, "": -(2**63)},
    {"w": {"_type": "histogram", "values": [1, 2], "bins": [0.0, 0.5, 1.0]}, "late": 7},
    {"w": wandbkeras.Histogram([0.0, 1.0, float("inf")], num_bins=2).to_value(), "loss": 1.0},
    {"w": 0.125, "late": 0.5, "only none": None},
    {},
]


def test_the_readers_of_the_document_know_nothing_else() -> None:
    """The reader imports nothing of ours, and those beside it only it and each other."""
    readers: dict[str, set[str]] = {
        "reader": set(),
        "contents": {"reader"},
        "state": {"reader", "contents"},
        "damage": {"reader", "contents", "state"},
    }
    for name, ours in readers.items():
        tree = ast.parse((Path(__file__).parent / f"format_{name}.py").read_text())
        nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
        modules |= {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        assert not any(module.startswith("wandbkeras") for module in modules)
        of_tests = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module == "tests"]
        modules |= {f"tests.{alias.name}" for n in of_tests for alias in n.names}
        beside = {module for module in modules if module.startswith("tests.")}
        assert beside == {f"tests.format_{other}" for other in ours}


def independent(root: Path) -> Run:
    return read_run(root, host=platform.node(), now=time.time())


def assert_read_alike(root: Path) -> Run:
    """Both readers find the same run at ``root``; return it."""
    run, stored = independent(root), StoredRun(root)
    rows = [
        (row.step, row.timestamp, row.runtime, row.attempt, row.values) for row in stored.rows()
    ]
    assert canonical(run.rows) == canonical(rows)
    assert run.status == stored.state
    folded = {**stored.folded.to_document(), "summary": stored.summary}
    assert folded.keys() == run.state.keys()
    for name in folded.keys() - {"rows", "metrics", "resumed"}:
        assert canonical(run.state[name]) == canonical(folded[name]), name
    assert canonical(ordered(run.state["metrics"])) == canonical(ordered(folded["metrics"]))
    artifacts = [json.loads(json.dumps(version.to_document())) for version in stored.artifacts]
    assert run.artifacts == artifacts
    assert run.info["id"] == stored.info.id
    damage = [d for view in stored.attempts for d in (*view.manifest.damage, *view.tail.damage)]
    assert sorted(run.damage) == sorted((d.path.as_posix(), d.offset, d.size) for d in damage)
    assert run.torn == sum(view.tail.torn for view in stored.attempts)
    lines = stored.console().select(["_attempt", "_writer", *LINE]).to_pylist()
    assert run.console == [list(line.values()) for line in lines]
    assert canonical(run.tables) == canonical(
        [*tables_of_rows(stored), *tables_of_artifacts(stored)]
    )
    return run


def tables_of_rows(stored: StoredRun) -> Iterator[tuple[str | None, int | None, Any]]:
    for table in stored.tables():
        yield table.key, table.step, cells(table)


def tables_of_artifacts(stored: StoredRun) -> Iterator[tuple[str, int, Any]]:
    for version in stored.artifacts:
        for name, file in version.tables.items():
            yield name, -1, cells(stored.stored_table(file))


def cells(table: StoredTable) -> dict[str, Any]:
    """What the other reader gives of a table."""
    read = table.read().to_pydict()
    found = {}
    for column in table.schema().columns:
        if column.kind == "json":
            read[column.name] = [t if t is None else json.loads(t) for t in read[column.name]]
        described = json.loads(msgspec.json.encode(column))
        gone = [described.pop(name, None) for name in ("name", "caption", "masks")]
        masks = {m.name: (list(map(list, m.labels)), read[m.column]) for m in column.masks}
        captions = read[column.caption] if gone[1] is not None else None
        found[column.name] = (described, read[column.name], captions, masks)
    return found


def ordered(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions in the document's order, their aggregates in any."""
    definitions = [{**d, "summary": sorted(d["summary"])} for d in metrics["definitions"]]
    definitions.sort(key=lambda definition: definition["name"].endswith("*"))
    return {**metrics, "definitions": definitions}


def logged(run: Run) -> list[Any]:
    return [canonical(row[4]) for row in run.rows]


def write_rows(writer: RunWriter, rows: list[dict[str, Any]], first_step: int = 0) -> None:
    for step, values in enumerate(rows, first_step):
        writer.history(step, 1795412700.5 + step, 0.5 * step, dict(values), complete=True)


@pytest.fixture
def open_writer(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunWriter]:
    """Begin an attempt whose background thread leaves sealing to the test."""
    monkeypatch.setattr(writer_module, "SYNC_SECONDS", 3600.0)

    def open_one(process: Mapping[str, Any] = {}, **arguments: Any) -> RunWriter:
        described = {**describe_process(), "from_step": 0, "run": {"id": "k3j9x2ab"}, **process}
        return RunWriter(layout, described, **arguments)

    return open_one


def record_everything(start: Start, directory: Path) -> wandbkeras.Run:
    """Start a run and record one of everything; it is not finished."""
    config = {"lr": 1e-3, "big": 1e16, "small": 1.5e-05, "nested": {"layers": [64, "é\t\x7f\x01"]}}
    run = start(
        project="digits", id="k3j9x2ab", tags=["demo", "x"], notes='a "note"\n', config=config
    )
    run.define_metric("loss", summary="min,mean,last")
    run.define_metric("val.*", summary="max", step_metric="epoch")
    run.define_metric("val.acc", summary="first", goal="maximize")
    run.define_metric("hushed", summary="none")
    for values in VALUES:
        run.log(values)
    run.log({"val.f1": 0.5, "val.acc": 0.5})
    run.log({"epoch": 3, "val": {"acc": 0.5, "f1": 0.25}, "hushed": 1})
    run.log({"val.f1": 0.125, "val.acc": 0.75}, step=20)
    run.log({"hushed": 2, "val.f1": float("nan")}, step=20)
    run.config.update({"lr": 0.1, "gone": 1}, allow_val_change=True)
    del run.config["gone"]
    run.summary["best"] = float("inf")
    run.summary["loss"] = "set by hand"
    del run.summary["n"]
    run.define_metric("loss", summary="max")
    run.log({"loss": 0.25, "n": 5})
    for index in range(2):
        file = directory / "model.keras"
        file.write_bytes(b"weights" * index)
        artifact = wandbkeras.Artifact("model", type="model", metadata={"score": 0.5})
        artifact.add_file(file)
        artifact.add_file(file, "again/model.keras")
        run.log_artifact(artifact, aliases=["best"])
    record_tables(run)
    return run


def record_tables(run: wandbkeras.Run) -> None:
    """Log a column of each kind, images with masks, and a table in an artifact."""
    image = wandbkeras.Image(np.array([[0.0, 0.5], [1.0, float("nan")]]), caption="é")
    image.masks = {"truth": Mask([[0, 300], [1, 2]], {0: "a", 300: "b"})}
    run.log({"images": [image, wandbkeras.Image(np.zeros((1, 1)))], "one": image, "loss": 0.125})
    first = wandbkeras.Table(["x"], [[1], [2]])
    artifact = wandbkeras.Artifact("data", "dataset")
    artifact.add(first, "validation/data")
    run.use_artifact(artifact)
    kinds = {
        "row": wandbkeras.RowColumn(first),
        "class": wandbkeras.ClassColumn({7: "cat", 0: "dog"}),
        **dict.fromkeys(("image", "n", "f", "b", "s", "any", "list", "array", "none")),
    }
    rows = [
        [0, 7, image, 2**62, float("-inf"), True, "é", {"a": [1, None]}, [1, 2], np.eye(2), None],
        [1, 0, None, None, None, None, None, "text", None, np.ones((2, 2)), None],
    ]
    run.log({"a table": wandbkeras.Table(kinds, rows)})


@pytest.mark.parametrize("exit_code", [None, 0, 3])
def test_both_readers_find_the_same_run(
    start: Start, tmp_path: Path, exit_code: int | None
) -> None:
    """A run with one of everything reads alike while it runs, finished, and failed."""
    run = record_everything(start, tmp_path)
    root = Path(run.dir or "")
    if exit_code is not None:
        run.finish(exit_code)
    found = assert_read_alike(root)
    assert found.status == {None: "running", 0: "finished", 3: "failed"}[exit_code]
    assert list((root / "history").glob("*")) if exit_code is not None else not found.torn
    assert found.state["config"]["lr"] == 0.1
    assert found.state["summary"]["best"] == float("inf")
    assert canonical(found.state["summary"]["val.f1"]) == {"max": "a NaN"}
    assert logged(found)[0] == canonical(VALUES[0])
    for version in found.artifacts:
        for file in version["files"].values():
            content = (root / "blobs/sha256" / file["sha256"][:2] / file["sha256"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            assert (hashlib.md5(content).hexdigest(), len(content)) == (file["md5"], file["size"])


def test_a_lost_table_is_lost_to_both_readers(start: Start) -> None:
    """What names it stays in the row, and counts for nothing."""
    run = start(id="k3j9x2ab")
    record_tables(run)
    run.finish()
    root = Path(run.dir or "")
    stored = StoredRun(root)
    stored.tables()[0].path.write_bytes(b"")
    repair_run(root)
    found = assert_read_alike(root)
    assert [name for name, *_ in found.tables] == ["one", "a table", "validation/data"]
    assert "images" not in found.state["summary"]


def test_every_file_of_a_run_has_a_name_of_the_document(start: Start, tmp_path: Path) -> None:
    """A run directory holds nothing that the document's table of files doesn't name."""
    run = record_everything(start, tmp_path)
    run.finish()
    section = DOCUMENT.read_text().split("## Files")[1].split("##")[0]
    names = re.findall(r"^\|[^|]*\| `([^`]*)`[^|]*\|", section.replace("| `run.json` | ", ""), re.M)
    pattern = "|".join(re.escape(name) for name in [*names, "run.json"])
    pattern = pattern.replace("<folder>", r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63}")
    pattern = (
        pattern.replace("<step>", r"\d{8,}")
        .replace("<stream>", "(history|histograms|events|console)")
        .replace("AAA", r"\d{3}")
    )
    pattern = pattern.replace("<64\\ hexadecimal\\ digits>", "[0-9a-f]{64}").replace("/HH/", "/../")
    pattern = re.sub("WWW|SSS|KKK", r"\\d{3}", pattern).replace("NNNN", r"\d{4}")
    pattern = pattern.replace(re.escape("<its path with - for each />"), r"[^/]+")
    root = Path(run.dir or "")
    later = start(id="k3j9x2ab", resume="must")
    later.log({"loss": 1.0})
    journal = Path(later.dir or "") / "attempts/001/journal-000-000.wbk"
    with journal.open("r+b") as file:
        file.write(b"?")
    later.finish()
    assert (root / "damaged").is_dir()
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    assert [file for file in files if not re.fullmatch(pattern, file)] == []
    assert len(files) > 7


def test_a_resumed_run_reads_alike(start: Start, tmp_path: Path) -> None:
    """What a later attempt changes, removes and takes over is the same for both readers."""
    record_everything(start, tmp_path).finish(1)
    run = start(id="k3j9x2ab", resume="must", config={"added": 1})
    del run.config["big"]
    del run.summary["best"]
    run.log({"loss": 8.0, "val.f1": 1.0, "epoch": 4})
    assert_read_alike(Path(run.dir or ""))
    run.finish()
    found = assert_read_alike(Path(run.dir or ""))
    assert "big" not in found.state["config"]
    assert "best" not in found.state["summary"]
    assert found.rows[-1][3] == 1
    assert found.state["process"]["run"]["tags"] == ["demo", "x"]
    again = start(id="k3j9x2ab", resume="must")
    again.log({"loss": 16.0}, step=found.rows[-1][0] + 1)
    assert_read_alike(Path(run.dir or ""))
    again.finish()
    assert assert_read_alike(Path(run.dir or "")).state["metrics"]["latest_step"] == {"epoch": 4}


@pytest.mark.parametrize("sealings", [[], [2], [2, 3, 5], [4, 9]])
def test_parts_and_journal_are_read_as_one(
    layout: Layout, open_writer: Callable[..., RunWriter], sealings: list[int]
) -> None:
    """Columns of several types in several parts and the journal join to what was logged."""
    writer = open_writer(segment_bytes=1)
    write_rows(writer, VALUES)
    for before in sealings:
        seal(Disk(), layout, 0, 0, before=before, compact=False)
    found = assert_read_alike(layout.root)
    assert logged(found) == [canonical(values) for values in VALUES]
    # A part a segment, but for the first, which holds no row.
    assert len(list(layout.root.glob("history/*.parquet"))) == max([1, *sealings]) - 1
    writer.close(0, 9.0)
    assert len(list(layout.root.glob("history/*.parquet"))) == 1
    assert logged(assert_read_alike(layout.root)) == [canonical(values) for values in VALUES]


@given(rows=st.lists(strategies.rows, max_size=6), before=st.integers(0, 6))
def test_whatever_is_logged_reads_alike(
    rows: list[dict[str, Any]], before: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any rows, some sealed and some not, come back from both readers as they were logged."""
    layout = Layout(tmp_path_factory.mktemp("run"))
    layout.info.write_bytes(
        checksummed({"format": RUN_FORMAT, "version": 1, "id": "a", "created": 0})
    )
    writer = RunWriter(layout, describe_process(), segment_bytes=1)
    write_rows(writer, rows)
    writer.abandon()
    if before:
        seal(Disk(), layout, 0, 0, before=before, compact=False)
    assert logged(assert_read_alike(layout.root)) == [canonical(values) for values in rows]


def test_attempts_that_overlap_are_merged_alike(
    layout: Layout, open_writer: Callable[..., RunWriter]
) -> None:
    """An attempt counts up to the smallest step from which a later one with rows goes on."""
    for from_step, last_step in [(0, 9), (6, 8), (9, 0), (4, 6), (None, 3)]:
        writer = open_writer({"from_step": from_step})
        first = from_step or 0
        values = [{"loss": float(step), f"of {from_step}": 1} for step in range(first, last_step)]
        write_rows(writer, values, first_step=first)
        writer.abandon()
    found = assert_read_alike(layout.root)
    steps = [*((step, 0) for step in range(4)), (4, 3), (5, 3)]
    assert [(row[0], row[3]) for row in found.rows] == steps
    assert found.rows[0][4] == {"loss": 0.0, "of 0": 1, "of None": 1}
    writer = open_writer({"from_step": 0})
    write_rows(writer, [{"loss": 0.5}])
    writer.close(0, 1.0)
    found = assert_read_alike(layout.root)
    assert [(row[0], row[3], row[4]) for row in found.rows] == [(0, 5, {"loss": 0.5})]


def test_a_rolled_back_attempt_reads_alike(
    layout: Layout, open_writer: Callable[..., RunWriter]
) -> None:
    """A rollback before the first row takes the place of what the attempt began with."""
    writer = open_writer()
    writer.event("config", {"update": {"lr": 0.1}})
    write_rows(writer, [{"loss": float(step)} for step in range(6)])
    writer.close(1, 9.0)
    resume = StoredRun(layout.root).folded.to_resume_body()
    writer = open_writer({"from_step": 6}, resume=resume)
    before = {**resume, "summary": {"loss": 1.0}}
    writer.event("rollback", {"from_step": 2, "resume": before})
    writer.event("config", {"update": {"added": 1}, "remove": []})
    assert assert_read_alike(layout.root).state["summary"] == {"loss": 1.0}
    write_rows(writer, [{"acc": 0.5}], first_step=2)
    found = assert_read_alike(layout.root)
    writer.abandon()
    assert [row[0] for row in found.rows] == [0, 1, 2]
    assert found.state["summary"] == {"loss": 1.0, "acc": 0.5}
    assert found.state["config"] == {"lr": 0.1, "added": 1}
    assert found.state["runtime"] == 9.0


def test_an_attempt_that_was_not_resumed_is_laid_over(
    layout: Layout, open_writer: Callable[..., RunWriter]
) -> None:
    """Config and summary of an attempt that took nothing over don't hide the earlier ones."""
    for attempt in range(2):
        writer = open_writer({"from_step": attempt})
        writer.event("config", {"update": {"both": attempt, f"of {attempt}": 1}})
        writer.event("metric", {"name": "a", "summary": ["max" if attempt else "min"]})
        write_rows(writer, [{"a": attempt, f"row of {attempt}": 1}], first_step=attempt)
        writer.close(0, 5.0 - attempt)
    found = assert_read_alike(layout.root)
    assert found.state["config"] == {"both": 1, "of 0": 1, "of 1": 1}
    assert found.state["summary"] == {"a": {"max": 1}, "row of 0": 1, "row of 1": 1}
    assert found.state["runtime"] == 5.0
    assert found.state["metrics"]["definitions"][0]["summary"] == ["min"]


def test_writers_of_one_attempt_are_merged_alike(
    layout: Layout, open_writer: Callable[..., RunWriter]
) -> None:
    """Rows of the same step are one, and the run is as good as the worst of its writers."""
    first = open_writer()
    second = open_writer({"from_step": None}, attempt=0)
    first.event("metric", {"name": "a", "summary": ["min"]})
    second.event("metric", {"name": "a", "summary": ["max"]})
    second.event("metric", {"name": "b*", "summary": ["last"], "step_metric": "a"})
    write_rows(first, [{"loss": 0.5, "of": "first", "a": 1}, {"loss": 0.25, "a": None}])
    write_rows(second, [{"of": "second", "h": VALUES[4]["w"]}, {"a": 2, "b": [1]}, {"b": 0.5}])
    found = assert_read_alike(layout.root)
    assert found.status == "running"
    assert [row[4] for row in found.rows] == [
        {"loss": 0.5, "of": "first", "a": 1, "h": VALUES[4]["w"]},
        {"loss": 0.25, "a": None, "b": [1]},
        {"b": 0.5},
    ]
    other = {**VALUES[4]["w"], "values": [3, 4]}
    write_rows(first, [{"h": other, "a": 1, "b": other}, {"h": 1}], first_step=3)
    write_rows(second, [{"h": VALUES[4]["w"], "a": other, "b": 2}, {"h": other}], first_step=3)
    found = assert_read_alike(layout.root)
    assert [row[4] for row in found.rows[3:]] == [{"h": other, "a": 1, "b": 2}, {"h": 1}]
    write_rows(first, [{"a": 0.5}], first_step=7)
    assert assert_read_alike(layout.root).state["last_step"] == 7
    first.close(0, 1.0)
    assert assert_read_alike(layout.root).status == "running"
    second.close(-3, 1.0)
    sealed = assert_read_alike(layout.root)
    assert canonical(sealed.rows[:5]) == canonical(found.rows)
    found = sealed
    assert (found.status, found.state["exit_code"]) == ("failed", -3)


@pytest.mark.parametrize(
    ("process", "age", "state"),
    [
        ({}, 1000.0, "running"),
        ({"started": 1}, 0.0, "crashed"),
        ({"host": "elsewhere"}, 30.0, "running"),
        ({"host": "elsewhere"}, 100.0, "crashed"),
        ({"boot": "another"}, 100.0, "crashed"),
        ({"pids": "pid:[1]"}, 100.0, "crashed"),
        ({"pids": "pid:[1]", "started": 1}, 30.0, "running"),
        ({"started": None}, 30.0, "running"),
    ],
)
def test_the_state_follows_the_process_or_the_heartbeat(
    layout: Layout,
    open_writer: Callable[..., RunWriter],
    process: dict[str, Any],
    age: float,
    state: str,
) -> None:
    """On the writer's own machine its process decides, elsewhere the age of its last event."""
    writer = open_writer(process, clock=lambda: time.time() - age)
    write_rows(writer, VALUES)
    assert assert_read_alike(layout.root).status == state
    writer.abandon()


KILLED = """
import itertools, pathlib, sys
from wandbkeras.store import writer
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process

writer.SYNC_SECONDS = 0.001  # seals all the time, so that the kill meets any step of it
run = writer.RunWriter(Layout(pathlib.Path(sys.argv[1])), describe_process(), segment_bytes=500)
for step in itertools.count():
    complete = step % 3 > 0
    values = {"loss": step / 7, "n": step}
    run.history(step, 1795412700.0 + step, 0.5 * step, values, complete=complete)
    if step == int(sys.argv[2]):
        print("killable", flush=True)
"""


@pytest.mark.parametrize("rows", [0, 40, 400, 2000])
def test_a_killed_run_reads_alike(layout: Layout, rows: int) -> None:
    """A process that is killed while it records and seals leaves every row that it had logged."""
    command = [sys.executable, "-c", KILLED, str(layout.root), str(rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    found = assert_read_alike(layout.root)
    assert found.status == "crashed"
    assert len(found.rows) > rows
    expected = [{"loss": step / 7, "n": step} for step in range(len(found.rows))]
    assert [row[4] for row in found.rows] == expected
    assert not found.damage


@pytest.mark.parametrize("compact", [False, True])
def test_sealing_may_be_interrupted_at_every_step(
    layout: Layout, open_writer: Callable[..., RunWriter], compact: bool
) -> None:
    """After each durable step of a sealing, both readers find the same rows and the same state."""
    writer = open_writer(segment_bytes=1)
    write_rows(writer, VALUES)
    writer.abandon()
    seal(Disk(), layout, 0, 0, before=2, compact=False)
    for steps in range(1000):
        disk = InterruptedDisk(steps)
        try:
            seal(disk, layout, 0, 0, before=5, compact=compact)
        except OSError:
            assert logged(assert_read_alike(layout.root)) == [canonical(v) for v in VALUES]
            for leftover in layout.root.rglob("*.tmp"):
                leftover.unlink()
        else:
            break
    assert steps > 10
    assert logged(assert_read_alike(layout.root)) == [canonical(v) for v in VALUES]


@pytest.fixture
def journal(layout: Layout, open_writer: Callable[..., RunWriter]) -> Path:
    """The only segment of a run with a few rows, whose writer is gone."""
    writer = open_writer({"started": 1}, clock=lambda: 1795412700.0)
    writer.event("config", {"update": {"lr": 0.1}, "remove": []})
    write_rows(writer, [{"a": 1, "b": "x" * 3}, {"a": 0.5}, {"a": None}])
    writer.abandon()
    return layout.journal(0, 0, 0)


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (UnreadableError, wandbkeras.WandbkerasError):
        return "unreadable"


def test_a_changed_byte_in_a_journal_costs_the_same(layout: Layout, journal: Path) -> None:
    """Whichever byte of a segment is changed, both readers lose the same record, or both refuse."""
    data = journal.read_bytes()
    whole = independent(layout.root)
    counts = set()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        journal.write_bytes(changed)
        found = assert_read_alike(layout.root)
        counts.add(len(whole.rows) - len(found.rows))
        assert found.damage or found.torn
        assert found.state["process"] == whole.state["process"]
    assert counts == {0, 1}


def test_the_magic_and_the_header_may_be_lost(layout: Layout, journal: Path) -> None:
    """Without magic and header every record is read, and two places are noted."""
    data = bytearray(journal.read_bytes())
    whole = independent(layout.root)
    data[0] ^= 1
    data[20] ^= 1
    journal.write_bytes(data)
    found = assert_read_alike(layout.root)
    name = "attempts/000/journal-000-000.wbk"
    header = 8 + struct.unpack_from("<I", data, 8)[0]
    assert (found.rows, found.state) == (whole.rows, whole.state)
    assert found.damage == [(name, 0, 8), (name, 8, header)]
    for nothing, damage in [(b"", 0), (MAGIC[:5], 0), (MAGIC, 0), (b"?" + MAGIC, 1), (b"?", 1)]:
        journal.write_bytes(nothing)
        found = assert_read_alike(layout.root)
        assert found.damage == [(name, 0, len(nothing))] * damage
        assert found.torn == (0 if damage else len(nothing))
    assert not found.rows


def test_segments_out_of_place_are_damage(
    layout: Layout, open_writer: Callable[..., RunWriter]
) -> None:
    """A missing segment, a torn one, and one of another number cost their own records alone."""
    writer = open_writer(segment_bytes=1)
    write_rows(writer, [{"a": step} for step in range(7)])
    writer.abandon()
    assert layout.segment_numbers(0, 0) == [*range(8)]  # the attempt event, then a row each
    layout.journal(0, 0, 1).unlink()
    header = {"format": "wandbkeras-journal", "version": 1, "segment": 4}
    misplaced = MAGIC + frame(header) + frame(["history", 99, 1.0, 1.0, {"a": 1}])
    layout.journal(0, 0, 3).write_bytes(misplaced)
    torn = layout.journal(0, 0, 5)
    torn.write_bytes(torn.read_bytes()[:-1])
    name = "attempts/000/journal-000-00{}.wbk".format
    found = assert_read_alike(layout.root)
    assert [row[0] for row in found.rows] == [1, 3, 5, 6]
    size = len(torn.read_bytes())
    places = [(name(1), 0, 0), (name(3), 0, 0)]
    assert sorted(found.damage)[:2] == places
    path, offset, cut = sorted(found.damage)[2]
    assert (path, offset + cut, found.torn) == (name(5), size, 0)
    seal(Disk(), layout, 0, 0, before=8, compact=True)
    sealed = assert_read_alike(layout.root)
    assert (sealed.rows, sorted(sealed.damage)) == (found.rows, sorted(found.damage))
    kept = [f"attempts-000-journal-000-00{number}.wbk" for number in (3, 5)]
    assert sorted(path.name for path in layout.root.glob("damaged/*")) == kept
    assert not layout.segment_numbers(0, 0)


def test_what_a_later_version_adds_is_ignored_alike(layout: Layout, journal: Path) -> None:
    """Whatever the document says may be added without a new version changes nothing."""
    added = [["later", 1], ["event", "later", 1795412700.0, {"rows": 5}]]
    added.append(["event", "failure", 1795412700.0, {"where": "w", "reason": "r", "later": 1}])
    added.append(["event", "dropped", 1795412700.0, {"rows": 2, "events": 1, "reason": "r"}])
    journal.write_bytes(journal.read_bytes() + b"".join(map(frame, added)))
    before = independent(layout.root)
    assert [before.state[name] for name in ("dropped", "dropped_events", "failures")] == [2, 1, 1]
    seal(Disk(), layout, 0, 0, before=1, compact=False)
    for path in (layout.info, layout.manifest(0, 0)):
        kind = "run" if path == layout.info else "manifest"
        members = parse_document(path.read_bytes(), kind) | {"later": 1}
        if kind == "manifest":
            part = {"name": "later_stream/000-000-000.parquet", "rows": 1, "size": 1}
            parts = [{**part, "later": 1} for part in members["parts"]]
            members["parts"] = [*parts, {**part, "sha256": "0" * 64}]
            members["state"] = {**members["state"], "later": 1}
        path.write_bytes(checksummed(members))
    (layout.root / "later").mkdir()
    (layout.root / "attempts" / "000" / "later.txt").write_text("")
    after = assert_read_alike(layout.root)
    del after.state["process"], before.state["process"]
    assert (canonical(after.rows), after.state) == (canonical(before.rows), before.state)
    sealed = seal(Disk(), layout, 0, 0, before=1, compact=True)
    assert "later_stream/000-000-000.parquet" in [part.name for part in sealed.parts]


@pytest.mark.parametrize(
    "record",
    [
        ["history", 9, 1.0, 1.0],
        ["history", 9, 1.0, 1.0, {}, 1],
        ["partial", "9", 1.0, 1.0, {}],
        ["event", "heartbeat", 1.0],
        ["event", "heartbeat", None, {}],
    ],
)
def test_a_known_kind_of_another_shape_is_refused_alike(
    layout: Layout, journal: Path, record: list[Any]
) -> None:
    """A record with the name of a known kind and other elements damages the run."""
    journal.write_bytes(journal.read_bytes() + frame(record))
    assert outcome(lambda: independent(layout.root)) == "unreadable"
    assert outcome(lambda: StoredRun(layout.root).summary) == "unreadable"


def test_a_sound_frame_that_is_no_record_is_damage(layout: Layout, journal: Path) -> None:
    """A frame with a good checksum and no record in it is stepped over and noted."""
    rows = independent(layout.root).rows
    no_msgpack = struct.pack("<II", 1, zlib.crc32(b"\x01\0\0\0\xc1")) + b"\xc1"
    last = frame(["history", 9, 1.0, 1.0, {"a": 1}])
    data = journal.read_bytes()
    header = 16 + struct.unpack_from("<I", data, 8)[0]
    data = data[:header] + frame({"second": "map"}) + data[header:]
    journal.write_bytes(data + frame([]) + frame(7) + no_msgpack + last)
    found = assert_read_alike(layout.root)
    assert len(found.damage) == 4
    assert found.rows[:-1] == rows


def test_a_torn_tail_costs_its_record_alone(layout: Layout, journal: Path) -> None:
    """A segment cut anywhere after its header holds every record before the cut."""
    data = journal.read_bytes()
    header = 16 + struct.unpack_from("<I", data, 8)[0]
    for size in range(header, len(data)):
        journal.write_bytes(data[:size])
        assert_read_alike(layout.root)


@pytest.mark.parametrize("name", ["run.json", "attempts/000/manifest-000.json"])
def test_a_changed_byte_in_a_document_is_refused_alike(
    layout: Layout, journal: Path, name: str
) -> None:
    """Both readers refuse a document of which any byte was changed."""
    seal(Disk(), layout, 0, 0, before=1, compact=True)
    path = layout.root / name
    data = path.read_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        assert outcome(lambda: independent(layout.root)) == "unreadable"
        assert outcome(lambda: StoredRun(layout.root, strict=True).summary) == "unreadable"


def test_a_changed_byte_in_a_part_is_refused_alike(layout: Layout, journal: Path) -> None:
    """Both readers refuse a part of which any byte was changed."""
    seal(Disk(), layout, 0, 0, before=1, compact=True)
    path = layout.root / "history" / "000-000-000.parquet"
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        assert outcome(lambda: independent(layout.root)) == "unreadable"
        assert outcome(lambda: StoredRun(layout.root, strict=True).history()) == "unreadable"
    path.unlink()
    assert outcome(lambda: independent(layout.root)) == "unreadable"
    assert outcome(lambda: StoredRun(layout.root, strict=True).history()) == "unreadable"


def test_the_metadata_of_a_part_names_its_columns_of_json(layout: Layout, journal: Path) -> None:
    """Which columns hold JSON text is in the Parquet file itself, for readers without Arrow."""
    journal.write_bytes(journal.read_bytes() + frame(["history", 9, 1.0, 1.0, {"b": [1]}]))
    sealed = seal(Disk(), layout, 0, 0, before=1, compact=False)
    found = {}
    for part in sealed.parts:
        metadata = pq.read_metadata(layout.root / part.name).metadata
        assert metadata[b"wandbkeras.version"] == b"1"
        found[part.name] = json.loads(metadata[b"wandbkeras.json"])
    parts = {"history/000-000-000.parquet": ["b"], "events/000-000-000.parquet": ["body"]}
    assert found == parts


def test_a_newer_version_is_refused_alike(layout: Layout, journal: Path) -> None:
    """Both readers refuse a document and a segment of a version after the document's."""
    info = layout.info.read_bytes()
    layout.info.write_bytes(checksummed({**parse_document(info, "run"), "version": 2}))
    assert outcome(lambda: independent(layout.root)) == "unreadable"
    with pytest.raises(NewerFormatError):
        StoredRun(layout.root)
    layout.info.write_bytes(info)
    header = {"format": "wandbkeras-journal", "version": 2}
    journal.write_bytes(MAGIC + frame(header))
    assert outcome(lambda: independent(layout.root)) == "unreadable"
    with pytest.raises(NewerFormatError):
        StoredRun(layout.root).summary  # noqa: B018


def frame(payload: Any) -> bytes:
    """A frame, as the document says."""
    packed = msgspec.msgpack.encode(payload)
    length = struct.pack("<I", len(packed))
    return length + struct.pack("<I", zlib.crc32(length + packed)) + packed


def checksummed(members: Mapping[str, Any]) -> bytes:
    """A document, as the document says."""
    head = json.dumps(members, indent=2, ensure_ascii=False)[:-2].encode()
    return head + b',\n  "checksum": "crc32:%08x"\n}\n' % zlib.crc32(head + b"\n}\n")


def test_a_document_may_print_its_json_in_another_way(layout: Layout) -> None:
    """The checksum is one of bytes: white space and the forms of numbers and strings are free."""
    head = b'{"format":"wandbkeras-run","version":1,"id":"\\u0061","created":15e-1,  "x":1E+2'
    data = head + b',\n  "checksum": "crc32:%08x"\n}\n' % zlib.crc32(head + b"\n}\n")
    layout.info.write_bytes(data)
    assert parse_document(data, "run")["id"] == StoredRun(layout.root).info.id == "a"
    assert_read_alike(layout.root)


def test_a_run_written_by_the_document_is_read(tmp_path: Path) -> None:
    """A run made of the document's bytes alone, without the package's writer, is read by it."""
    attempt = tmp_path / "attempts" / "000"
    attempt.mkdir(parents=True)
    (tmp_path / "artifacts").mkdir()
    info = {"format": "wandbkeras-run", "version": 1, "id": "a1", "created": 1.5, "later": [1]}
    (tmp_path / "run.json").write_bytes(checksummed(info))
    artifact = {"format": "wandbkeras-artifact", "version": 1, "name": "m", "type": "model"}
    artifact |= {"aliases": ["latest"], "description": None, "metadata": {}, "files": {}}
    (tmp_path / "artifacts" / "000-000-0000.json").write_bytes(checksummed(artifact))
    records = [
        {"format": "wandbkeras-journal", "version": 1, "attempt": 0, "writer": 0, "segment": 0},
        ["event", "attempt", 1.0, {"host": "h", "pid": 1, "from_step": 0}],
        ["event", "from the future", 1.0, {"any": "thing"}],
        ["event", "metric", 1.0, {"name": "a", "summary": ["min", "max"]}],
        ["partial", 0, 2.0, 0.5, {"a": 3}],
        ["event", "heartbeat", 2.5, {}],
        ["partial", 0, 3.0, 1.5, {"b": 1, "c": "x"}],
        ["history", 0, 4.0, 2.5, {"b": 2}],
        ["partial", 7, 5.0, 3.5, {"a": 2}],
        ["history", 8, 6.0, 4.5, {"a": 2.5}],
        ["event", "artifact", 7.0, {"manifest": "000-000-0000.json"}],
        ["partial", 9, 7.0, 4.75, {"a": 5, "d": True}],
        ["event", "finish", 7.0, {"exit_code": 2, "runtime": 5.0}],
    ]
    segment = MAGIC + b"".join(map(frame, records))
    (attempt / "journal-000-000.wbk").write_bytes(segment)
    found = assert_read_alike(tmp_path)
    assert found.rows == [
        (0, 4.0, 2.5, 0, {"a": 3, "b": 2, "c": "x"}),
        (7, 5.0, 3.5, 0, {"a": 2}),
        (8, 6.0, 4.5, 0, {"a": 2.5}),
        (9, 7.0, 4.75, 0, {"a": 5, "d": True}),
    ]
    assert found.state["summary"] == {"a": {"min": 2, "max": 5}, "b": 2, "c": "x", "d": True}
    assert found.state["runtime"] == 5.0
    assert (found.status, found.state["exit_code"]) == ("failed", 2)
    assert StoredRun(tmp_path).artifacts[0].name == "m"


def fenced(heading: str) -> list[str]:
    """The fenced blocks of a section of the document."""
    section = DOCUMENT.read_text().split(f"# {heading}\n", 1)[1].split("\n#")[0]
    return re.findall(r"^```\w+\n(.*?)^```$", section, re.M | re.S)


def test_the_sample_journal_of_the_document_decodes_to_its_text(tmp_path: Path) -> None:
    """The hex dump in the document is a segment with the payloads and the torn tail beside it."""
    dump, payloads = fenced("A sample")
    data = b"".join(bytes.fromhex(line[10:58]) for line in dump.splitlines())
    read = parse_segment(data)
    assert [read.header, *read.records] == json.loads(payloads)
    assert (read.damage, read.torn) == ([], 11)
    path = tmp_path / "journal-000-000.wbk"
    path.write_bytes(data)
    ours = read_journal(path)
    assert [ours.header, *ours.records] == json.loads(payloads)
    assert (ours.damage, ours.torn) == ([], 11)


def test_the_sample_document_of_the_document_is_sound(tmp_path: Path) -> None:
    """The run.json in the document has the checksum that it says."""
    (text,) = fenced("run.json")
    assert parse_document(text.encode(), "run")["id"] == "k3j9x2ab"
    (tmp_path / "run.json").write_text(text)
    assert StoredRun(tmp_path).info.tags == ("demo",)
