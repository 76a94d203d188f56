"""Reading a part takes nothing from it that was changed, and reads only what is asked for."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.damage import flipped
from wandbkeras.errors import DamagedError
from wandbkeras.store import chunks, columns, parquet, part_reader, part_schema
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.parquet import Part, write_part
from wandbkeras.store.part_reader import load_part, read_part
from wandbkeras.store.schema import Row


@pytest.fixture
def part(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Part:
    """A sealed history of three row groups."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    rows = [Row(n, 1000.0 + n, n / 2, _values(n)) for n in range(10)]
    return write_part(Disk(), layout.part("history", 0, 0, 0), [columns.history_table(rows)])


def _values(step: int) -> dict[str, Any]:
    return {"loss": 1 / (step + 1), "note": f"step {step}", "none": None}


@pytest.fixture(params=["alone", "side by side"], autouse=True)
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are read one after the other, or several at a time."""
    if request.param == "side by side":
        monkeypatch.setattr(part_reader, "_PARALLEL_BYTES", 0)


def _read(layout: Layout, part: Part, names: list[str] | None = None) -> pa.Table:
    return read_part(layout, part, names).replace_schema_metadata(None)


def test_a_part_is_read_as_it_was_written(layout: Layout, part: Part) -> None:
    """All of it, and the columns that are asked for."""
    rows = list(columns.read_rows(_read(layout, part)))
    assert [dict(row.values) for row in rows] == [_values(step) for step in range(10)]
    some = _read(layout, part, [*part_schema.INDEX, "loss", "unknown"])
    assert some.column_names == [*part_schema.INDEX, "loss"]
    assert some["loss"].to_pylist() == [1 / (step + 1) for step in range(10)]


def test_a_part_is_decoded_a_row_group_at_a_time(layout: Layout, part: Part) -> None:
    """What was read is all there is; its file may be gone by then."""
    table, loaded = read_part(layout, part), load_part(layout, part)
    (layout.root / part.name).unlink()
    groups = list(loaded.row_groups())
    assert [len(group) for group in groups] == [4, 4, 2]
    assert pa.concat_tables(groups) == table
    assert loaded.schema.names == table.column_names


def test_every_changed_byte_is_noticed(layout: Layout, part: Part) -> None:
    """Wherever it is, the part is refused by its name."""
    path = layout.root / part.name
    stride = 1 if part_reader._PARALLEL_BYTES else 11  # starting threads takes its time
    for offset in range(0, part.size, stride):
        with flipped(path, offset), pytest.raises(DamagedError, match=part.name):
            read_part(layout, part)


def test_what_is_not_asked_for_is_not_read(layout: Layout, part: Part) -> None:
    """Damage to a column costs nothing to whoever reads another one."""
    path = layout.root / part.name
    good = _read(layout, part, [*part_schema.INDEX, "loss"])
    metadata, footer = _metadata(layout, part)
    column = metadata.schema.to_arrow_schema().names.index("note")
    first = next(c for c in chunks.chunks_of(metadata, footer) if c.column == column)
    with flipped(path, first.offset + 30):
        assert _read(layout, part, [*part_schema.INDEX, "loss"]) == good
        with pytest.raises(DamagedError, match=f"column {column} of row group 0"):
            read_part(layout, part, [*part_schema.INDEX, "note"])


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_file_of_another_size_is_not_the_part(layout: Layout, part: Part, change: bytes) -> None:
    """It was cut, or something was written behind its end."""
    path = layout.root / part.name
    data = path.read_bytes()
    path.write_bytes(data + change if change else data[:-1])
    with pytest.raises(DamagedError, match=f"{part.size} were sealed"):
        read_part(layout, part)


def test_every_byte_before_the_footer_has_a_checksum(layout: Layout, part: Part) -> None:
    """Of what an older Arrow writes between the columns, too; columns that overlap are refused."""
    metadata, footer = _metadata(layout, part)
    found = chunks.chunks_of(metadata, footer)
    assert [c.end for c in found] == [*(c.offset for c in found[1:]), footer]
    assert found[0].offset == len(chunks.MAGIC)
    assert chunks.chunks_of(metadata, footer + 9)[-1].size == found[-1].size + 9
    with pytest.raises(ValueError, match="columns that overlap"):
        chunks.chunks_of(metadata, found[-1].offset)


def _metadata(layout: Layout, part: Part) -> tuple[pq.FileMetaData, int]:
    """Return the metadata of a part, and where its footer begins."""
    metadata = pq.read_metadata(layout.root / part.name)
    return metadata, part.size - chunks.TAIL - metadata.serialized_size
