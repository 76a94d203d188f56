"""What the machine did while a run was recorded, in a few numbers a metric."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import click

from wandbkeras.store.reader import StoredRun
from wandbkeras_cli.output import print_table

# Of the dozens that there are, those that say whether the machine was used.
_TOLD = re.compile(
    r"system\.(cpu|memory_percent|proc\.memory\.rssMB|gpu\.\d+\.(gpu|memoryAllocated))(/l:\d+)?"
)


def describe_system_metrics(run: StoredRun) -> list[dict[str, Any]]:
    """Return of each metric how many samples have it, and their mean, greatest and last value."""
    table = run.system_metrics()
    described = []
    for name in table.column_names[1:]:
        values = [value for value in table[name].to_pylist() if value is not None]
        described.append(
            {
                "name": name,
                "samples": len(values),
                "mean": math.fsum(values) / len(values),
                "max": max(values),
                "last": values[-1],
            }
        )
    return described


def print_system_metrics(metrics: Sequence[dict[str, Any]]) -> None:
    """Print the metrics that say how much of processor, memory and GPUs was used."""
    rows = [
        [metric["name"], str(metric["samples"])]
        + [f"{metric[number]:.1f}" for number in ("mean", "max", "last")]
        for metric in metrics
        if _TOLD.fullmatch(metric["name"])
    ]
    if rows:
        click.echo()
        print_table(("SYSTEM METRIC", "SAMPLES", "MEAN", "MAX", "LAST"), rows)
