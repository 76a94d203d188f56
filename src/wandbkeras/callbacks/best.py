"""The best value of a metric and its epoch, in the run's summary."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from wandbkeras.callbacks.arguments import checked_string
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.errors import UsageError

MODES = ("auto", "min", "max")
# Words of names, between underscores, of metrics that are better the larger they are.
_LARGER_IS_BETTER = {"auc", "dice", "f1", "iou", "precision", "r2", "recall", "similarity"}


@dataclass(frozen=True)
class Best:
    """The best value so far and the epoch (from 0) that reached it."""

    epoch: int
    value: float


class BestMetric(Part):
    """Keeps ``best_<monitor>`` and ``best_epoch`` in the summary.

    Args:
        monitor: the metric to watch, a key of the epoch's ``logs``.
        mode: ``min``, ``max``, or ``auto``: the direction that the Keras metric of this name
            declares, else maximum for names with ``acc`` or beginning with ``fmeasure``, or with
            a word like ``auc``, ``f1`` or ``iou`` in them, else minimum.
        log_best_prefix: what comes before the two names; None keeps them out of the summary.

    ``best`` is None until there was a value; ``improved`` says if the last epoch set it. A value of
    0.0 counts like any other, NaN never does.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        log_best_prefix: str | None = "best_",
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise UsageError(f"mode: received {mode!r}; expected one of {', '.join(MODES)}")
        self.monitor = checked_string("monitor", monitor)
        self.mode = mode
        if log_best_prefix is not None:
            checked_string("log_best_prefix", log_best_prefix)
        self.log_best_prefix = log_best_prefix
        self.best: Best | None = None
        self.improved = False
        self._warned = False

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.improved = False
        if self.monitor not in (logs or {}):
            self._warn_missing(logs or {})
            return
        value = float((logs or {})[self.monitor])
        if math.isnan(value) or (self.best is not None and not self._is_better(value)):
            return
        self.best = Best(epoch, value)
        self.improved = True
        if self.log_best_prefix is not None:
            prefix = self.log_best_prefix
            self.run.summary.update({prefix + self.monitor: value, f"{prefix}epoch": epoch})

    def _is_better(self, value: float) -> bool:
        assert self.best is not None
        if self.direction() == "max":
            return value > self.best.value
        return value < self.best.value

    def direction(self) -> str:
        """Return ``min`` or ``max``."""
        if self.mode != "auto":
            return self.mode
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return "min"
        return _declared_direction(self.model, name) or _direction_by_name(name)

    def _warn_missing(self, logs: Mapping[str, Any]) -> None:
        if not self._warned:
            self._warned = True
            print(  # noqa: T201
                f"wandbkeras: monitor {self.monitor!r} is not among the metrics of this epoch "
                f"({', '.join(logs) or 'there are none'}): no best value, no best model",
                file=sys.stderr,
            )


def _declared_direction(model: keras.Model, name: str) -> str | None:
    """Return the direction that the model's own metric of this name declares, as Keras finds it."""
    for container in getattr(model, "metrics", ()):
        for metric in (container, *getattr(container, "metrics", ())):
            direction = {"up": "max", "down": "min"}.get(getattr(metric, "_direction", None) or "")
            # With several outputs Keras logs `<output>_<metric>`.
            if direction and (name == metric.name or name.endswith(f"_{metric.name}")):
                return direction
    return None


def _direction_by_name(name: str) -> str:
    """Return the direction of a metric that declares none: a custom one, or one of tf_keras.

    >>> _direction_by_name("my_f1"), _direction_by_name("mean_io_u"), _direction_by_name("mae")
    ('max', 'max', 'min')
    """
    if "acc" in name or name.startswith("fmeasure") or "io_u" in name:
        return "max"
    return "min" if _LARGER_IS_BETTER.isdisjoint(name.lower().split("_")) else "max"
