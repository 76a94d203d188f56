"""User values to plain ones: what ``log``, ``config`` and ``summary`` take, as wandb takes it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from wandbkeras.data_types import Histogram
from wandbkeras.errors import UnsupportedValueError

# Columns of the history that the store writes itself. A row's own `_timestamp` is taken, as in
# wandb, and passed to the store beside the row.
RESERVED = frozenset({"_step", "_runtime", "_attempt", "_null", "_timestamp"})
# Larger arrays become histograms, as in wandb.
_LIST_LIMIT = 32
# What W&B's client carries without rounding.
_INTEGERS = range(-(2**63), 2**63)


def plain_row(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of ``data`` as plain values, nested names joined by dots.

    >>> plain_row({"loss": 0.5, "val": {"acc": 1}})
    {'loss': 0.5, 'val.acc': 1}
    """
    row: dict[str, Any] = {}
    for key, value in data.items():
        kind = type(value)
        if type(key) is str and (kind is float or kind is str or kind is bool or value is None):
            row[key] = value
        else:
            _add(row, _checked_key(key), value)
    return row


def plain_value(value: Any, key: str) -> Any:
    """Return ``value`` as plain data; UnsupportedValueError, naming ``key``, if it can't be."""
    value = _unwrapped(value)
    if value is None or isinstance(value, (bool, float, str)):
        return value
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise UnsupportedValueError(
                f"{key!r}: the integer {value} does not fit 64 bits with a sign: "
                "pass a float or a string"
            )
        return int(value)
    if isinstance(value, Histogram):
        return value.to_value()
    if getattr(value, "_log_type", None) == "histogram":  # wandb.Histogram
        return Histogram(np_histogram=(value.histogram, value.bins)).to_value()
    if isinstance(value, Mapping):
        return {_checked_key(name): plain_value(v, f"{key}.{name}") for name, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_value(item, key) for item in value]
    if hasattr(value, "__array__"):
        return _plain_array(value, key)
    raise UnsupportedValueError(
        f"{key!r}: received an object of type {type(value).__module__}.{type(value).__qualname__}; "
        "expected a number, a string, a bool, None, an array, a wandbkeras.Histogram, or a dict or "
        "list of those"
    )


def plain_config(values: Mapping[str, Any] | Any) -> dict[str, Any]:
    """Return a config as plain, still nested data; objects become their ``str``, as in wandb."""
    if not isinstance(values, Mapping):
        values = _mapping_of(values)
    return {_checked_key(key): _config_value(value, key) for key, value in values.items()}


def _config_value(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _config_value(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_config_value(item, key) for item in value]
    try:
        return plain_value(value, key)
    except UnsupportedValueError:
        return str(value)


def _mapping_of(values: Any) -> Mapping[str, Any]:
    """Return what an argparse.Namespace or a similar plain object holds."""
    if hasattr(values, "__dict__") and not isinstance(values, type):
        return dict(vars(values))
    raise UnsupportedValueError(
        f"config: received {type(values).__name__}; expected a dict or an argparse.Namespace"
    )


def _add(row: dict[str, Any], key: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _add(row, f"{key}.{_checked_key(name)}", item)
    else:
        row[key] = plain_value(value, key)


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        raise UnsupportedValueError(
            f"the key {key!r} is of type {type(key).__name__}; expected a string"
        )
    return key


def _unwrapped(value: Any) -> Any:
    """Return the Python value inside of scalars and small wrappers of NumPy and the backends."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU, perhaps with a gradient
        value = value.detach().cpu()
    elif hasattr(value, "__array__") and hasattr(value, "numpy"):  # TensorFlow, Keras variables
        value = value.numpy()
    if getattr(value, "size", None) == 1 or getattr(value, "shape", None) == ():
        return value.item() if hasattr(value, "item") else value
    return value


def _plain_array(value: Any, key: str) -> Any:
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise UnsupportedValueError(
            f"{key!r}: received an array of {array.dtype}; expected numbers or bools"
        )
    if array.size <= _LIST_LIMIT:
        return array.tolist()
    return Histogram(array, num_bins=32).to_value()


def checked_names(values: Iterable[str] | None, what: str) -> tuple[str, ...]:
    """Return ``values`` as a tuple of strings; a single string is one value."""
    values = (values,) if isinstance(values, str) else tuple(values or ())
    for value in values:
        if not isinstance(value, str):
            raise UnsupportedValueError(f"{what}: received {value!r}; expected strings")
    return values
