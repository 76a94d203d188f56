"""Tables and images of a run being recorded: written first, then named, or counted."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

import wandbkeras
from tests.disks import FullDisk
from wandbkeras import ClassColumn, Image, ImageColumn, RowColumn, Run, StoredRun, Table
from wandbkeras.errors import DiskFullError, UnsupportedValueError, UsageError
from wandbkeras.recording.opening import open_run
from wandbkeras.recording.settings import resolve
from wandbkeras.store.limits import MAX_IMAGES, MAX_TABLE_ROWS
from wandbkeras.store.verify import verify_run

Start = Callable[..., Run]
Stored = Callable[[Run], StoredRun]
PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def table_files(run: Run) -> list[str]:
    """The files in ``tables``, unfinished ones too, without their directories' names."""
    root = Path(run.dir or "") / "tables"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def full(tmp_path: Path, on_full: str = "drop", **more: Any) -> tuple[Run, FullDisk]:
    """A run, and its disk."""
    given = dict.fromkeys(
        ("project", "entity", "name", "group", "job_type", "tags", "notes", "mode", "resume")
    )
    options = {"created": 1795412700.0, "directory": tmp_path / "runs", "id": "k3j9x2ab", **more}
    disk = FullDisk()
    return open_run(resolve(on_full=on_full, environ={}, **given, **options), disk=disk), disk


def test_what_is_logged_as_a_table_is_a_file_that_the_row_names(
    start: Start, stored: Stored
) -> None:
    """Tables, images and lists of images; by key, step and kind, in the row and in the summary."""
    run = start()
    run.log({"loss": 0.5, "t": Table(["a"], [[1], [2]])})
    run.log({"val": {"one": Image(PIXELS)}})
    run.log({"examples": [Image(PIXELS, caption="x"), Image(PIXELS)]}, step=7)
    run.finish()
    found = stored(run)
    assert [(t.key, t.step, t.kind, t.rows) for t in found.tables()] == [
        ("t", 0, "table/parquet", 2),
        ("val.one", 1, "image/parquet", 1),
        ("examples", 7, "images/parquet", 2),
    ]
    assert table_files(run) == [
        "examples/00000007-000-000-0002.parquet",
        "t/00000000-000-000-0000.parquet",
        "val.one/00000001-000-000-0001.parquet",
    ]
    rows = list(found.rows())
    assert rows[0].values["loss"] == 0.5
    assert (
        rows[0].values["t"]
        == found.summary["t"]
        == found.tables()[0].file.to_value("table/parquet")
    )
    assert found.table("t").to_pydict() == {"a": [1, 2]}
    assert found.table("examples")["image.caption"].to_pylist() == ["x", None]
    data = found.table("val.one")["image"][0].as_py()["bytes"]
    assert (np.array(Pillow.open(io.BytesIO(data))) == PIXELS).all()
    assert verify_run(found.path).damage == []


def test_the_scale_of_floats_is_that_of_all_images_of_the_list(
    start: Start, stored: Stored
) -> None:
    """It is written down, with what did not fit; an image may have its own."""
    run = start()
    dark, bright = np.full((1, 2), 0.5), np.array([[200.0, float("nan")]])
    run.log(
        {"both": [Image(dark), Image(bright)], "own": [Image(dark, scale="unit"), Image(bright)]}
    )
    run.log({"integers": [Image(PIXELS), Image(np.array([[0, 300]]))]})
    run.finish()
    found = {t.key: t.schema().columns[0] for t in stored(run).tables()}
    assert (found["both"].scale, found["both"].nan, found["both"].clipped) == ("byte", 1, 0)
    assert found["own"].scale == "various"
    assert (found["integers"].scale, found["integers"].clipped) == (None, 1)


def test_a_table_is_written_batch_by_batch(start: Start, stored: Stored) -> None:
    """Batches of arrays, lists and rows are one table; what is not logged is not there."""
    run = start()
    table = run.open_table(
        "t", {"image": ImageColumn(), "class": ClassColumn(["a", "b"]), "y": None}
    )
    for number in range(3):
        images = np.full((400, 4, 4), number, np.uint8)
        table.add_batch({"image": images, "class": np.arange(400) % 2, "y": np.arange(400) / 2})
    table.add_batch(
        {"image": [Image(images[0], caption="c"), None], "class": [0, 1], "y": [None, 1]}
    )
    table.add_data(Image(images[0]), 1, 2.5)
    assert len(table) == 1203
    assert stored(run).tables() == []
    run.log({"t": table})
    run.finish()
    (found,) = stored(run).tables()
    read = found.read()
    assert read["class"].to_pylist() == [*[0, 1] * 601, 1]
    assert read["y"].to_pylist()[-4:] == [199.5, None, 1.0, 2.5]
    assert read["image.caption"].to_pylist()[-3:] == ["c", None, None]
    assert sum(len(batch) for batch in found.batches()) == len(read) == found.rows == 1203
    with pq.ParquetFile(found.path) as file:
        assert file.metadata.num_row_groups > 1


def test_the_first_batch_settles_the_columns(start: Start, stored: Stored) -> None:
    """A batch that does not fit is refused, with the column's name; the next one may fit."""
    run = start()
    table = run.open_table("t", ["n", "m"])
    table.add_batch({"n": [1, 2], "m": [[1, 2], [3, 4]]})
    for batch, match in [
        ({"n": [0.5], "m": [[1, 2]]}, "column 'n': received 0.5 in a column of the kind integer"),
        ({"n": [1], "m": [[1, 2, 3]]}, r"column 'm': received int64\(3,\)"),
        ({"n": [1]}, r"received the columns \['n'\]; expected \['n', 'm'\]"),
        ({"n": [1, 2], "m": [[1, 2]]}, "columns of different lengths"),
        ({"n": 1, "m": [[1, 2]]}, "column 'n': received 1; expected a value for each row"),
        ({"n": ["x"], "m": ["y"]}, "column 'n': received 'x'"),
    ]:
        with pytest.raises(UsageError, match=match):
            table.add_batch(batch)
    table.add_batch({"n": [3], "m": [[5, 6]]})
    with pytest.raises(UsageError, match="received 1 values; expected 2"):
        table.add_data(1)
    run.log({"t": table})
    run.finish()
    assert stored(run).table("t").to_pydict() == {"n": [1, 2, 3], "m": [[1, 2], [3, 4], [5, 6]]}


def test_a_table_is_logged_once(start: Start, stored: Stored) -> None:
    """One that is written batch by batch is closed by it; one in memory is written each time."""
    run = start()
    opened, table = run.open_table("o", ["a"]), Table(["a"], [[1]])
    opened.add_data(1)
    run.log({"o": opened, "t": table})
    table.add_data(2)
    run.log({"t": table})
    for again in (lambda: run.log({"o": opened}), lambda: opened.add_data(2)):
        with pytest.raises(UsageError, match="it is closed: a table is logged once"):
            again()
    run.finish()
    assert [(t.key, t.rows) for t in stored(run).tables()] == [("o", 1), ("t", 1), ("t", 2)]


def test_a_table_without_rows_has_its_columns(start: Start, stored: Stored) -> None:
    """Nothing was added, and that is recorded."""
    run = start()
    run.log({"t": Table(["a", "b"]), "o": run.open_table("o", {"n": int})})
    run.finish()
    found = stored(run)
    assert (found.table("t").num_rows, found.table("t").column_names) == (0, ["a", "b"])
    assert str(found.table("o").schema.field("n").type) == "int64"


def test_what_is_opened_and_not_logged_goes(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """Discarded, left by an error, or forgotten: no file stays, and what was forgotten is said."""
    run = start()
    discarded, left, forgotten = (run.open_table(name, ["a"]) for name in ("d", "l", "f"))
    for table in (discarded, forgotten):
        table.add_batch({"a": np.arange(3000)})
    discarded.discard()
    with pytest.raises(KeyError), left:
        left.add_batch({"a": np.arange(3000)})
        raise KeyError
    run.finish()
    assert table_files(run) == []
    assert (
        "table 'f': opened and never logged, 3000 rows are not recorded" in capfd.readouterr().err
    )
    assert stored(run).folded.failures == 1


def test_a_row_that_is_not_recorded_leaves_no_table(start: Start, stored: Stored) -> None:
    """Where the step goes back, and where another value of the row is refused."""
    run = start()
    run.log({"loss": 1.0}, step=5)
    run.log({"t": Table(["a"], [[1]])}, step=3)
    with pytest.raises(UnsupportedValueError):
        run.log({"t": Table(["a"], [[1]]), "x": object()})
    with pytest.raises(UsageError):
        run.log({"good": Table(["a"], [[1]]), "bad": Table({"a": int}, [["x"]])})
    run.finish()
    assert (table_files(run), stored(run).folded.dropped) == ([], 1)


def test_the_later_table_of_a_step_counts(start: Start, stored: Stored) -> None:
    """A row in pieces has the last one; the file of the other is named by nothing."""
    run = start()
    run.log({"t": Table(["a"], [[1]])}, commit=False)
    run.log({"t": Table(["a"], [[2]])})
    run.finish()
    (found,) = stored(run).tables()
    assert found.read().to_pydict() == {"a": [2]}


def test_the_own_type_of_a_table_is_refused(start: Start) -> None:
    """A dict that says it is a table would name a file that nobody wrote."""
    run = start()
    forged = {"_type": "table/parquet", "path": "tables/t/00000000-000-000-0000.parquet"}
    with pytest.raises(UnsupportedValueError, match="the store's own"):
        run.summary["t"] = forged
    run.log({"t": forged})  # its members become metrics, as of any dict
    run.finish()
    assert StoredRun(run.dir or "").tables() == []


def test_an_artifact_holds_tables(start: Start, stored: Stored) -> None:
    """A version names them, like its files; one that is taken in says so."""
    run = start()
    artifact = wandbkeras.Artifact("wb_validation_data", "validation_dataset")
    opened = run.open_table("validation_data", ["a"])
    opened.add_batch({"a": [1, 2]})
    artifact.add(opened, "validation_data")
    artifact.add(Table(["b"], [[3]]), "more/t.table.json")
    run.use_artifact(artifact)
    run.finish()
    found = stored(run)
    (version,) = found.artifacts
    assert (version.used, list(version.tables)) == (True, ["validation_data", "more/t"])
    assert found.stored_table(version.tables["validation_data"]).read().to_pydict() == {"a": [1, 2]}
    assert found.stored_table(version.tables["more/t"]).read().to_pydict() == {"b": [3]}
    assert found.tables() == []


@pytest.mark.parametrize(
    ("add", "match"),
    [
        (lambda a: a.add([1], "t"), "expected a table"),
        (lambda a: a.add(Image(PIXELS), "t"), "expected a table"),
        (lambda a: (a.add(Table(["a"]), "t"), a.add(Table(["a"]), "t.table.json")), "two tables"),
        (lambda a: a.add(Table(["a"]), "../t"), "not a relative path"),
    ],
)
def test_an_artifact_takes_tables_alone(add: Callable[[Any], Any], match: str) -> None:
    """What is no table, or has a name that is taken, is refused."""
    with pytest.raises(UsageError, match=match):
        add(wandbkeras.Artifact("a", "b"))


def test_use_artifact_asks_no_server(start: Start) -> None:
    """A name of an artifact means nothing offline."""
    with pytest.raises(UsageError, match="asks no server"):
        start().use_artifact("data:latest")  # type: ignore[arg-type]


def test_a_column_links_to_the_rows_of_another_table(start: Start, stored: Stored) -> None:
    """By a table in memory, one that was opened, keys of its index, and later by its file."""
    run = start(id="k3j9x2ab")
    table, opened = Table(["a"], [[1], [2]]), run.open_table("v", ["a"])
    opened.add_batch({"a": [1]})
    artifact = wandbkeras.Artifact("v", "dataset")
    artifact.add(opened, "v")
    run.log({"t": table})
    run.log_artifact(artifact)
    run.log(
        {
            "p": Table({"row": RowColumn(table)}, [[1]]),
            "q": Table({"row": RowColumn(opened)}, [[0]]),
        }
    )
    keys = Table([], [])
    keys.add_column("row", table.get_index())
    run.log({"r": keys})
    run.finish()
    later = start(id="k3j9x2ab", resume="must")
    (version,) = later.artifact_versions("v").values()
    later.log({"s": Table({"row": RowColumn(version.tables["v"])}, [[0]])})
    later.finish()
    paths = {t.key: t.file.path for t in stored(run).tables()}
    linked = {t.key: t.schema().columns[0].table for t in stored(run).tables() if t.key != "t"}
    assert linked["p"] == linked["r"] == paths["t"]
    assert linked["q"] == linked["s"] == version.tables["v"].path
    assert paths["s"].startswith("tables/s/00000003-001-000-0000")


def test_a_link_to_what_was_not_logged_is_refused(start: Start) -> None:
    """Nor to a table of another run: the line says what to do."""
    run = start()
    with pytest.raises(UsageError, match="log the table that it links to first"):
        run.log({"t": Table({"row": RowColumn(Table(["a"]))}, [[0]])})
    run.log({"other": Table(["a"], [[1]])})
    run.finish()
    (other,) = StoredRun(run.dir or "").tables()
    with pytest.raises(UsageError, match="no table of this run"):
        start().log({"t": Table({"row": RowColumn(other)}, [[0]])})


def test_a_disabled_run_takes_everything(start: Start) -> None:
    """And nothing is written, nor is pyarrow asked."""
    run = start(mode="disabled")
    table = run.open_table("t", {"a": float})
    table.add_batch({"a": np.arange(5)})
    table.add_data(1.0)
    assert len(table) == 6
    run.log({"t": table, "image": Image(PIXELS), "loss": 0.5})
    artifact = wandbkeras.Artifact("a", "b")
    artifact.add(Table(["a"]), "t")
    run.use_artifact(artifact)
    run.finish()
    assert (run.step, dict(run.summary)) == (1, {"loss": 0.5})


def test_names_of_keys_are_safe_and_tell_keys_apart(start: Start, stored: Stored) -> None:
    """Any key is a directory's name, and no key leads out of the run."""
    keys = ["a/b", "../../x", "..", ".hidden", "a b", "é", "x" * 300, "a-b", "/etc/passwd"]
    run = start()
    run.log({key: Table(["k"], [[key]]) for key in keys})
    run.finish()
    found = stored(run)
    assert {t.key: t.read()["k"][0].as_py() for t in found.tables()} == {key: key for key in keys}
    folders = {name.partition("/")[0] for name in table_files(run)}
    assert len(folders) == len(keys) and all(name.isascii() and len(name) < 70 for name in folders)
    assert verify_run(found.path).damage == []


def test_beyond_wandbs_limits_is_said_once(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """Everything is recorded; a line says what W&B makes of it."""
    run = start()
    image = Image(PIXELS)
    for _ in range(2):
        run.log({"many": [image] * (MAX_IMAGES + 1), "few": [image] * MAX_IMAGES})
    table = run.open_table("t", ["a"])
    table.add_batch({"a": np.zeros(MAX_TABLE_ROWS + 1)})
    run.log({"t": table})
    run.finish()
    said = capfd.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in said] == [
        "wandbkeras: images 'many': 109 of them",
        "wandbkeras: table 't': 200001 rows",
    ]
    assert [t.rows for t in StoredRun(run.dir or "").tables()] == [109, 108, 109, 108, 200001]


def test_a_full_disk_costs_the_table_and_not_the_row(tmp_path: Path) -> None:
    """The table counts as one record, whether it was in memory or written in batches."""
    run, disk = full(tmp_path)
    opened = run.open_table("o", ["a"])
    opened.add_batch({"a": np.random.default_rng(0).random(200_000)})
    disk.room = 100
    opened.add_batch({"a": np.random.default_rng(1).random(200_000)})
    opened.add_batch({"a": np.zeros(5)})
    run.log({"n": 0})
    disk.room = None
    run.log({"loss": 0.5, "o": opened})
    disk.room = 300
    run.log({"t": Table(["a"], [[1]])})
    disk.room = None
    run.log({"t": Table(["a"], [[1]])})
    run.finish()
    found = StoredRun(run.dir or "")
    assert [list(row.values) for row in found.rows()] == [["loss"], ["t"]]
    assert (found.folded.dropped, found.folded.dropped_events) == (2, 2)
    assert table_files(run) == ["t/00000003-000-000-0000.parquet"]
    assert verify_run(found.path).damage == []


def test_a_row_that_the_disk_does_not_take_leaves_no_table(tmp_path: Path) -> None:
    """Its file fits, and the row that was to name it doesn't."""
    run, disk = full(tmp_path)
    sizes = []
    run.log({"t": Table(["a"], [[1]])})
    sizes = [path.stat().st_size for path in Path(run.dir or "").rglob("*.parquet")]
    disk.room = sizes[0] + 10
    run.log({"t": Table(["a"], [[1]])})
    disk.room = None
    run.finish()
    assert table_files(run) == ["t/00000000-000-000-0000.parquet"]
    assert StoredRun(run.dir or "").folded.dropped == 1


def test_a_full_disk_can_raise(tmp_path: Path) -> None:
    """Then nothing of the row is recorded, nothing is left, and it can be logged again."""
    run, disk = full(tmp_path, on_full="raise")
    disk.room = 100
    with pytest.raises(DiskFullError):
        run.log({"loss": 1.0, "t": Table(["a"], [[1]])})
    artifact = wandbkeras.Artifact("a", "b")
    artifact.add(Table(["a"], [[1]]), "t")
    with pytest.raises(DiskFullError):
        run.log_artifact(artifact)
    disk.room = None
    assert table_files(run) == []
    run.log({"loss": 1.0, "t": Table(["a"], [[1]])})
    run.finish()
    assert [list(row.values) for row in StoredRun(run.dir or "").rows()] == [["loss", "t"]]


def test_a_cap_counts_tables(tmp_path: Path) -> None:
    """A table that is more than the cap leaves is dropped and counted; the run goes on."""
    run, _ = full(tmp_path, max_bytes=200_000)
    random = np.random.default_rng(0)
    run.log({"t": Table(["a"], [[v] for v in random.random(50_000)]), "loss": 1.0})
    run.log({"t": Table(["a"], [[1]])})
    run.finish()
    found = StoredRun(run.dir or "")
    assert [(t.step, t.rows) for t in found.tables()] == [(1, 1)]
    assert found.folded.dropped_events == 1
    assert found.size < 200_000


def test_a_forked_process_leaves_the_tables_of_its_parent_alone(start: Start) -> None:
    """What it adds is nowhere, and its end takes nothing away."""
    run = start()
    table = run.open_table("t", ["a"])
    table.add_batch({"a": np.arange(3000)})
    if (child := os.fork()) == 0:
        try:
            table.add_batch({"a": np.arange(3000)})
            table.discard()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    table.add_batch({"a": np.arange(3000)})
    run.log({"t": table})
    run.finish()
    assert StoredRun(run.dir or "").table("t").num_rows == 6000


def test_writers_of_one_attempt_have_tables_of_their_own(
    start: Start, stored: Stored, store: Path
) -> None:
    """Two processes log under one key and step: neither takes the other's place."""
    run = start(id="k3j9x2ab")
    script = (
        "import wandbkeras, sys\n"
        f"run = wandbkeras.init(dir={str(store)!r}, id='k3j9x2ab', resume='allow')\n"
        "run.log({'t': wandbkeras.Table(['who'], [['child']])}, step=0)\n"
        "run.finish()\n"
    )
    env = {**os.environ, "WANDBKERAS_LAUNCH": "x"}
    run.log({"t": Table(["who"], [["parent"]])}, step=0, commit=True)
    subprocess.run([sys.executable, "-c", script], env=env, check=True)
    run.finish()
    assert len(table_files(run)) == 2
    assert verify_run(Path(run.dir or "")).damage == []


def test_recording_tables_loads_pyarrow_and_nothing_else(tmp_path: Path) -> None:
    """Images of arrays need neither Pillow nor wandb, and pyarrow comes with the first table."""
    script = (
        "import json, sys, numpy, wandbkeras\n"
        "wanted = ('keras', 'tensorflow', 'torch', 'jax', 'wandb', 'PIL', 'pyarrow')\n"
        "loaded = lambda: [name for name in wanted if name in sys.modules]\n"
        "run = wandbkeras.init(dir='runs')\n"
        "image = wandbkeras.Image(numpy.zeros((2, 2)), masks={'m': [[0]]})\n"
        "table = wandbkeras.Table(['image'], [[image]])\n"
        "run.log({'loss': 0.5, 'list': [1.0, 2.0]})\n"
        "before = loaded()\n"
        "run.log({'examples': [image], 't': table})\n"
        "opened = run.open_table('o', {'x': wandbkeras.ImageColumn()})\n"
        "opened.add_batch({'x': numpy.zeros((3, 2, 2))})\n"
        "run.log({'o': opened})\n"
        "print(json.dumps([before, loaded()]))\n"
        "run.finish()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[], ["pyarrow"]]
