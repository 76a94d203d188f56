"""What W&B takes of a row or a summary: told when it is recorded, and left out when it is synced.

Source: wandb 0.31. Its client skips a line of the history that is too long, and with it a summary
that such a value is in; its own histograms have 512 bins and finite edges. It drops a metric whose
name is empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from wandbkeras.store.schema import GRAPH, HISTOGRAM

MAX_LINE_BYTES = 10_383_360
MAX_BINS = 512
# More than these arrive, in a form that W&B's client would not have sent.
MAX_TABLE_ROWS = 200_000
MAX_IMAGES = 108
# A record of fewer bytes can't make a longer line: JSON writes a byte as six at most.
HARMLESS_BYTES = MAX_LINE_BYTES // 7
# For what the client adds to a line.
_RESERVED_BYTES = 1_000
_FEW = 1_000
_SMALL = frozenset({float, int, bool, type(None)})


def beyond(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values that W&B does not take, the largest first, each with the reason.

    Without them it takes the rest.

    >>> beyond({"loss": 0.5, "text": "x" * 11_000_000})
    {'text': '11,000,002 bytes, W&B takes 10,383,360 a line'}
    >>> beyond({"h": {"_type": "histogram", "values": [0] * 600, "bins": [1.0] * 601}})
    {'h': '600 bins, W&B takes 512'}
    """
    if are_few_numbers(values):
        return {}
    found = {key: reason for key, value in values.items() if (reason := _reason(key, value))}
    left = {key: v for key, v in values.items() if key not in found and not _is_graph(v)}
    names = 6 * sum(map(len, left)) + 4 * len(left) + _RESERVED_BYTES
    if names + sum(map(_most_bytes, left.values())) <= MAX_LINE_BYTES:
        return found
    sizes = {key: json_bytes(value) for key, value in left.items()}
    total = names + sum(sizes.values())
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        if total <= MAX_LINE_BYTES:
            break
        total -= sizes[key]
        found[key] = f"{sizes[key]:,} bytes, W&B takes {MAX_LINE_BYTES:,} a line"
    return found


def are_few_numbers(values: Mapping[str, Any]) -> bool:
    """Whether a row is like most are: nothing of it can be beyond a limit.

    >>> are_few_numbers({"loss": 0.5, "done": True}), are_few_numbers({"text": "x"})
    (True, False)
    """
    return len(values) < _FEW and _SMALL.issuperset(map(type, values.values())) and "" not in values


def json_bytes(value: Any) -> int:
    """Return how many bytes a value, or a row's values, take on their way.

    >>> json_bytes({"loss": 0.5})
    13
    """
    return len(json.dumps(value, ensure_ascii=False).encode())


def _reason(key: str, value: Any) -> str | None:
    return _histogram(value) if key else "W&B's client drops a metric without a name"


def _histogram(value: Any) -> str | None:
    if type(value) is not dict or value.get("_type") != HISTOGRAM:
        return None
    if len(value["values"]) > MAX_BINS:
        return f"{len(value['values'])} bins, W&B takes {MAX_BINS}"
    if not all(map(math.isfinite, (*value["bins"], *value["values"]))):
        return "edges or counts that are not finite"
    return None


def _is_graph(value: Any) -> bool:
    """Whether W&B gets a value as a file of its own, however long."""
    return type(value) is dict and value.get("_type") == GRAPH


def _most_bytes(value: Any) -> int:
    """Return a bound of the bytes of a value as JSON."""
    if isinstance(value, str):
        return 6 * len(value) + 2
    if isinstance(value, Mapping):
        return sum(6 * len(key) + 6 + _most_bytes(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return 2 + sum(2 + _most_bytes(item) for item in value)
    return 25
