"""Rows encoded by hand are read by protobuf itself, every value as it was."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from wandb.proto import wandb_internal_pb2 as pb

from tests import strategies
from wandbkeras.store.schema import Row
from wandbkeras.sync.log_rows import encode_rows

# Numbers alone are encoded together, rows of one set of keys at a time.
plain = st.dictionaries(strategies.names, strategies.integers | strategies.finite, max_size=4)
alike = st.lists(st.tuples(strategies.finite, strategies.integers)).map(
    lambda found: [{"a": a, "b": b} for a, b in found]
)
histories = st.lists(plain | strategies.rows) | alike


def rows_of(values: list[dict[str, Any]], start: int = 0) -> list[Row]:
    return [Row(n, 1795412700.5 + n, n / 3, v) for n, v in enumerate(values, start)]


def read(record: bytes) -> tuple[int, dict[str, Any]]:
    """Return the step and the items; keys come once, and nothing else is there."""
    found = pb.Record.FromString(record)
    items = {item.key: json.loads(item.value_json) for item in found.history.item}
    assert len(items) == len(found.history.item)
    again = pb.Record(history=pb.HistoryRecord(step=pb.HistoryStep(num=found.history.step.num)))
    again.history.item.extend(
        pb.HistoryItem(key=item.key, value_json=item.value_json) for item in found.history.item
    )
    assert again == found
    return found.history.step.num, items


@given(histories, st.sampled_from([0, 127, 2**40]))
@example([{"x": 1e-7, "y": 2**64}] * 101 + [{"x": math.nan, "y": 0}], 0)
@example([{"é" * 100: "x" * 70_000}, {}], 0)
def test_protobuf_reads_what_was_encoded(values: list[dict[str, Any]], start: int) -> None:
    """Whatever the rows hold, and whichever rows stand beside them."""
    rows = rows_of(values, start)
    for row, record in zip(rows, encode_rows(rows), strict=True):
        step, items = read(record)
        index = {"_step": row.step, "_timestamp": row.timestamp, "_runtime": row.runtime}
        assert step == row.step
        assert strategies.canonical(items) == strategies.canonical({**row.values, **index})


@given(strategies.finite)
def test_a_float_is_the_shortest_text_that_means_it(number: float) -> None:
    """As in Python; it has as many digits, if another exponent's notation."""
    (record,) = encode_rows(rows_of([{"x": number}]))
    (text,) = (i.value_json for i in pb.Record.FromString(record).history.item if i.key == "x")
    assert float(text) == number
    assert len(digits(text)) <= len(digits(repr(number)))


def digits(text: str) -> str:
    """The digits that count."""
    return text.partition("e")[0].replace(".", "").replace("-", "").strip("0")
