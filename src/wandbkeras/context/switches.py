"""What of a run's surroundings is recorded: from the call of ``init``, else from variables."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wandbkeras.errors import UsageError

DEFAULT_SECONDS = 15.0
# More often would be no background any more.
LEAST_SECONDS = 2.0
DEFAULT_CONSOLE_BYTES = 32_000_000
# So that a line of any length has room in what is kept of the end.
LEAST_CONSOLE_BYTES = 1_000_000
ConsoleMode = Literal["auto", "wrap"]
# wandb's words, and those of the other switches.
_CONSOLE: Mapping[str, ConsoleMode | None] = {
    **dict.fromkeys(("auto", "redirect", "on", "true", "1", "yes"), "auto"),
    **dict.fromkeys(("wrap", "wrap_raw", "wrap_emu"), "wrap"),
    **dict.fromkeys(("off", "false", "0", "no"), None),
}
_WORDS = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}


@dataclass(frozen=True)
class Switches:
    """What is recorded; ``save_code``: the changes that are not committed, too.

    ``system_metrics`` are seconds from one sample to the next; None: there is none. ``console`` is
    how what is printed is captured, None: it isn't; ``console_max_bytes`` of it are kept.
    """

    environment: bool = True
    save_code: bool = True
    system_metrics: float | None = DEFAULT_SECONDS
    console: ConsoleMode | None = "auto"
    console_max_bytes: int = DEFAULT_CONSOLE_BYTES


def resolve_switches(
    environ: Mapping[str, str],
    *,
    environment: bool | None = None,
    save_code: bool | None = None,
    system_metrics: bool | float | None = None,
    console: str | bool | None = None,
    console_max_bytes: int | None = None,
) -> Switches:
    """Return what was asked for; UsageError names an argument that is wrong.

    >>> found = resolve_switches({"WANDBKERAS_ENVIRONMENT": "off"}, system_metrics=30)
    >>> found.environment, found.save_code, found.system_metrics, found.console
    (False, True, 30.0, 'auto')
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
        console=_console(
            environ.get("WANDBKERAS_CONSOLE") or environ.get("WANDB_CONSOLE") or "auto"
            if console is None
            else console
        ),
        console_max_bytes=_console_bytes(console_max_bytes),
    )


def _console(value: Any) -> ConsoleMode | None:
    word = str(value).strip().lower()
    if word not in _CONSOLE:
        raise UsageError(f"console: received {value!r:.80}; expected auto, wrap or off")
    return _CONSOLE[word]


def _console_bytes(value: int | None) -> int:
    if value is not None and value < LEAST_CONSOLE_BYTES:
        raise UsageError(
            f"console_max_bytes: received {value}; expected {LEAST_CONSOLE_BYTES} at least"
        )
    return DEFAULT_CONSOLE_BYTES if value is None else value


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
