"""What of a run is sent, and under which names: what the user chose instead of all as recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from wandbkeras.store import named_tables
from wandbkeras.store.checks import TABLE
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import GRAPH, RunInfo

REDACTED = "(redacted)"
OVERRIDES = ("name", "group", "job_type", "tags", "notes")


@dataclass(frozen=True)
class Choice:
    """All of a run as recorded, unless said otherwise.

    ``keys`` are patterns of metrics (none: all of them), ``redact`` dotted names of config values
    that never leave the machine. ``name`` to ``notes`` replace what was recorded.
    """

    artifacts: bool = True
    files: bool = True
    keys: tuple[str, ...] = ()
    redact: tuple[str, ...] = ()
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] | None = None
    notes: str | None = None

    def of(self, run: StoredRun) -> Choice:
        """Return what the choice means for a run: what it has none of can't be left out."""
        if self.artifacts and self.files and not self.redact:
            return self
        total = run.folded
        return replace(
            self,
            artifacts=self.artifacts or not (total.artifacts or TABLE in _kinds(run)),
            files=self.files or not (total.files or run.has_console or _kinds(run)),
            redact=tuple(key for key in self.redact if [*_values(total.config, key.split("."))]),
        )

    def after(self, replaced: Mapping[str, Any]) -> Choice:
        """Return the choice where what was ``replaced`` before stays so, unless said otherwise.

        A server takes another group for a group, and none for no change.
        """
        kept: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in replaced.items()
            if getattr(self, name) is None
        }
        return replace(self, **kept) if kept else self

    @property
    def left_out(self) -> list[str]:
        """What is not sent, a line each; empty if all is."""
        return [
            *(["artifacts"] if not self.artifacts else []),
            *(["files"] if not self.files else []),
            *([f"metrics other than {', '.join(self.keys)}"] if self.keys else []),
            *(f"the config value {key} (redacted)" for key in self.redact),
        ]

    @property
    def suffix(self) -> str:
        """What tells the receipt of a part from that of the whole, which has none.

        >>> Choice().suffix, Choice(artifacts=False).suffix
        ('', '-part-e92006a8')
        """
        if not self.left_out:
            return ""
        return f"-part-{hashlib.sha256(repr(self.left_out).encode()).hexdigest()[:8]}"

    @property
    def replaced(self) -> dict[str, Any]:
        """The overrides, by the names of what they replace."""
        found = {name: getattr(self, name) for name in OVERRIDES}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value is not None
        }

    def info(self, info: RunInfo) -> RunInfo:
        """Return who the run is to be on the server."""
        return replace(info, **{k: v for k, v in asdict(self).items() if k in self.replaced})

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a config with :data:`REDACTED` in the place of what must not leave."""
        found = dict(config)
        for key in self.redact:
            found = _redacted(found, key.split("."))
        return found

    def hidden(self, config: Mapping[str, Any]) -> list[str]:
        """Return the texts that must not leave the machine in what a run's console showed."""
        values = [value for key in self.redact for value in _values(config, key.split("."))]
        return [str(value) for value in values if isinstance(value, (str, int, float)) and value]

    def metrics(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return those of a row's values, or of a summary's, that are sent."""
        if not self.keys:
            return values
        return {key: value for key, value in values.items() if self.sends(key)}

    def sends(self, key: str) -> bool:
        """Whether a metric is sent."""
        return not self.keys or any(fnmatchcase(key, pattern) for pattern in self.keys)


def _kinds(run: StoredRun) -> set[str]:
    """Return the kinds of values that W&B holds as files; those of tables as artifacts, too."""
    typed = {value.get("_type") for value in run.summary.values() if isinstance(value, dict)}
    in_rows = {table.kind for table in run.tables()}
    return in_rows | {t.kind for t in named_tables.in_summary(run.summary)} | ({GRAPH} & typed)


def _values(config: Any, path: list[str]) -> Iterator[Any]:
    """Yield what a nested config has under a dotted name; its keys may have dots themselves."""
    if not isinstance(config, Mapping):
        return
    whole = ".".join(path)
    if whole in config:
        yield config[whole]
    for n in range(1, len(path)):
        yield from _values(config.get(".".join(path[:n])), path[n:])


def _redacted(config: dict[str, Any], path: list[str]) -> dict[str, Any]:
    whole = ".".join(path)
    if whole in config:
        config = {**config, whole: REDACTED}
    for n in range(1, len(path)):
        head = ".".join(path[:n])
        if isinstance(config.get(head), dict):
            config = {**config, head: _redacted(config[head], path[n:])}
    return config
