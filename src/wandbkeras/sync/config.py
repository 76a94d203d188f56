"""The config as W&B holds it: what its client makes of values, and links to other runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# What W&B's client itself keeps in a config; it drops what others put there.
_CLIENTS_CONFIG = "_wandb"
_LINKS = "wandbkeras"


def with_link(config: Mapping[str, Any], what: str, url: str | None) -> dict[str, Any]:
    """Return a config with a link to another run in the group ``wandbkeras``, if there is one.

    What a program has under that name, and is no group, stays.

    >>> with_link({"lr": 0.1}, "continues", "https://…/runs/k3j9x2ab")
    {'lr': 0.1, 'wandbkeras': {'continues': 'https://…/runs/k3j9x2ab'}}
    """
    group = config.get(_LINKS, {})
    if url is None or not isinstance(group, Mapping):
        return dict(config)
    return {**config, _LINKS: {**group, what: url}}


def config_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's config as W&B holds it, without what its client keeps there.

    >>> config_of({"lr": float("nan"), "model": {"layers": {}}, "_wandb": {}})
    {'lr': None}
    """
    return {key: item for key, item in _config_wire(config).items() if key != _CLIENTS_CONFIG}


def _config_wire(value: Any) -> Any:
    """Return a config as W&B's client sends it: JSON proper, where NaN is null.

    The client keeps the leaves of nested dictionaries, so one without leaves is not there.
    """
    if isinstance(value, dict):
        items = {key: _config_wire(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item != {}}
    return _json_proper(value)


def _json_proper(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_proper(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_proper(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
