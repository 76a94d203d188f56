"""Rows as they are logged: the names of the row before are known, whatever else changes."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import numpy as np
import pytest

from wandbkeras.errors import UnsupportedValueError
from wandbkeras.recording.rows import Rows


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": 0.5, "b": 0.25}, {"a": 0.5, "b": 0.25}),
        ({"a": 0.5, "b": np.float64(0.25)}, {"a": 0.5, "b": 0.25}),
        ({"a": np.float32(0.5), "b": 1}, {"a": 0.5, "b": 1}),
        ({"a": 0.5, "b": {"c": 0.25}}, {"a": 0.5, "b.c": 0.25}),
        ({"b": 0.5, "a": 0.25}, {"b": 0.5, "a": 0.25}),
        ({"a": 0.5}, {"a": 0.5}),
        ({"a": -(2**63), "b": 2**63 - 1}, {"a": -(2**63), "b": 2**63 - 1}),
        ({"a": True, "b": 3}, {"a": True, "b": 3}),
        ({"a": 0.5, np.str_("b"): 0.25}, {"a": 0.5, "b": 0.25}),
        (UserDict(a=0.5, b=0.25), {"a": 0.5, "b": 0.25}),
        ({"a": 0.5, "_timestamp": 5.0}, {"a": 0.5, "_timestamp": 5.0}),
        ({}, {}),
    ],
)
def test_a_row_is_the_same_whatever_came_before(data: Any, expected: dict[str, Any]) -> None:
    """Rows that are taken the short way are those that are taken the long one, and new dicts."""
    for before in ({"a": 1.5, "b": 2.5}, data, {"x": 1}):
        rows = Rows()
        rows.plain(before)
        row = rows.plain(data)
        assert row == expected
        assert [type(value) for value in row.values()] == [type(v) for v in expected.values()]
        assert row is not data


@pytest.mark.parametrize(
    "data",
    [
        {"a": 0.5, 1: 0.25},
        {"_step": 0.5, "b": 0.25},
        {"a": 0.5, "b\udc80": 0.25},
        {"a": 0.5, "b": 2**63},
        [0.5],
    ],
)
def test_what_is_no_row_is_refused_each_time(data: Any) -> None:
    """A refused row leaves no names behind that would be taken for checked ones."""
    rows = Rows()
    for _ in range(2):
        rows.plain({"a": 0.5, "b": 0.25})
        for _ in range(2):
            with pytest.raises(UnsupportedValueError):
                rows.plain(data)
