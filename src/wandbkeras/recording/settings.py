"""The arguments of ``init``: from the call, else from wandb's environment variables, checked."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from wandbkeras.context.switches import Switches, resolve_switches
from wandbkeras.errors import UsageError
from wandbkeras.recording.values import checked_names, checked_text
from wandbkeras.store.appender import OnFull
from wandbkeras.store.layout import check_run_id, new_run_id
from wandbkeras.store.names import check_entity, check_project, check_tag, check_title
from wandbkeras.store.room import MIN_CAP_BYTES
from wandbkeras.store.schema import RunInfo

Mode = Literal["offline", "live", "disabled"]
Resume = Literal["allow", "must", "never", "auto"]

MODES = ("offline", "live", "disabled")
# wandb's word for it.
_LIVE_TOO = "online"
DEFAULT_LIVE_TIMEOUT_S = 60.0
RESUMES = ("allow", "must", "never", "auto")
ON_FULL = ("drop", "raise")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[kKMGT]B|[KMGT]iB)?")
_UNITS = {
    unit + ending: base ** (power + 1)
    for ending, base in (("B", 1000), ("iB", 1024))
    for power, unit in enumerate("KMGT")
} | {"B": 1, "kB": 1000}


@dataclass(frozen=True)
class Settings:
    """What ``init`` was asked for, after the environment and the checks."""

    info: RunInfo
    id_given: bool
    directory: Path
    resume: Resume | None
    mode: Mode
    on_full: OnFull = "drop"
    max_bytes: int | None = None
    switches: Switches = field(default_factory=Switches)
    live_timeout_s: float = DEFAULT_LIVE_TIMEOUT_S


def resolve(
    *,
    created: float,
    project: str | None,
    entity: str | None,
    directory: str | os.PathLike[str] | None,
    id: str | None,
    name: str | None,
    group: str | None,
    job_type: str | None,
    tags: Iterable[str] | None,
    notes: str | None,
    resume: str | bool | None,
    mode: str | None,
    on_full: str | None = None,
    max_bytes: int | str | None = None,
    environment: bool | None = None,
    save_code: bool | None = None,
    system_metrics: bool | float | None = None,
    live_timeout: float | None = None,
    console: str | bool | None = None,
    console_max_bytes: int | str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings; UsageError names an argument that W&B or the store would refuse."""
    env = os.environ if environ is None else environ
    id = id or env.get("WANDB_RUN_ID") or None
    project = project or env.get("WANDB_PROJECT") or None
    entity = entity or env.get("WANDB_ENTITY") or None
    if tags is None:
        tags = [tag for tag in env.get("WANDB_TAGS", "").split(",") if tag]
    info = RunInfo(
        id=check_run_id(id) if id else new_run_id(),
        created=created,
        project=None if project is None else checked_text(check_project(project), "project"),
        entity=None if entity is None else check_entity(entity),
        name=_text("name", name or env.get("WANDB_NAME")),
        group=_text("group", group or env.get("WANDB_RUN_GROUP")),
        job_type=_text("job_type", job_type or env.get("WANDB_JOB_TYPE")),
        tags=_check_tags(checked_names(tags, "tags")),
        notes=_text("notes", notes or env.get("WANDB_NOTES")),
        host=platform.node() or None,
    )
    return Settings(
        info=info,
        id_given=bool(id),
        directory=Path(directory or env.get("WANDB_DIR") or "runs"),
        resume=_check_resume(env.get("WANDB_RESUME") or None if resume is None else resume),
        mode=_check_mode(mode or _environment_mode(env)),
        on_full=_check_on_full(on_full or env.get("WANDBKERAS_ON_FULL") or "drop"),
        max_bytes=parse_max_bytes(
            max_bytes if max_bytes is not None else env.get("WANDBKERAS_MAX_BYTES") or None
        ),
        switches=resolve_switches(
            env,
            environment=environment,
            save_code=save_code,
            system_metrics=system_metrics,
            console=console,
            console_max_bytes=_bytes(
                "console_max_bytes",
                console_max_bytes
                if console_max_bytes is not None
                else env.get("WANDBKERAS_CONSOLE_MAX_BYTES") or None,
            ),
        ),
        live_timeout_s=_check_live_timeout(
            env.get("WANDBKERAS_LIVE_TIMEOUT") or DEFAULT_LIVE_TIMEOUT_S
            if live_timeout is None
            else live_timeout
        ),
    )


def parse_max_bytes(value: int | str | None) -> int | None:
    """Return a number of bytes, given as an int or as text; None is no limit.

    >>> parse_max_bytes("500MB"), parse_max_bytes("1.5 GiB"), parse_max_bytes(100_000)
    (500000000, 1610612736, 100000)
    """
    size = _bytes("max_bytes", value)
    if size is not None and size < MIN_CAP_BYTES:
        raise UsageError(f"max_bytes: received {value!r}; a run needs {MIN_CAP_BYTES} at least")
    return size


def _bytes(argument: str, value: int | str | None) -> int | None:
    size = None if value is None else _size(value)
    if value is not None and size is None:
        raise UsageError(
            f"{argument}: received {value!r}; expected a number of bytes, or text with a unit "
            "(kB, MB, GB, TB, KiB, MiB, GiB, TiB) like '500MB' or '2GiB'"
        )
    return size


def _size(value: Any) -> int | None:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return int(Decimal(match[1]) * _UNITS[match[2] or "B"])
    return value if type(value) is int else None


def _text(argument: str, value: str | None) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise UsageError(f"{argument}: received {type(value).__name__}; expected a string")
    if argument != "notes":
        check_title(argument, value)
    return checked_text(value, argument)


def _check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(check_tag, tags)))


def _check_resume(resume: str | bool | None) -> Resume | None:
    if resume is None or resume is False:
        return None
    if resume is True:
        return "auto"
    if resume not in RESUMES:
        raise UsageError(f"resume {resume!r}: expected one of {', '.join(RESUMES)}, True or None")
    return resume  # type: ignore[return-value]


def _check_on_full(on_full: str) -> OnFull:
    if on_full not in ON_FULL:
        raise UsageError(f"on_full: received {on_full!r}; expected one of {', '.join(ON_FULL)}")
    return on_full  # type: ignore[return-value]


def _check_mode(mode: str) -> Mode:
    if mode == _LIVE_TOO:
        return "live"
    if mode not in MODES:
        raise UsageError(f"mode {mode!r}: expected one of {', '.join(MODES)}")
    return mode  # type: ignore[return-value]


def _check_live_timeout(value: float | str) -> float:
    """Return seconds, given as a number or as its text."""
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(
            f"live_timeout: received {value!r}; expected a number of seconds, 0 or more"
        )
    return seconds


def _environment_mode(env: Mapping[str, str]) -> str:
    """Return the mode that the environment asks for.

    wandb's ``WANDB_MODE=online`` is its default and says little of a job; recording needs no
    server, and uses none unless told so by our own name. Of its values only ``disabled`` counts.
    """
    if mode := env.get("WANDBKERAS_MODE"):
        return mode
    return "disabled" if env.get("WANDB_MODE") == "disabled" else "offline"
