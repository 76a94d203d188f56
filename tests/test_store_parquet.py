"""Sealed data is plain Parquet: other programs read it with none of our code."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

import wandbkeras
from tests.damage import flipped
from wandbkeras.store.layout import Layout
from wandbkeras.store.pages import _pages

INDEX = ["_step", "_timestamp", "_runtime", "_attempt"]


@pytest.fixture
def recorded(start: Callable[..., wandbkeras.Run], store: Path) -> Path:
    """Two finished runs of different metrics; return the store."""
    first = start(project="p")
    for step in range(5):
        first.log({"loss": 1 / (step + 1), "n": 2**60 + step, "ok": step > 2, "val.acc": step / 4})
    first.log({"loss": math.nan, "note": "diverged", "late": 1, "none": None})
    first.log({"loss": math.inf, "mixed": [1, "a"], "w": wandbkeras.Histogram([1.0, 2.0])})
    first.finish()
    second = start(project="p")
    second.log({"loss": 7.0, "other": 1})
    second.finish()
    return store


def _path(recorded: Path, stream: str) -> Path:
    return sorted(recorded.glob(f"*/{stream}/*.parquet"))[0]


def _histories(recorded: Path) -> list[Path]:
    """The history of the run with seven rows, then that of the one with one row."""
    paths = recorded.glob("*/history/*.parquet")
    return sorted(paths, key=lambda path: -pq.read_metadata(path).num_rows)


def test_pandas_reads_the_history(recorded: Path) -> None:
    """The columns are W&B's names, the values those logged."""
    frame = pd.read_parquet(_histories(recorded)[0])
    assert [name for name in frame.columns if name.startswith("_")] == [*INDEX, "_null"]
    assert frame["_step"].tolist() == list(range(7))
    assert frame["loss"].tolist()[:5] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert math.isnan(frame["loss"][5]) and math.isinf(frame["loss"][6])
    assert frame["ok"].tolist()[:5] == [False, False, False, True, True]
    assert frame["val.acc"].tolist()[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert frame["note"][5] == "diverged"
    assert frame["mixed"][6] == '[1, "a"]'
    assert (frame["_attempt"] == 0).all()
    assert frame["_runtime"].is_monotonic_increasing


def test_polars_scans_the_history(recorded: Path) -> None:
    """Large ints are exact, and a filter is pushed into the file."""
    scanned = pl.scan_parquet(_histories(recorded)[0])
    rows = scanned.filter(pl.col("_step") < 5).select("n", "loss").collect()
    assert rows["n"].to_list() == [2**60 + step for step in range(5)]
    assert scanned.select(pl.col("late").drop_nulls()).collect().to_series().to_list() == [1]


def test_polars_scans_all_runs_of_a_store_at_once(recorded: Path) -> None:
    """Runs of different metrics are one frame, joined by name."""
    scanned = [pl.scan_parquet(path) for path in _histories(recorded)]
    frame = pl.concat(scanned, how="diagonal").filter(pl.col("loss") >= 0.5).collect()
    assert sorted(frame["loss"].drop_nans().to_list()) == [0.5, 1.0, 7.0, math.inf]
    assert frame.filter(pl.col("loss") == 7)["other"].to_list() == [1]


def test_duckdb_reads_all_runs_of_a_store_at_once(recorded: Path) -> None:
    """Runs of different metrics are one table, joined by name."""
    files = f"{recorded}/*/history/*.parquet"
    rows = duckdb.sql(
        f"select _step, loss, n, other from read_parquet('{files}', union_by_name=true) "
        "where loss < 0.3 or loss = 7 order by loss"
    ).fetchall()
    assert rows == [(4, 0.2, 2**60 + 4, None), (3, 0.25, 2**60 + 3, None), (0, 7.0, None, 1)]


def test_histograms_and_events_are_tables_too(recorded: Path) -> None:
    """A histogram is a row with its counts and edges, an event a row with its JSON."""
    paths = recorded.glob("*/histograms/*.parquet")
    (row,) = pd.read_parquet(next(paths)).to_dict("records")
    assert (row["_step"], row["key"], sum(row["values"]), row["count"]) == (6, "w", 2, 2)
    assert len(row["bins"]) == len(row["values"]) + 1
    kinds = pl.read_parquet(_path(recorded, "events"))["type"].to_list()
    assert (kinds[0], kinds[-1]) == ("attempt", "finish")


def test_a_part_says_its_format_and_checks_its_pages(recorded: Path) -> None:
    """The file's metadata names the format version; floats are split by byte and compressed."""
    file = pq.ParquetFile(_histories(recorded)[0])
    assert file.schema_arrow.metadata[b"wandbkeras.version"] == b"1"
    group = file.metadata.row_group(0)
    column = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert column["loss"].compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in column["loss"].encodings
    assert "BYTE_STREAM_SPLIT" in column["val.acc"].encodings
    assert "DELTA_BINARY_PACKED" in column["_step"].encodings
    (order,) = group.sorting_columns
    assert (order.column_index, order.descending) == (0, False)
    assert (column["_step"].statistics.min, column["_step"].statistics.max) == (0, 6)
    assert (column["loss"].statistics.min, column["loss"].statistics.max) == (1 / 5, math.inf)


def test_parquets_own_checksums_find_a_changed_page(recorded: Path) -> None:
    """A reader that knows no manifest can have its pages checked."""
    path = _histories(recorded)[0]
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        loss = next(c for c in map(group.column, range(14)) if c.path_in_schema == "loss")
    last = loss.data_page_offset + loss.total_compressed_size - 1
    with flipped(path, last), pytest.raises(OSError, match="CRC checksum verification failed"):
        pq.read_table(path, page_checksum_verification=True)


def test_a_row_group_has_one_page_a_column(start: Callable[..., wandbkeras.Run]) -> None:
    """However many rows it has: its byte streams are blocks of Zstandard then."""
    run = start(project="p")
    for step in range(25_000):
        run.log({"loss": 1 / (step + 1)})
    run.finish()
    (path,) = Path(run.dir or "").glob("history/*.parquet")
    with pq.ParquetFile(path) as file:
        assert file.metadata.num_row_groups == 1
        column = file.metadata.row_group(0).column(4)
        assert len(list(_pages(path.read_bytes(), column))) == 1


def test_only_parts_have_the_name_of_a_part(recorded: Path) -> None:
    """A program that globs for Parquet files finds sealed data and nothing else."""
    for root in (path.parent for path in recorded.glob("*/run.json")):
        layout = Layout(root)
        assert all(
            layout.listed_part(path.relative_to(root).as_posix()) == path
            for path in root.rglob("*.parquet")
        )
