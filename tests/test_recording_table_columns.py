"""The kind of each column of a table, and every value of it, come back."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pandas
import pyarrow as pa
import pytest

from wandbkeras import Histogram, Image, ImageColumn, Run, StoredRun, Table
from wandbkeras.errors import UsageError, WandbkerasError

Start = Callable[..., Run]
Stored = Callable[[Run], StoredRun]
NAN = float("nan")


def logged(
    start: Start, stored: Stored, values: Any, kind: Any = None
) -> tuple[str, Any, pa.Field]:
    """Log a table of one column; return its kind, its cells as Python has them, and its field."""
    run = start()
    table = run.open_table("t", {"c": kind})
    table.add_batch({"c": values})
    run.log({"t": table})
    run.finish()
    (found,) = stored(run).tables()
    read, column = found.read(), found.schema().columns[0]
    return column.kind, read["c"].to_pylist(), read.schema.field("c")


KINDS = [
    ([1, None, 2**62], "integer", None),
    ([True, False, None], "bool", None),
    ([0.5, None, 1], "number", None),
    (["a", None, "é"], "string", None),
    ([None, None], "null", None),
    ([2**53 + 1, 0.5], "json", ["9007199254740993", "0.5"]),
    ([1, "a", None, [1]], "json", ["1", '"a"', None, "[1]"]),
    ([True, 1], "json", ["true", "1"]),
    ([{"a": 1}, {"b": [NAN]}], "json", ['{"a": 1}', '{"b": [NaN]}']),
    ([[1], [1, 2]], "json", ["[1]", "[1, 2]"]),
    ([[1, 2], None], "array", None),
    ([[0.5, 1.5]], "array", None),
    ([[True, False]], "array", None),
    ([[1, 0.5]], "json", ["[1, 0.5]"]),
    ([[[1, 2]], [[3, 4]]], "json", ["[[1, 2]]", "[[3, 4]]"]),
    ([], "null", None),
    (np.arange(3, dtype=np.uint8), "integer", [0, 1, 2]),
    (np.arange(3, dtype=np.float16), "number", [0.0, 1.0, 2.0]),
    (np.array([True, False]), "bool", [True, False]),
    (np.array(["a", "b"]), "string", ["a", "b"]),
    (np.array([1, "a"], object), "json", ["1", '"a"']),
    (np.arange(4).reshape(2, 2), "array", [[0, 1], [2, 3]]),
    (np.arange(8.0).reshape(2, 2, 2), "array", [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
    ([np.arange(2), None], "array", [[0, 1], None]),
    ([np.arange(2), np.arange(3)], "json", ["[0, 1]", "[0, 1, 2]"]),
    ([np.float32(0.1), np.float32(2)], "number", [float(np.float32(0.1)), 2.0]),
    ([np.int64(1), np.bool_(True)], "json", ["1", "true"]),
    (np.zeros((2, 0)), "json", ["[]", "[]"]),
    (pandas.Series([1.5, 2.5]), "number", [1.5, 2.5]),
    (pandas.Series(["a", "b"]), "string", ["a", "b"]),
    (range(2), "integer", [0, 1]),
    ([datetime(2026, 11, 23)], "string", ["2026-11-23T00:00:00"]),
    (np.array([1, 2], ml_dtypes.bfloat16), "number", [1.0, 2.0]),
    (keras.ops.convert_to_tensor([[1.0, 2.0]]), "array", [[1.0, 2.0]]),
    ([b"bytes"], "string", ["bytes"]),
]


@pytest.mark.parametrize(("values", "kind", "expected"), KINDS, ids=[str(k)[:40] for k in KINDS])
def test_a_kind_is_found_from_the_values(
    start: Start, stored: Stored, values: Any, kind: str, expected: Any
) -> None:
    """The narrowest one that holds each value exactly; what none does is JSON."""
    found, cells, _ = logged(start, stored, values)
    assert (found, cells) == (kind, values if expected is None else expected)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2], float, [1.0, 2.0]),
        (np.arange(2), float, [0.0, 1.0]),
        ([1, "a"], object, ["1", '"a"']),
        (np.arange(2.0), object, ["0.0", "1.0"]),
        ([None], int, [None]),
        ([], str, []),
    ],
)
def test_a_kind_can_be_given(
    start: Start, stored: Stored, values: Any, kind: Any, expected: Any
) -> None:
    """Then later batches may hold what the first one doesn't."""
    names = {float: "number", object: "json", int: "integer", str: "string"}
    assert logged(start, stored, values, kind)[:2] == (names[kind], expected)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a"], int),
        ([0.5], int),
        ([True], int),
        ([1], bool),
        ([1], str),
        (np.arange(2.0), int),
        (np.array([True]), float),
        ([2**53 + 1], float),
        (np.array([2**53 + 1]), float),
        (np.array([2**63], np.uint64), int),
        ([2**63], None),
        ([object()], object),
        (["\ud800"], None),
        ([1], ImageColumn()),
    ],
)
def test_no_value_is_changed_to_fit(start: Start, stored: Stored, values: Any, kind: Any) -> None:
    """What a column can't hold exactly is refused, with its name."""
    with pytest.raises(WandbkerasError, match="'c'"):
        logged(start, stored, values, kind)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float32, np.float64])
def test_arrays_keep_their_type(start: Start, stored: Stored, dtype: Any) -> None:
    """Each element is stored as it is, no larger."""
    _, cells, field = logged(start, stored, np.ones((2, 3), dtype))
    assert cells == [[1, 1, 1]] * 2
    assert field.type == pa.list_(pa.from_numpy_dtype(dtype), 3)


def test_numbers_are_exact(start: Start, stored: Stored) -> None:
    """NaN, infinities and the ends of the range come back."""
    values = [NAN, math.inf, -math.inf, 5e-324, -0.0, 1.7976931348623157e308]
    _, cells, _ = logged(start, stored, values)
    assert repr(cells) == repr(values)


def test_a_histogram_is_a_cell(start: Start, stored: Stored) -> None:
    """As the value that a row would hold."""
    kind, (text,), _ = logged(start, stored, [Histogram([1.0, 2.0], num_bins=1)])
    assert (kind, '"_type": "histogram"' in text) == ("json", True)


def test_images_among_cells_make_a_column_of_images(start: Start, stored: Stored) -> None:
    """Whoever logs an image means one; others may be missing."""
    run = start()
    image = Image(np.zeros((2, 3)), caption="c", masks={"m": [[0, 1, 2]] * 2}, classes=["x"])
    run.log({"t": Table(["i"], [[None], [image], [Image(np.ones((1, 1)))]])})
    run.finish()
    (found,) = stored(run).tables()
    column = found.schema().columns[0]
    assert (column.kind, column.labels, column.scale) == ("image", ((0, "x"),), "unit")
    (mask,) = column.masks
    assert mask.labels == ((0, "class_0"), (1, "class_1"), (2, "class_2"))
    assert [cell is None for cell in found.read()[mask.column].to_pylist()] == [True, False, True]
    assert found.read()["i.caption"].to_pylist() == [None, "c", None]


def test_columns_beside_another_take_no_name(start: Start, stored: Stored) -> None:
    """The caption of an image stands under a name that no column of the table has."""
    run = start()
    image = Image(np.zeros((1, 1)), caption="mine", masks={"caption": [[1]]})
    run.log({"t": Table(["i", "i.caption", "i.masks"], [[image, "yours", image]])})
    run.finish()
    (found,) = stored(run).tables()
    assert found.read()["i.caption"].to_pylist() == ["yours"]
    stored_names = [name for column in found.schema().columns for name in column.stored]
    assert len(set(stored_names)) == len(stored_names) == 7
    assert found.read()[found.schema().columns[0].caption].to_pylist() == ["mine"]


def test_a_mask_that_the_column_lacks_is_refused(start: Start) -> None:
    """The masks of the first images are those of the column."""
    run = start()
    table = run.open_table("t", {"i": ImageColumn()})
    table.add_batch({"i": [Image(np.zeros((1, 1)), masks={"a": [[1]]})]})
    with pytest.raises(UsageError, match="received a mask 'b'"):
        table.add_batch({"i": [Image(np.zeros((1, 1)), masks={"b": [[1]]})]})
    table.discard()


def test_a_column_of_images_takes_whatever_is_one(
    start: Start, stored: Stored, tmp_path: Any
) -> None:
    """Arrays, paths, bytes and images; a batch of arrays as it is; in one mode if it is given."""
    file = tmp_path / "a.png"
    file.write_bytes(Image(np.zeros((1, 1), np.uint8)).encode().data)
    run = start()
    table = run.open_table("t", {"i": ImageColumn(mode="RGB", scale="unit")})
    table.add_batch({"i": [np.ones((1, 1)), Image(np.ones((1, 1))), str(file), file.read_bytes()]})
    table.add_batch({"i": np.zeros((2, 1, 1, 3), np.float32)})
    run.log({"t": table})
    run.finish()
    cells = stored(run).table("t")["i"].to_pylist()
    assert [cell["path"] for cell in cells] == [None, None, "a.png", None, None, None]
    assert cells[0]["bytes"] == cells[1]["bytes"] != cells[2]["bytes"] == cells[3]["bytes"]
