"""Tables on disk: any Parquet reader opens them, and ours takes nothing that is not as written."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas
import polars
import pytest
from PIL import Image as Pillow

from tests.damage import flipped
from wandbkeras import ClassColumn, Image, ImageColumn, Run, Store, StoredRun, Table
from wandbkeras.errors import DamagedError, NotFoundError, StoreError
from wandbkeras.store import tables
from wandbkeras.store.repair import repair_run
from wandbkeras.store.tables import StoredTable
from wandbkeras.store.verify import verify_run

Start = Callable[..., Run]
Stored = Callable[[Run], StoredRun]
IMAGES = np.arange(5 * 4 * 6 * 3, dtype=np.uint8).reshape(5, 4, 6, 3)
MASKS = np.arange(5 * 24).reshape(5, 4, 6) % 3


@pytest.fixture
def table(start: Start, stored: Stored) -> StoredTable:
    """An evaluation table: images with masks, classes, scores and text."""
    run = start()
    kinds = {
        "image": ImageColumn(),
        "class": ClassColumn(["cat", "dog"]),
        "score": None,
        "note": str,
    }
    opened = run.open_table("eval/t", kinds)
    images = [
        Image(
            pixels, caption=f"{n}", masks={"truth": {"mask_data": mask, "class_labels": ["a", "b"]}}
        )
        for n, (pixels, mask) in enumerate(zip(IMAGES, MASKS, strict=True))
    ]
    scores = np.arange(10, dtype=np.float32).reshape(5, 2)
    opened.add_batch(
        {
            "image": images,
            "class": [0, 1, 0, 1, 0],
            "score": scores,
            "note": ["x", None, "y", "", "z"],
        }
    )
    run.log({"eval/t": opened})
    run.finish()
    (found,) = stored(run).tables()
    return found


def pixels(data: bytes) -> list[object]:
    return np.array(Pillow.open(io.BytesIO(data))).tolist()  # type: ignore[no-any-return]


def test_pandas_polars_and_duckdb_open_a_table(table: StoredTable) -> None:
    """None of our code is needed; an image is a struct of its bytes and its name."""
    frame = pandas.read_parquet(table.path)
    assert frame["class"].tolist() == [0, 1, 0, 1, 0]
    assert frame["score"][4].tolist() == [8.0, 9.0]
    assert pixels(frame["image"][3]["bytes"]) == IMAGES[3].tolist()
    lazy = polars.scan_parquet(table.path).filter(polars.col("class") == 1).collect()
    assert lazy["note"].to_list() == [None, ""]
    assert pixels(lazy["image"][1]["bytes"]) == IMAGES[3].tolist()
    root = table.path.parents[2].parent
    query = f"""
        select "image.caption", image.bytes, score[2]
        from read_parquet('{root}/*/tables/eval-t-*/*.parquet', union_by_name=true)
        where class = 0 order by score[1] desc limit 1
    """
    ((caption, data, score),) = duckdb.sql(query).fetchall()
    assert (caption, pixels(data), score) == ("4", IMAGES[4].tolist(), 9.0)


def test_datasets_shows_images_and_classes(
    table: StoredTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package of Hugging Face knows the columns by the file's own words, without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    found = datasets.Dataset.from_parquet(str(table.path), cache_dir=str(tmp_path / "cache"))
    mask = "image.masks.truth"
    assert isinstance(found.features["image"], datasets.Image)
    assert isinstance(found.features[mask], datasets.Image)
    assert found.features["class"] == datasets.ClassLabel(names=["cat", "dog"])
    row = found[3]
    assert np.array(row["image"]).tolist() == IMAGES[3].tolist()
    assert np.array(row[mask]).tolist() == MASKS[3].tolist()
    assert found.features["class"].int2str(row["class"]) == "dog"


def test_the_store_gives_tables_by_key_and_step(start: Start, store: Path) -> None:
    """The latest by default; another run's, or what was never logged, is not found."""
    run = start()
    for number in range(3):
        run.log({"t": Table(["n"], [[number]])})
    run.finish()
    found = Store(store).run(run.id)
    assert found.table("t").to_pydict() == {"n": [2]}
    assert found.table("t", step=1).to_pydict() == {"n": [1]}
    assert [t.read()["n"].to_pylist() for t in found.tables()] == [[0], [1], [2]]
    for key, step in (("u", None), ("t", 3)):
        with pytest.raises(NotFoundError, match="no table was logged"):
            found.table(key, step)


def test_a_run_that_is_being_recorded_has_its_tables(start: Start, stored: Stored) -> None:
    """Each is whole as soon as its row is there, sealed or not."""
    run = start()
    run.log({"t": Table(["n"], [[1]])})
    assert stored(run).table("t").to_pydict() == {"n": [1]}
    run.log({"t": Table(["n"], [[2]])}, commit=False)
    assert stored(run).table("t").to_pydict() == {"n": [2]}
    run.finish()


def test_arrays_of_zeros_are_read_in_batches_and_as_a_whole(
    start: Start, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However well a table is compressed, only a row group must have room, and who reads all of it.

    A hundred million zeros are a few hundred kilobytes on disk, as a stranger's bomb would be.
    """
    run = start()
    opened = run.open_table("masks", {"x": None})
    for _ in range(100):
        opened.add_batch({"x": np.zeros((1000, 1000), np.uint8)})
    run.log({"masks": opened})
    run.finish()
    (table,) = stored(run).tables()
    assert table.file.size < 500_000
    assert sum(batch.num_rows for batch in table.batches()) == 100_000
    assert table.read().num_rows == 100_000
    monkeypatch.setattr(tables, "memory_limit", lambda size: 99_000_000)
    with pytest.raises(StoreError, match="read it in batches"):
        table.read()


def test_every_changed_byte_of_a_table_is_found(table: StoredTable) -> None:
    """Reading refuses it and verifying names it, wherever the byte is."""
    size = table.path.stat().st_size
    root = table.path.parents[2]
    for offset in range(0, size, 97):
        with flipped(table.path, offset):
            with pytest.raises(DamagedError, match="the SHA-256 does not match"):
                table.read()
            (damage,) = verify_run(root).damage
            assert damage.path.as_posix() == table.file.path
    assert verify_run(root).damage == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "does not match"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "does not match"),
        (lambda path: path.write_bytes(b""), "does not match"),
        (lambda path: shutil.move(path, path.with_name("x")) and path.symlink_to("x"), "a link"),
    ],
)
def test_a_table_that_is_not_whole_is_lost_alone(
    table: StoredTable, change: Callable[[Path], None], reason: str
) -> None:
    """It is refused and located; repaired, the run is sound without it, and says what was lost."""
    root = table.path.parents[2]
    change(table.path)
    with pytest.raises(DamagedError, match=f"{table.file.path}.*{reason}"):
        table.read()
    found = verify_run(root)
    assert [damage.path.as_posix() for damage in found.damage] == [table.file.path]
    report = repair_run(root)
    assert (report.rows_lost, len(report.tables)) == (0, 1)
    assert report.tables[0].startswith("table 'eval/t' of step 0: ")
    left = StoredRun(root, strict=True)
    assert ([list(row.values) for row in left.rows()], left.summary, left.tables()) == (
        [[]],
        {},
        [],
    )
    assert any("table 'eval/t'" in line for line in left.lost)
    assert verify_run(root).damage == []
    assert repair_run(root).damage == []


def test_what_no_row_names_does_not_exist(start: Start, stored: Stored) -> None:
    """Files that a killed process left are no damage, and are read by nobody."""
    run = start()
    run.log({"t": Table(["n"], [[1]])})
    run.finish()
    folder = Path(run.dir or "") / "tables"
    (folder / ".0123456789abcdef.tmp").write_bytes(b"half")
    (folder / "t" / "00000007-000-000-0009.parquet").write_bytes(b"left over")
    assert verify_run(folder.parent).damage == []
    assert [t.step for t in stored(run).tables()] == [0]


def test_tables_of_rows_that_no_longer_count_are_not_given(start: Start, stored: Stored) -> None:
    """A later attempt that goes on from an earlier step has its own; all are verified."""
    run = start(id="k3j9x2ab")
    for number in range(3):
        run.log({"t": Table(["n"], [[number]])})
    run.finish()
    later = start(id="k3j9x2ab", resume="must")
    later.roll_back(1)
    later.log({"t": Table(["n"], [[10]])})
    later.finish()
    found = stored(later)
    assert [(t.step, t.read()["n"].to_pylist()) for t in found.tables()] == [(0, [0]), (1, [10])]
    assert found.summary["t"] == found.tables()[1].file.to_value("table/parquet")
    superseded = found.path / "tables/t/00000002-000-000-0002.parquet"
    with flipped(superseded, 5):
        assert [d.path for d in verify_run(found.path).damage] == [
            superseded.relative_to(found.path)
        ]
        assert len(found.tables()) == 2
