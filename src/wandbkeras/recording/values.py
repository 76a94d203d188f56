"""User values to plain ones: what ``log``, ``config`` and ``summary`` take, as wandb takes it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from wandbkeras.errors import UnsupportedValueError
from wandbkeras.recording.from_wandb import histogram_of
from wandbkeras.store.checks import MAX_VALUE_DEPTH, TABLE_TYPES, readable

# Larger arrays become histograms, as in wandb.
_LIST_LIMIT = 32
# What W&B's client carries without rounding.
INTEGERS = range(-(2**63), 2**63)


def plain_value(value: Any, key: str, depth: int = MAX_VALUE_DEPTH) -> Any:
    """Return ``value`` as plain data; UnsupportedValueError, naming ``key``, if it can't be.

    It may nest ``depth`` levels deep.
    """
    value = _unwrapped(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return checked_text(value, repr(key))
    if isinstance(value, int):
        if int(value) not in INTEGERS:  # of a subclass, a range would look at each of its members
            raise UnsupportedValueError(
                f"{key!r}: the integer {value} does not fit 64 bits with a sign: "
                "pass a float or a string"
            )
        return int(value)
    if (histogram := histogram_of(value)) is not None:
        return histogram.to_value()
    if isinstance(value, Mapping):
        kind = value.get("_type")
        if isinstance(kind, str) and kind in TABLE_TYPES:
            raise UnsupportedValueError(f"{key!r}: the _type {kind!r} is the store's own")
        inner = depth_below(depth, key)
        items = value.items()
        return {checked_key(name): plain_value(v, f"{key}.{name}", inner) for name, v in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        inner = depth_below(depth, key)
        return [plain_value(item, key, inner) for item in value]
    if hasattr(value, "__array__"):
        return _plain_array(value, key)
    raise _unsupported(value, key)


def plain_config(values: Mapping[str, Any] | Any) -> dict[str, Any]:
    """Return a config as plain, still nested data; objects become their ``str``, as in wandb."""
    if not isinstance(values, Mapping):
        values = _mapping_of(values)
    return {checked_key(key): _config_value(value, key) for key, value in values.items()}


def _config_value(value: Any, key: str, depth: int = MAX_VALUE_DEPTH) -> Any:
    if isinstance(value, Mapping):
        inner = depth_below(depth, key)
        items = value.items()
        return {readable(name): _config_value(v, f"{key}.{name}", inner) for name, v in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        inner = depth_below(depth, key)
        return [_config_value(item, key, inner) for item in value]
    try:
        return plain_value(value, key)
    except UnsupportedValueError:
        return readable(value)


def depth_below(depth: int, key: str) -> int:
    """Return how deep what lies in a list or a mapping may nest."""
    if not depth:
        raise UnsupportedValueError(
            f"{key[:100]!r}: nested more than {MAX_VALUE_DEPTH} levels deep, or in itself"
        )
    return depth - 1


def _mapping_of(values: Any) -> Mapping[str, Any]:
    """Return what an argparse.Namespace or a similar plain object holds."""
    if hasattr(values, "__dict__") and not isinstance(values, type):
        return dict(vars(values))
    raise UnsupportedValueError(
        f"config: received {type(values).__name__}; expected a dict or an argparse.Namespace"
    )


def checked_key(key: Any) -> str:
    if not isinstance(key, str):
        raise UnsupportedValueError(
            f"the key {key!r} is of type {type(key).__name__}; expected a string"
        )
    return checked_text(key, "the key")


def checked_text(text: str, what: str) -> str:
    """Return ``text`` as a plain string; UnsupportedValueError if no file can hold it."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnsupportedValueError(f"{what}: {text!r} is not valid Unicode") from None
    return str.__str__(text)


def _unwrapped(value: Any) -> Any:
    """Return the Python value inside of scalars and small wrappers of NumPy and the backends."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU, perhaps with a gradient
        value = value.detach().cpu()
        # NumPy has no bfloat16 of its own; float32 holds every one.
        value = (
            value.float() if value.is_floating_point() and value.itemsize < 4 else value
        ).numpy()
    elif hasattr(value, "__array__") and hasattr(value, "numpy"):  # TensorFlow, Keras variables
        value = value.numpy()
    if getattr(value, "size", None) == 1 or getattr(value, "shape", None) == ():
        value = value.item() if hasattr(value, "item") else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _plain_array(value: Any, key: str) -> Any:
    import numpy as np

    from wandbkeras.data_types.histogram import Histogram

    try:
        array = np.asarray(value)
    except (ValueError, TypeError, NotImplementedError):  # a symbolic tensor
        raise _unsupported(value, key) from None
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        array = array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise UnsupportedValueError(
            f"{key!r}: received an array of {array.dtype}; expected numbers or bools"
        )
    if array.size <= _LIST_LIMIT:
        return plain_value(array.tolist(), key)
    return Histogram(array, num_bins=32).to_value()


def _unsupported(value: Any, key: str) -> UnsupportedValueError:
    kind = type(value)
    return UnsupportedValueError(
        f"{key!r}: received an object of type {kind.__module__}.{kind.__qualname__}; expected a "
        "number, a string, a bool, None, an array, a wandbkeras.Histogram, Image or Table, or a "
        "dict or list of those"
    )


def checked_names(values: Iterable[str] | None, what: str) -> tuple[str, ...]:
    """Return ``values`` as a tuple of strings; a single string is one value."""
    values = (values,) if isinstance(values, str) else tuple(values or ())
    for value in values:
        if not isinstance(value, str):
            raise UnsupportedValueError(f"{what}: received {value!r}; expected strings")
    return tuple(checked_text(value, what) for value in values)
