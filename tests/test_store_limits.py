"""What W&B takes of a row: the rest is named, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from wandbkeras import Run
from wandbkeras.store.limits import MAX_LINE_BYTES, beyond

MIB = 1 << 20


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"loss": 0.5, "n": 1, "flag": True, "none": None},
        {"text": "x" * (9 * MIB)},
        {"text": "\x00" * MIB, "list": [0.1] * 100_000},
        {f"key {i}": 0.5 for i in range(20_000)},
        {"h": {"_type": "histogram", "values": [1] * 512, "bins": [0.5] * 513}},
    ],
    ids=["empty", "scalars", "long text", "escapes", "many keys", "histogram"],
)
def test_what_fits_is_taken(values: dict[str, object]) -> None:
    """Up to the limits nothing is left out."""
    assert beyond(values) == {}


def test_the_largest_go_until_the_rest_fits() -> None:
    """As few values as possible, each with its size."""
    values = {"a": "x" * (4 * MIB), "b": "é" * (4 * MIB), "c": [1] * (1 * MIB), "d": 1.0}
    found = beyond(values)
    assert [*found] == ["b"]
    assert f"{len(json.dumps(values['b'], ensure_ascii=False).encode()):,} bytes" in found["b"]
    left = {key: value for key, value in values.items() if key not in found}
    assert len(json.dumps(left)) <= MAX_LINE_BYTES


@pytest.mark.parametrize("key", ["values", "bins"])
def test_a_histogram_must_be_finite(key: str) -> None:
    """Its edges and its counts."""
    value = {"_type": "histogram", "values": [1.0], "bins": [0.0, 1.0]}
    value[key] = [float("inf"), *value[key][1:]]
    assert "not finite" in beyond({"h": value, "loss": 1.0})["h"]


def test_the_recorder_warns_once_for_each_key(
    start: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is too long is recorded and named when it is logged, in a row and in the summary."""
    run = start()
    for _ in range(2):
        run.log({"loss": 0.5, "text": "x" * (11 * MIB)})
    run.summary["note"] = "y" * (11 * MIB)
    run.log({"loss": 0.25, "text": "short"})
    run.finish()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ", 2)[2].split(" is recorded")[0] for line in lines] == [
        "'text' in step 0", "'note' in the summary",
    ]  # fmt: skip
    assert all("will not be sent: 11,534,338 bytes" in line for line in lines)
