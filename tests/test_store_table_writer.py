"""Writing tables: a row group at a time, and each is there as a whole or not at all."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.disks import InterruptedDisk
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.table_schema import TableColumn, field_of, file_metadata
from wandbkeras.store.table_writer import TableShelf, TableWriter
from wandbkeras.store.tables import StoredTable


def test_a_row_group_is_bounded(layout: Layout) -> None:
    """In rows and in bytes, however large the batches are: so is the memory of a reader."""
    columns = [TableColumn("x", "string")]
    schema = pa.schema([field_of("x", "string")], file_metadata([], columns))
    writer = TableWriter(Disk(), layout, schema)
    for batch in (["a"] * 2_500, ["b" * (1 << 20)] * 20, ["c"], ["d"] * 10):
        writer.write(pa.table({"x": batch}))
    file = TableShelf(Disk(), layout, 0, 0).place(writer.finish(columns), "t", 0)
    with pq.ParquetFile(layout.root / file.path) as parquet:
        groups = [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)]
        assert max(group.num_rows for group in groups) == 1_000
        assert max(group.total_byte_size for group in groups) < 10 << 20
        assert sum(group.num_rows for group in groups) == file.rows == 2_531


@pytest.mark.parametrize("step", range(12))
def test_a_table_is_there_or_it_is_not(layout: Layout, step: int) -> None:
    """Whichever step on the disk fails, nothing is left, or all of it under its name."""
    disk = InterruptedDisk(step)
    columns = [TableColumn("x", "integer")]
    schema = pa.schema([field_of("x", "integer")], file_metadata([], columns))
    placed = None
    try:
        writer = TableWriter(disk, layout, schema)
        try:
            writer.write(pa.table({"x": [1, 2]}))
            written = writer.finish(columns)
        except OSError:
            writer.discard()
            raise
        placed = TableShelf(disk, layout, 0, 0).place(written, "t", 3)
    except OSError:
        pass
    disk.steps = 1e9
    left = [path for path in layout.tables.rglob("*") if path.is_file()]
    if placed is None:
        assert all(path.suffix == ".tmp" for path in left)
    else:
        assert StoredTable(layout, placed).read().to_pydict() == {"x": [1, 2]}
        assert left == [layout.root / placed.path]
