"""Filters as wandb.Api sends them: the part of the MongoDB language used to find things."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.server.refusal import RefusalError

RUN_FIELDS = {
    "name": "name",
    "display_name": "display_name",
    "displayName": "display_name",
    "state": "state",
    "group": "group",
    "jobType": "job_type",
    "job_type": "job_type",
    "tags": "tags",
}
ARTIFACT_FIELDS = {"state": "state", "digest": "digest", "versionIndex": "version_index"}


def matches(node: Any, filters: Mapping[str, Any], fields: Mapping[str, str]) -> bool:
    """Whether a node meets every condition; a condition that is not known is refused."""
    return all(_meets(node, key, condition, fields) for key, condition in filters.items())


def _meets(node: Any, key: str, condition: Any, fields: Mapping[str, str]) -> bool:
    if key == "$and":
        return all(matches(node, part, fields) for part in condition)
    if key == "$or":
        return any(matches(node, part, fields) for part in condition)
    value = _value(node, key, fields)
    if not isinstance(condition, dict):
        return condition in value if isinstance(value, list) else bool(value == condition)
    return all(_compares(value, operator, wanted) for operator, wanted in condition.items())


def _compares(value: Any, operator: str, wanted: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    match operator:
        case "$eq":
            return wanted in values
        case "$ne":
            return wanted not in values
        case "$in":
            return any(item in wanted for item in values)
        case "$nin":
            return not any(item in wanted for item in values)
        case "$exists":
            return (value is not None) is bool(wanted)
    raise RefusalError(400, f"the filter operator {operator} is not known here")


def _value(node: Any, key: str, fields: Mapping[str, str]) -> Any:
    if key in fields:
        return getattr(node, fields[key])
    section, _, rest = key.partition(".")
    if fields is RUN_FIELDS and section == "config" and rest:
        entry = json.loads(node.config).get(rest.removesuffix(".value"), {})
        return entry.get("value") if isinstance(entry, dict) else None
    if fields is RUN_FIELDS and section in ("summary_metrics", "summaryMetrics") and rest:
        return json.loads(node.summary_metrics).get(rest)
    raise RefusalError(400, f"the filter {key} is not known here")
