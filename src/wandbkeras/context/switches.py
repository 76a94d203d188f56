"""What of a run's surroundings is recorded: from the call of ``init``, else from variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wandbkeras.errors import UsageError

_WORDS = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}


@dataclass(frozen=True)
class Switches:
    """What is recorded; ``save_code``: the changes that are not committed, too."""

    environment: bool = True
    save_code: bool = True


def resolve_switches(
    environ: Mapping[str, str], *, environment: bool | None = None, save_code: bool | None = None
) -> Switches:
    """Return what was asked for; UsageError names an argument that is wrong.

    >>> resolve_switches({"WANDBKERAS_ENVIRONMENT": "off"}, save_code=False)
    Switches(environment=False, save_code=False)
    """
    disabled = _switch("WANDB_DISABLE_CODE", environ.get("WANDB_DISABLE_CODE") or "off")
    return Switches(
        environment=_chosen("environment", environment, environ, "WANDBKERAS_ENVIRONMENT"),
        save_code=not disabled and _chosen("save_code", save_code, environ, "WANDB_SAVE_CODE"),
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
