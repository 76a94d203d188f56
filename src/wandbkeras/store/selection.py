"""Which runs are meant: by id, name, tag, state and age."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_CRITERION = re.compile(r"(id|name|tag|state)=(.+)|(age)([<>])(.+)", re.DOTALL)


def duration_s(text: str) -> float:
    """Return the seconds of a duration; UsageError if it is none.

    >>> duration_s("7d"), duration_s("1.5h")
    (604800.0, 5400.0)
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"received the duration {text!r:.80}; expected a number and s, m, h, d or w, as in 7d"
        )
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True)
class Criterion:
    """One condition on a run; ``field`` is what it looks at."""

    field: str
    holds: Callable[[StoredRun], bool]


def criterion(text: str) -> Criterion:
    """Return what a text asks of a run; UsageError if it asks nothing that can be told.

    ``id=``, ``name=``, ``tag=`` and ``state=`` take a pattern with ``*``, ``?`` and ``[]``; a
    pattern alone is one of the id or the name. ``age>7d`` and ``age<12h`` ask how long ago the run
    recorded last.

    >>> criterion("tag=baseline").field, criterion("age>7d").field, criterion("k3j*").field
    ('tag', 'age', 'id or name')
    """
    found = _CRITERION.fullmatch(text)
    if found is None:
        if not text or re.search(r"[=<>]", text):
            raise UsageError(
                f"received {text!r:.80}; expected id=, name=, tag= or state= and a pattern, age> "
                "or age< and a duration, or a pattern of the id or the name"
            )
        return Criterion("id or name", lambda run: _matches(text, [run.info.id, run.info.name]))
    if found[3]:
        limit, older = duration_s(found[5]), found[4] == ">"
        return Criterion("age", lambda run: (age_s(run) > limit) is older)
    field, pattern = found[1], found[2]
    return Criterion(field, lambda run: _matches(pattern, _texts(run, field)))


def age_s(run: StoredRun) -> float:
    """Return how many seconds ago the run recorded last, or was made if it recorded nothing."""
    return time.time() - max(run.folded.last_seen, run.info.created)


def is_selected(
    run: StoredRun, include: Sequence[Criterion] = (), exclude: Sequence[Criterion] = ()
) -> bool:
    """Whether a run is meant.

    It is if, for each field that ``include`` names, one criterion of that field holds, and none of
    ``exclude`` does.
    """
    if any(criterion.holds(run) for criterion in exclude):
        return False
    fields = {criterion.field for criterion in include}
    held = {criterion.field for criterion in include if criterion.holds(run)}
    return held == fields


def _texts(run: StoredRun, field: str) -> list[str | None]:
    if field == "tag":
        return list(run.info.tags)
    return [{"id": run.info.id, "name": run.info.name, "state": run.state}[field]]


def _matches(pattern: str, texts: Sequence[str | None]) -> bool:
    return any(text is not None and fnmatchcase(text, pattern) for text in texts)
