"""What W&B takes as names: refused when recording, and in a run that comes from elsewhere.

A run with a name that W&B refuses can't be synced, so none is recorded; and a name becomes part of
an address, so none that could lead elsewhere is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from wandbkeras.errors import UsageError

MAX_NAME = 128
MAX_TAG = 64
_PROJECT_FORBIDDEN = frozenset("/\\#?%:")
_ENTITY = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ARTIFACT = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def check_project(project: str) -> str:
    """Return ``project``; UsageError if W&B refuses the name.

    >>> check_project("digits")
    'digits'
    """
    found = _PROJECT_FORBIDDEN & set(str(project))
    if not isinstance(project, str) or not project.strip() or len(project) > MAX_NAME or found:
        raise UsageError(
            f"project {project!r:.200}: W&B takes 1 to {MAX_NAME} characters, none of / \\ # ? % :"
        )
    return project


def check_entity(entity: str) -> str:
    """Return ``entity``; UsageError if it can't be a user or a team."""
    if not isinstance(entity, str) or not _ENTITY.fullmatch(entity):
        raise UsageError(
            f"entity {entity!r:.200}: expected a W&B user or team (letters, digits, -, _)"
        )
    return entity


def check_title(argument: str, text: str) -> str:
    """Return the name, group or job type of a run; UsageError if it is too long for W&B."""
    if len(text) > MAX_NAME:
        raise UsageError(
            f"{argument}: received {len(text)} characters; W&B takes {MAX_NAME} at most"
        )
    return text


def check_tag(tag: str) -> str:
    """Return ``tag``; UsageError if W&B refuses it."""
    if not 1 <= len(tag) <= MAX_TAG:
        raise UsageError(f"tag {tag!r:.200}: W&B takes 1 to {MAX_TAG} characters")
    return tag


def check_artifact_name(text: str, what: str) -> str:
    """Return the name or the type of an artifact; UsageError, saying ``what`` it is."""
    if not isinstance(text, str) or not _ARTIFACT.fullmatch(text):
        raise UsageError(
            f"artifact {what} {text!r:.200}: W&B takes 1 to 128 letters, digits, '_', '-' and '.'"
        )
    return text


def check_aliases(names: Iterable[str]) -> None:
    """Raise UsageError if W&B refuses an alias."""
    for name in names:
        if not name or "/" in name or ":" in name:
            raise UsageError(f"alias {name!r:.200}: W&B takes names without '/' and ':'")
