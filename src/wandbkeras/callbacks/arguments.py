"""What the callbacks' arguments may be."""

from __future__ import annotations

from typing import Any

from wandbkeras.errors import UsageError


def checked_flag(name: str, value: Any) -> bool:
    """Return ``value``; UsageError unless it is True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{name}: received {value!r}; expected True or False")
    return value


def checked_number(name: str, value: Any, unit: str) -> int | None:
    """Return ``value``; UsageError unless it is None or a whole number of ``unit`` from 1."""
    if value is not None and (type(value) is not int or value < 1):
        raise UsageError(f"{name}: received {value!r}; expected a number of {unit} from 1, or None")
    return value
