"""The arguments of ``define_metric``, checked, as a definition."""

from __future__ import annotations

from wandbkeras.errors import UsageError
from wandbkeras.store.metrics import AGGREGATES, MetricDefinition


def metric_definition(
    name: str,
    step_metric: str | None = None,
    step_sync: bool | None = None,
    hidden: bool | None = None,
    summary: str | None = None,
    goal: str | None = None,
) -> MetricDefinition:
    """Return what ``define_metric`` says with these arguments; UsageError if it is nonsense.

    >>> metric_definition("loss", "epoch", summary="min, last").summary
    ('min', 'last')
    """
    for argument, value in (("step_metric", step_metric), ("summary", summary)):
        if value is not None and not isinstance(value, str):
            raise UsageError(f"define_metric: received {argument} {value!r}; expected a string")
    operators = tuple(part.strip().lower() for part in (summary or "").split(",") if part)
    if not isinstance(name, str) or not name or "*" in name[:-1]:
        raise UsageError(f"define_metric: received {name!r}; expected a name or a prefix and *")
    if unknown := set(operators) - {*AGGREGATES, "none"}:
        raise UsageError(
            f"define_metric: received summary {sorted(unknown)}; expected any of "
            f"{', '.join(AGGREGATES)}, none"
        )
    if goal not in (None, "minimize", "maximize"):
        raise UsageError(f"define_metric: received goal {goal!r}; expected minimize, maximize")
    return MetricDefinition(
        name=name,
        step_metric=step_metric,
        step_sync=bool(step_metric) if step_sync is None else step_sync,
        hidden=bool(hidden),
        summary=operators,
        goal=goal,
    )
