"""A part has the columns of its stream, each of a type of the format."""

from __future__ import annotations

import pyarrow as pa
import pytest

from wandbkeras.store.part_schema import SCHEMAS, check_schema

HISTORY = SCHEMAS["history"]


@pytest.mark.parametrize("stream", SCHEMAS)
def test_a_stream_has_its_own_columns(stream: str) -> None:
    """They may be in any order; none is missing, and none is there twice."""
    schema = SCHEMAS[stream]
    check_schema(pa.schema(list(reversed(schema))), stream)
    for wrong in (list(schema)[1:], [*schema, schema[0]]):
        with pytest.raises(ValueError, match=f"not the columns of the {stream}"):
            check_schema(pa.schema(wrong), stream)


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.null()])
def test_the_history_has_metrics_beside(kind: pa.DataType) -> None:
    """Of the types that metrics have; other streams have nothing else."""
    check_schema(HISTORY.append(pa.field("loss", kind)), "history")
    with pytest.raises(ValueError, match="not the columns of the events"):
        check_schema(SCHEMAS["events"].append(pa.field("loss", kind)), "events")


@pytest.mark.parametrize(
    "field",
    [
        pa.field("loss", pa.float32()),
        pa.field("loss", pa.list_(pa.float64(), 2**31 - 1)),
        pa.field("loss", pa.fixed_shape_tensor(pa.float64(), [2**31 - 1])),
        pa.field("loss", pa.int64(), metadata={"wandbkeras.encoding": "json"}),
        pa.field("_null", pa.string()),
    ],
)
def test_other_types_are_refused_by_name(field: pa.Field) -> None:
    """Before anything is read: of some types one missing value takes gigabytes."""
    with pytest.raises(ValueError, match=f"a column '{field.name}' of type"):
        check_schema(HISTORY.append(field), "history")


def test_a_stream_of_a_later_version_has_any_columns() -> None:
    """Nobody reads it."""
    check_schema(pa.schema([pa.field("x", pa.float32())]), "later")
