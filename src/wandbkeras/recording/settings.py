"""The arguments of ``init``: from the call, else from wandb's environment variables, checked."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wandbkeras.errors import UsageError
from wandbkeras.recording.values import checked_names, checked_text
from wandbkeras.store.layout import check_run_id, new_run_id
from wandbkeras.store.schema import RunInfo

Mode = Literal["offline", "live", "disabled"]
Resume = Literal["allow", "must", "never", "auto"]

MODES = ("offline", "live", "disabled")
RESUMES = ("allow", "must", "never", "auto")
# W&B's rules for names; refused here so that a run which can't be synced is never recorded.
_PROJECT_FORBIDDEN = set("/\\#?%:")
_MAX_NAME = 128
_MAX_TAG = 64
_ENTITY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Settings:
    """What ``init`` was asked for, after the environment and the checks."""

    info: RunInfo
    id_given: bool
    directory: Path
    resume: Resume | None
    mode: Mode


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
        project=None if project is None else check_project(project),
        entity=None if entity is None else check_entity(entity),
        name=_text("name", name or env.get("WANDB_NAME")),
        group=_text("group", group or env.get("WANDB_RUN_GROUP")),
        job_type=_text("job_type", job_type or env.get("WANDB_JOB_TYPE")),
        tags=_check_tags(checked_names(tags, "tags")),
        notes=_text("notes", notes or env.get("WANDB_NOTES"), limit=None),
        host=platform.node() or None,
    )
    return Settings(
        info=info,
        id_given=bool(id),
        directory=Path(directory or env.get("WANDB_DIR") or "runs"),
        resume=_check_resume(env.get("WANDB_RESUME") or None if resume is None else resume),
        mode=_check_mode(mode or _environment_mode(env)),
    )


def check_project(project: str) -> str:
    """Return ``project``; UsageError if W&B refuses the name.

    >>> check_project("digits")
    'digits'
    """
    found = sorted(_PROJECT_FORBIDDEN & set(str(project)))
    if not isinstance(project, str) or not project.strip() or len(project) > _MAX_NAME or found:
        raise UsageError(
            f"project {project!r}: W&B takes 1 to {_MAX_NAME} characters, none of / \\ # ? % :"
        )
    return checked_text(project, "project")


def check_entity(entity: str) -> str:
    if not isinstance(entity, str) or not _ENTITY.fullmatch(entity):
        raise UsageError(f"entity {entity!r}: expected a W&B user or team (letters, digits, -, _)")
    return entity


def _text(argument: str, value: str | None, limit: int | None = _MAX_NAME) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise UsageError(f"{argument}: received {type(value).__name__}; expected a string")
    if limit is not None and len(value) > limit:
        raise UsageError(f"{argument}: received {len(value)} characters; W&B takes {limit} at most")
    return checked_text(value, argument)


def _check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    for tag in tags:
        if not 1 <= len(tag) <= _MAX_TAG:
            raise UsageError(f"tag {tag!r}: W&B takes 1 to {_MAX_TAG} characters")
    return tuple(dict.fromkeys(tags))


def _check_resume(resume: str | bool | None) -> Resume | None:
    if resume is None or resume is False:
        return None
    if resume is True:
        return "auto"
    if resume not in RESUMES:
        raise UsageError(f"resume {resume!r}: expected one of {', '.join(RESUMES)}, True or None")
    return resume  # type: ignore[return-value]


def _check_mode(mode: str) -> Mode:
    if mode not in MODES:
        raise UsageError(f"mode {mode!r}: expected one of {', '.join(MODES)}")
    if mode == "live":
        raise UsageError('mode "live" is not there yet: record with mode="offline", then sync')
    return mode  # type: ignore[return-value]


def _environment_mode(env: Mapping[str, str]) -> str:
    """Return the mode that the environment asks for.

    wandb's ``WANDB_MODE=online`` is for jobs that reach a server; recording needs none, so of its
    values only ``disabled`` means something here.
    """
    if mode := env.get("WANDBKERAS_MODE"):
        return mode
    return "disabled" if env.get("WANDB_MODE") == "disabled" else "offline"
