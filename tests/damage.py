"""A small run with one of everything, and what a changed byte of it may cost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.strategies import canonical
from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.checks import TABLE
from wandbkeras.store.console import ConsoleFiles, Line
from wandbkeras.store.disk import Disk, make_directories
from wandbkeras.store.layout import STREAMS, Layout
from wandbkeras.store.named_tables import without_values
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import ArtifactVersion, RunInfo, TableFile
from wandbkeras.store.table_schema import TableColumn, field_of, file_metadata
from wandbkeras.store.writer import RunWriter

INFO = RunInfo("k3j9x2ab", 1795412700.0, project="digits", tags=("demo",))
HISTOGRAM = {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}
KILLED_ROWS = 3  # of attempt 0, in its journal
SEALED_ROWS = 6  # of attempt 1, in its parts
TABLE_STEP = 5  # its row names a table


def record(root: Path) -> Layout:
    """Make a run: attempt 0 was killed elsewhere, attempt 1 has finished and is sealed."""
    layout = Layout(root)
    root.mkdir(parents=True)
    document.write(Disk(), layout.info, INFO.to_document())
    killed = _writer(layout, 0)
    killed.event("config", {"update": {"lr": 0.1}, "remove": []})
    _log(killed, range(KILLED_ROWS))
    killed.abandon()
    finished = _writer(layout, KILLED_ROWS)
    _log(finished, range(KILLED_ROWS, KILLED_ROWS + SEALED_ROWS), {TABLE_STEP: _table(finished)})
    source = root.with_suffix(".source")
    source.write_bytes(b"weights")
    file = finished.files.add(source)
    tables = {"data": _table(finished, "model/data")}
    version = ArtifactVersion("model", "model", files={"model.keras": file}, tables=tables)
    finished.artifact(version)
    finished.event("summary", {"update": {"best": 0.5}, "remove": []})
    printed = ConsoleFiles(Disk(), layout, finished.attempt, finished.number, 1_000_000)
    printed.write([Line(0, "stdout", 1900.0, "printed"), Line(1, "stderr", 1901.0, "größe")])
    printed.close()
    finished.close(0, 9.0)
    make_directories(Disk(), layout.receipts)
    document.write(Disk(), layout.receipts / "server.json", {"format": "wandbkeras-receipt"})
    return layout


def only_the_killed_attempt(layout: Layout) -> None:
    """Leave nothing of the run but `run.json` and attempt 0, which reads faster."""
    for name in ("attempts/001", *STREAMS, "artifacts", "blobs", "sync", "tables"):
        shutil.rmtree(layout.root / name)


def _writer(layout: Layout, from_step: int) -> RunWriter:
    process = {**describe_process(), "host": "elsewhere", "launch": "x", "from_step": from_step}
    clock = iter(range(1000 + from_step, 10_000)).__next__
    return RunWriter(layout, {**process, "run": asdict(INFO)}, clock=clock)


def _log(writer: RunWriter, steps: range, tables: Mapping[int, TableFile] = {}) -> None:
    for step in steps:
        values = {"loss": 1 / (step + 1), "ok": None if step == 4 else True, "w": HISTOGRAM}
        if step in tables:
            values["table"] = tables[step].to_value(TABLE)
        with writer.lock:
            writer.history(step, 1000.0 + step**2, 0.5 * step**2, values, complete=True)


def _table(writer: RunWriter, key: str = "table") -> TableFile:
    """Write a table of one column."""
    columns = [TableColumn("x", "integer")]
    fields = [field_of("x", "integer")]
    file = writer.files.new_table(pa.schema(fields, file_metadata(fields, columns)))
    file.write(pa.table({"x": [1, 2, 3]}))
    return writer.files.shelf.place(file.finish(columns), key, TABLE_STEP)


@contextmanager
def flipped(path: Path, offset: int, mask: int = 0x10) -> Iterator[bytes]:
    """Change the bits ``mask`` of one byte, and put it back; give the changed bytes."""
    good = path.read_bytes()
    changed = bytearray(good)
    changed[offset] ^= mask
    path.write_bytes(changed)
    try:
        yield bytes(changed)
    finally:
        path.write_bytes(good)


def copy(layout: Layout, to: Path) -> Layout:
    return Layout(Path(shutil.copytree(layout.root, to)))


def content(run: StoredRun) -> Any:
    """What is read of a run, comparable: a table that can't be read is not there."""
    tables, lost = {}, set()
    for table in run.tables():
        try:
            tables[table.file.path] = table.read().to_pylist()
        except DamagedError:
            lost.add(table.file.path)
    rows = [
        [row.step, row.attempt, row.timestamp, row.runtime, without_values(row.values, lost)]
        for row in run.rows()
    ]
    events = [[event.type, event.timestamp, event.body] for event in run.events()]
    summary = without_values(run.summary, lost)
    return canonical(
        [rows, events, summary, run.config, run.artifacts, run.state, run.info, tables]
    )


def files(layout: Layout) -> list[str]:
    """The files of a run, by their paths within it."""
    found = (path for path in sorted(layout.root.rglob("*")) if path.is_file())
    return [path.relative_to(layout.root).as_posix() for path in found]
