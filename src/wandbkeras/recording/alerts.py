"""What ``Run.alert`` takes, checked as wandb checks it, as the body of an event."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from wandbkeras.errors import UsageError
from wandbkeras.recording.values import checked_text
from wandbkeras.store.schema import ALERT_LEVELS

_WAIT_SECONDS = 60.0


def alert_body(
    title: str, text: str, level: Any, wait_duration: float | timedelta | None
) -> dict[str, Any]:
    """Return the body of an ``alert`` event; UsageError names an argument that is wrong.

    >>> alert_body("Loss is NaN", "step 7", "WARN", timedelta(minutes=5))
    {'title': 'Loss is NaN', 'text': 'step 7', 'level': 'WARN', 'wait_duration': 300.0}
    """
    for argument, value in (("title", title), ("text", text)):
        if not isinstance(value, str):
            raise UsageError(f"alert: received {argument} {value!r:.80}; expected a string")
    level = getattr(level, "value", level) or "INFO"  # wandb.AlertLevel is an Enum
    if level not in ALERT_LEVELS:
        raise UsageError(f"alert: received level {level!r:.80}; expected INFO, WARN or ERROR")
    return {
        "title": checked_text(title, "alert: title"),
        "text": checked_text(text, "alert: text"),
        "level": level,
        "wait_duration": _seconds(wait_duration),
    }


def _seconds(wait: Any) -> float:
    if isinstance(wait, timedelta):
        wait = wait.total_seconds()
    if wait is None:
        return _WAIT_SECONDS
    number = isinstance(wait, (int, float)) and not isinstance(wait, bool)
    if not number or not math.isfinite(wait) or not 0 <= wait < 2**31:
        raise UsageError(
            f"alert: received wait_duration {wait!r:.80}; expected seconds or a timedelta"
        )
    return float(wait)
