"""What ``define_metric`` asks for: the aggregates of the summary and the metrics of the x-axis.

The rules are those of wandb's own client, so that a replayed run has the summary of an online one:
a definition merges with the earlier one of the same name unless it overwrites; a name that ends in
``*`` defines every later metric of that prefix; a summary set explicitly ends the aggregation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from wandbkeras.store.checks import convert

AGGREGATES = ("min", "max", "mean", "first", "last")
_Aggregation = Annotated[str, Meta(pattern="^(min|max|mean|first|last|none)$")]
_Goal = Annotated[str, Meta(pattern="^(minimize|maximize)$")]


@dataclass(frozen=True)
class MetricDefinition:
    """How one metric (or every metric of a prefix) is summarised and drawn."""

    name: str
    step_metric: str | None = None
    step_sync: bool = False
    hidden: bool = False
    summary: tuple[_Aggregation, ...] = ()
    goal: _Goal | None = None

    @property
    def is_glob(self) -> bool:
        return self.name.endswith("*")

    @property
    def aggregates(self) -> tuple[str, ...]:
        return tuple(name for name in AGGREGATES if name in self.summary)

    def merged_with(self, later: MetricDefinition) -> MetricDefinition:
        """Return this definition with what ``later`` specifies laid over it."""
        none = ("none",) if "none" in later.summary or (not later.summary and self.hides) else ()
        return MetricDefinition(
            name=self.name,
            step_metric=later.step_metric or self.step_metric,
            step_sync=self.step_sync or later.step_sync,
            hidden=self.hidden or later.hidden,
            summary=tuple(dict.fromkeys((*self.aggregates, *later.aggregates, *none))),
            goal=later.goal or self.goal,
        )

    @property
    def hides(self) -> bool:
        """Whether the metric has no summary at all."""
        return "none" in self.summary

    def to_body(self) -> dict[str, Any]:
        return {**asdict(self), "summary": list(self.summary)}


def definition_from_body(body: Mapping[str, Any]) -> MetricDefinition:
    """Return the definition that ``define_metric`` recorded; ValueError if it is none."""
    return convert(body, MetricDefinition)


@dataclass
class Aggregate:
    """Running minimum, maximum, mean, first and last of one metric."""

    first: Any = None
    last: Any = None
    min: int | float = math.inf
    max: int | float = -math.inf
    total: float = 0.0
    count: int = 0

    def add(self, value: Any) -> None:
        if self.count == 0 and self.first is None:
            self.first = value
        self.last = value
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return
        # NaN spreads, as in the client that computes these online.
        undefined = value != value
        self.min = value if undefined or value < self.min else self.min
        self.max = value if undefined or value > self.max else self.max
        self.total += value
        self.count += 1

    def value(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the aggregates asked for; those of numbers only once there was a number."""
        numbers = {"min": self.min, "max": self.max}
        known: dict[str, Any] = {"first": self.first, "last": self.last}
        if self.count:
            known |= numbers | {"mean": self.total / self.count}
        return {name: known[name] for name in names if name in known}


class MetricTable:
    """The definitions of a run and the running aggregates they ask for."""

    def __init__(self) -> None:
        self.definitions: dict[str, MetricDefinition] = {}
        self._globs: dict[str, MetricDefinition] = {}
        self._aggregates: dict[str, Aggregate] = {}
        self._latest_step: dict[str, Any] = {}
        # Asked at every row: without definitions there is nothing to do.
        self.in_use = False

    def define(self, definition: MetricDefinition, *, overwrite: bool = False) -> None:
        self.in_use = True
        table = self._globs if definition.is_glob else self.definitions
        earlier = table.get(definition.name)
        merged = definition if overwrite or earlier is None else earlier.merged_with(definition)
        table[definition.name] = merged
        if merged.step_metric:
            self._latest_step.setdefault(merged.step_metric, 0)

    def all(self) -> list[MetricDefinition]:
        """Return every definition, globs after names."""
        return [*self.definitions.values(), *self._globs.values()]

    def told(self) -> list[MetricDefinition]:
        """Return the definitions but those that say no more of a metric than its glob does."""
        globs = self._globs.values()
        return [
            definition
            for definition in self.all()
            if definition.is_glob
            or not any(
                definition.name.startswith(glob.name[:-1])
                and definition == replace(glob, name=definition.name)
                for glob in globs
            )
        ]

    def expand_globs(self, row: Mapping[str, Any]) -> None:
        """Define each metric of ``row`` that a prefix covers; names with '_' first are W&B's."""
        for key in row:
            if key in self.definitions or key.startswith("_"):
                continue
            for glob in self._globs.values():
                if key.startswith(glob.name[:-1]):
                    self.definitions[key] = replace(glob, name=key)
                    break

    def missing_step_metrics(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the x-axis values that ``row`` lacks: the latest of each synced step metric."""
        if not self.in_use:
            return {}
        self.expand_globs(row)
        missing: dict[str, Any] = {}
        for key in row:
            definition = self.definitions.get(key)
            step = definition.step_metric if definition and definition.step_sync else None
            if step and step not in row:
                missing[step] = self._latest_step.get(step, 0)
        return missing

    def summarise(self, row: Mapping[str, Any], summary: dict[str, Any]) -> None:
        """Bring ``summary`` up to date with a logged row; a ``None`` leaves it as it is."""
        self.expand_globs(row)
        for key in self._latest_step:
            value = row.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._latest_step[key] = value
        for key, value in row.items():
            definition = self.definitions.get(key)
            if definition is None or not definition.summary:
                if value is not None:
                    summary[key] = value
                continue
            aggregate = self._aggregates.setdefault(key, Aggregate())
            aggregate.add(value)
            if not definition.hides:
                summary[key] = aggregate.value(definition.aggregates)

    def forget(self, key: str) -> None:
        """End the aggregation of a metric whose summary was set explicitly."""
        self._aggregates.pop(key, None)
        definition = self.definitions.get(key)
        if definition is not None:
            self.definitions[key] = replace(definition, summary=("none",) * definition.hides)

    def absorb(self, other: MetricTable) -> None:
        """Add what another writer defined and aggregated; of one metric the first one's counts."""
        latest = {**other._latest_step, **self._latest_step}
        for definition in other.all():
            if definition.name not in self.definitions and definition.name not in self._globs:
                self.define(definition)
        self._aggregates = {**other._aggregates, **self._aggregates}
        self._latest_step |= latest

    def to_document(self) -> dict[str, Any]:
        return {
            "definitions": [definition.to_body() for definition in self.all()],
            "aggregates": {key: asdict(value) for key, value in self._aggregates.items()},
            "latest_step": dict(self._latest_step),
        }

    @classmethod
    def from_document(cls, members: Mapping[str, Any]) -> MetricTable:
        """Return the table of :meth:`to_document`; ValueError if it is none."""
        given, table = convert(members, _Table), cls()
        for definition in given["definitions"]:
            table.define(definition, overwrite=True)
        table._aggregates = given["aggregates"]
        table._latest_step = given["latest_step"]
        return table


class _Table(TypedDict):
    definitions: list[MetricDefinition]
    aggregates: dict[str, Aggregate]
    latest_step: dict[str, int | float]
