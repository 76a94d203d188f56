"""What the callbacks' arguments may be."""

from __future__ import annotations

from typing import Any

from wandbkeras.errors import UsageError


def checked_flag(name: str, value: Any) -> bool:
    """Return ``value``; UsageError unless it is True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{name}: received {value!r:.80}; expected True or False")
    return value


def checked_number(name: str, value: Any, unit: str) -> int | None:
    """Return ``value``; UsageError unless it is None or a whole number of ``unit`` from 1."""
    if value is not None and (type(value) is not int or value < 1):
        raise UsageError(
            f"{name}: received {value!r:.80}; expected a number of {unit} from 1, or None"
        )
    return value


def checked_string(name: str, value: Any) -> str:
    """Return ``value``; UsageError unless it is a string."""
    if not isinstance(value, str):
        raise UsageError(f"{name}: received {value!r:.80}; expected a string")
    return value


def checked_verbose(value: Any) -> int:
    """Return ``value``; UsageError unless it is a number, as Keras's own ``verbose`` is."""
    if not isinstance(value, int):
        raise UsageError(f"verbose: received {value!r:.80}; expected 0 or 1")
    return int(value)
