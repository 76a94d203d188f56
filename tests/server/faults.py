"""Faults a test asks for: which requests they hit, what happens to them, how often.

Rules live in the server's memory: a killed and restarted server has none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

KINDS = ("graphql", "file_stream", "upload", "download", "other")
Action = Literal["status", "close", "lose", "cut", "delay", "hold"]
ACTIONS: tuple[Action, ...] = ("status", "close", "lose", "cut", "delay", "hold")


@dataclass
class Fault:
    """One rule; `times` counts down, None is for ever.

    A `hold` of so many times is over when so many requests wait.
    """

    action: Action
    kind: str | None = None
    path: str | None = None  # a shell pattern
    operation: str | None = None
    status: int = 500
    body: str = '{"errors": [{"message": "injected fault"}]}'
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    times: int | None = None
    cleared: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def from_json(cls, rule: dict[str, Any]) -> Fault:
        """Checks a rule as it came from outside; ValueError says what is wrong with it."""
        match = dict(rule.get("match", {}))
        known = {"match", "action", "status", "body", "headers", "seconds", "times"}
        if unknown := (set(rule) - known) | (set(match) - {"kind", "path", "operation"}):
            raise ValueError(f"unknown keys {sorted(unknown)}")
        if rule.get("action") not in ACTIONS:
            raise ValueError(f"action is one of {ACTIONS}, received {rule.get('action')!r}")
        if match.get("kind") not in (None, *KINDS):
            raise ValueError(f"kind is one of {KINDS}, received {match['kind']!r}")
        return cls(**match, **{name: rule[name] for name in known - {"match"} if name in rule})

    def matches(self, *, kind: str, path: str, operation: str | None) -> bool:
        return (
            self.times != 0
            and self.kind in (None, kind)
            and (self.path is None or fnmatchcase(path, self.path))
            and self.operation in (None, operation)
        )


class Faults:
    """The rules in force; the first that matches a request is used up once."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._rules.append(fault)

    def clear(self) -> None:
        for rule in self._rules:
            rule.cleared.set()
        self._rules.clear()

    def take(self, *, kind: str, path: str, operation: str | None) -> Fault | None:
        for rule in self._rules:
            if rule.matches(kind=kind, path=path, operation=operation):
                if rule.times is not None:
                    rule.times -= 1
                if rule.times == 0:
                    rule.cleared.set()
                return rule
        return None
