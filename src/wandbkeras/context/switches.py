"""What of a run's surroundings is recorded: from the call of ``init``, else from variables."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wandbkeras.errors import UsageError

DEFAULT_SECONDS = 15.0
# More often would be no background any more.
LEAST_SECONDS = 2.0
_WORDS = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}


@dataclass(frozen=True)
class Switches:
    """What is recorded; ``save_code``: the changes that are not committed, too.

    ``system_metrics`` are seconds from one sample to the next; None: there is none.
    """

    environment: bool = True
    save_code: bool = True
    system_metrics: float | None = DEFAULT_SECONDS


def resolve_switches(
    environ: Mapping[str, str],
    *,
    environment: bool | None = None,
    save_code: bool | None = None,
    system_metrics: bool | float | None = None,
) -> Switches:
    """Return what was asked for; UsageError names an argument that is wrong.

    >>> resolve_switches({"WANDBKERAS_ENVIRONMENT": "off"}, save_code=False, system_metrics=30)
    Switches(environment=False, save_code=False, system_metrics=30.0)
    """
    disabled = _switch("WANDB_DISABLE_CODE", environ.get("WANDB_DISABLE_CODE") or "off")
    return Switches(
        environment=_chosen("environment", environment, environ, "WANDBKERAS_ENVIRONMENT"),
        save_code=not disabled and _chosen("save_code", save_code, environ, "WANDB_SAVE_CODE"),
        system_metrics=_seconds(
            environ.get("WANDBKERAS_SYSTEM_METRICS") or True
            if system_metrics is None
            else system_metrics
        ),
    )


def _chosen(argument: str, value: Any, environ: Mapping[str, str], variable: str) -> bool:
    if value is not None:
        return _switch(argument, value)
    return _switch(variable, environ.get(variable) or "on")


def _switch(name: str, value: Any) -> bool:
    found = value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
    if found is None:
        raise UsageError(f"{name}: received {value!r:.80}; expected on or off")
    return found


def _seconds(value: Any) -> float | None:
    word = value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())
    # "0" and "1" are switches; as numbers of seconds they would be too small anyway.
    if word is not None:
        return DEFAULT_SECONDS if word else None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not LEAST_SECONDS <= seconds < threading.TIMEOUT_MAX:
        raise UsageError(
            f"system_metrics: received {value!r:.80}; expected on, off, or seconds from one sample "
            f"to the next, {LEAST_SECONDS:g} at least"
        )
    return seconds
