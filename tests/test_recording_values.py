"""What may be logged: numbers of every library, text, lists, histograms; the rest by name."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from datetime import date, datetime, timezone
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given

import wandbkeras
from tests.strategies import canonical, names, values
from wandbkeras.errors import UnsupportedValueError
from wandbkeras.recording.rows import plain_row
from wandbkeras.recording.values import plain_config, plain_value
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


class Colour(enum.Enum):
    """An enum of objects."""

    RED = object()


class Level(enum.IntEnum):
    """An enum that is an int too."""

    HIGH = 3


class Loss(float):
    """A float of the user's own."""


class Label(str):
    """A string of the user's own."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (True, True),
        (0.1, 0.1),
        ("a", "a"),
        (None, None),
        (math.inf, math.inf),
        (2**63 - 1, 2**63 - 1),
        (np.float16(0.1), float(np.float16(0.1))),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (ml_dtypes.bfloat16(0.5), 0.5),
        (np.array(2.5), 2.5),
        (np.array([[2.5]]), 2.5),
        (np.array([1, 2]), [1, 2]),
        (np.array([0.5, 1.5], np.longdouble), [0.5, 1.5]),
        (np.array([0.5, 1.5], ml_dtypes.bfloat16), [0.5, 1.5]),
        (np.array([[True], [False]]), [[True], [False]]),
        (np.array([]), []),
        (tf.constant(2.5), 2.5),
        (tf.constant([2.5]), 2.5),
        (tf.constant([1, 2]), [1, 2]),
        (tf.constant([[1.5, 2.5]], tf.bfloat16), [[1.5, 2.5]]),
        (tf.constant("a"), "a"),
        (tf.Variable(3), 3),
        (pd.Series([1, 2]), [1, 2]),
        (b"bytes", "bytes"),
        (datetime(2026, 11, 23, 5, 45, tzinfo=timezone.utc), "2026-11-23T05:45:00+00:00"),
        (date(2026, 11, 23), "2026-11-23"),
        (Colour.RED, "RED"),
        (Level.HIGH, "HIGH"),
        (Loss(0.5), 0.5),
        (Label("a"), "a"),
        ((1, "a", None), [1, "a", None]),
        ([np.float32(1), [tf.constant(2)]], [1.0, [2]]),
        ({3}, [3]),
    ],
)
def test_a_value_is_recorded_as_what_it_holds(
    start: Start, stored: Stored, value: Any, expected: Any
) -> None:
    """Python, NumPy, TensorFlow and pandas values come back as plain ones, sealed or not."""
    run = start()
    run.log({"m": value})
    run.summary["s"] = value
    assert canonical(next(stored(run).rows()).values) == canonical({"m": expected})
    assert type(run.summary["s"]) is type(expected)
    run.finish()
    assert canonical(next(stored(run).rows()).values) == canonical({"m": expected})
    assert canonical(stored(run).summary["s"]) == canonical(expected)


def test_a_keras_variable_is_its_value() -> None:
    """A variable of Keras, as an optimizer's learning rate is one."""
    import keras

    assert plain_value(keras.Variable(0.25), "rate") == 0.25
    assert plain_value(keras.ops.ones((2, 2)), "ones") == [[1.0, 1.0], [1.0, 1.0]]


@given(names, values)
def test_plain_values_pass_unchanged(name: str, value: Any) -> None:
    """What is plain already stays as it is."""
    if not isinstance(value, dict):
        assert canonical(plain_row({name: value})) == canonical({name: value})


@pytest.mark.parametrize("size", [33, 10_000])
def test_a_large_array_is_a_histogram(start: Start, stored: Stored, size: int) -> None:
    """Beyond 32 elements the distribution is recorded, non-finite numbers counted beside it."""
    array = np.arange(size, dtype=np.float32)
    array[0] = np.nan
    for given_array in (array, tf.constant(array), array.astype(ml_dtypes.bfloat16)):
        value = plain_value(given_array, "w")
        assert value["_type"] == "histogram"
        assert sum(value["values"]) == size - 1
        assert value["stats"]["nan"] == 1
    run = start()
    run.log({"w": array})
    run.finish()
    (row,) = stored(run).rows()
    assert sum(row.values["w"]["values"]) == size - 1
    assert stored(run).history().column_names == ["_step", "_timestamp", "_runtime", "_attempt"]


def test_histograms_of_wandb_are_taken(start: Start, stored: Stored) -> None:
    """An object with counts and edges that calls itself a histogram is one, without wandb."""

    class Theirs:
        _log_type = "histogram"
        histogram = [1, 2]  # noqa: RUF012
        bins = [0.0, 1.0, 2.0]  # noqa: RUF012

    run = start()
    run.log({"w": Theirs()})
    run.finish()
    (row,) = stored(run).rows()
    assert row.values["w"] == {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}


def _keras_input() -> Any:
    import keras

    return keras.Input((3,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(object, "an object of type builtins.object", id="object"),
        pytest.param(lambda: Fraction(1, 3), "of type fractions.Fraction", id="Fraction"),
        pytest.param(lambda: 1 + 2j, "of type builtins.complex", id="complex"),
        pytest.param(lambda: len, "builtin_function_or_method", id="function"),
        pytest.param(lambda: 2**63, "does not fit 64 bits", id="a large int"),
        pytest.param(lambda: -(2**63) - 1, "does not fit 64 bits", id="a small int"),
        pytest.param(lambda: np.uint64(2**63), "does not fit 64 bits", id="a large uint64"),
        pytest.param(lambda: np.array(["a", "b"]), "an array of <U1", id="an array of text"),
        pytest.param(lambda: np.array([1j, 2j]), "an array of complex128", id="complex array"),
        pytest.param(lambda: np.array([None, 1]), "an array of object", id="an array of objects"),
        pytest.param(lambda: [1, object()], "of type builtins.object", id="an object in a list"),
        pytest.param(lambda: {"b": object()}, r"'a\.b'.*builtins.object", id="in a nested dict"),
        pytest.param(_keras_input, "KerasTensor", id="a symbolic tensor"),
        pytest.param(lambda: "\ud800", "not valid Unicode", id="a lone surrogate"),
        pytest.param(lambda: [Label("\ud800")], "not valid Unicode", id="a lone surrogate within"),
        pytest.param(lambda: {1: 2}, "the key 1 is of type int", id="a key that is no string"),
    ],
)
def test_what_can_not_be_recorded_is_named_with_its_key(
    start: Start, stored: Stored, make: Callable[[], Any], message: str
) -> None:
    """The message has the key and what was received; nothing of the row is recorded."""
    run = start()
    value = make()
    with pytest.raises(UnsupportedValueError, match=message) as caught:
        run.log({"fine": 1, "a": value})
    assert "a" in str(caught.value)
    run.log({"fine": 2})
    assert [row.values for row in stored(run).rows()] == [{"fine": 2}]


def test_a_key_is_text(start: Start) -> None:
    """A key of another type is refused, and so is one that no file can hold."""
    run = start()
    with pytest.raises(UnsupportedValueError, match="the key 5 is of type int; expected a string"):
        run.log({5: 1})  # type: ignore[dict-item]
    with pytest.raises(UnsupportedValueError, match="not valid Unicode"):
        run.log({"\ud800": 1})


def test_a_config_takes_anything() -> None:
    """Objects become their text, as in wandb; dicts stay nested."""
    plain = plain_config(
        {"a": {"b": Fraction(1, 3), "c": [object]}, "big": 2**70, "path": "caf\udce9", "none": None}
    )
    assert plain == {
        "a": {"b": "1/3", "c": ["<class 'object'>"]},
        "big": str(2**70),
        "path": "caf?",
        "none": None,
    }


@pytest.mark.parametrize("value", [5, "lr=0.1", dict])
def test_a_config_is_a_mapping_or_a_namespace(start: Start, value: Any) -> None:
    """Something else is refused by its type."""
    with pytest.raises(UnsupportedValueError, match=r"a dict or an argparse\.Namespace"):
        start(config=value)
