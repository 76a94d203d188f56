"""The lines a run holds (history, system metrics, console), as they are read back."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.server.context import Context

HISTORY = "wandb-history.jsonl"
EVENTS = "wandb-events.jsonl"
SUMMARY = "wandb-summary.json"
OUTPUT = "output.log"
KINDS = {
    bool: "boolean", int: "number", float: "number", str: "string", list: "list", type(None): "nil",
}  # fmt: skip


def parsed(text: str) -> Any:
    """A JSON text; ValueError if it is none."""
    try:
        return msgspec.json.decode(text)  # in a fifth of the time
    except ValueError:
        return json.loads(text)  # takes NaN and Infinity


def held(context: Context, run: int, file: str) -> int:
    """How many lines there are: the number the next one has."""
    return context.state.scalar(
        "select coalesce(max(number) + 1, 0) from lines where run = ? and file = ?", run, file
    )


def count(context: Context, run: int, file: str) -> int:
    """How many lines the server says it has; with a lag, not yet the newest."""
    return context.state.scalar(
        "select coalesce(max(number) + 1, 0) from lines"
        " where run = ? and file = ? and received_at <= ?",
        run,
        file,
        context.horizon,
    )


def texts(context: Context, run: int, file: str) -> list[str]:
    rows = context.state.all(
        "select text from lines where run = ? and file = ? and received_at <= ? order by number",
        run,
        file,
        context.horizon,
    )
    return [row["text"] for row in rows]


def tail(context: Context, run: int, file: str) -> list[str]:
    row = context.state.one(
        "select text from lines where run = ? and file = ? and received_at <= ?"
        " order by number desc limit 1",
        run,
        file,
        context.horizon,
    )
    return [row["text"]] if row else []


def sample(lines: list[str], samples: int | None) -> list[str]:
    """At most `samples` of the lines, evenly spread, the first among them."""
    if samples is None or len(lines) <= samples:
        return lines
    return [lines[i * len(lines) // samples] for i in range(samples)]


def _between(context: Context, run: int, min_step: int | None, max_step: int | None) -> list[str]:
    rows = context.state.all(
        # Of a long history a page is a small part; by its key all of it would be looked at.
        "select text from lines indexed by lines_step where run = ? and file = ? and step >= ?"
        " and step < ? and received_at <= ? order by number",
        run,
        HISTORY,
        min_step or 0,
        2**63 - 1 if max_step is None else max_step,
        context.horizon,
    )
    return [row["text"] for row in rows]


def rows(
    context: Context, run: int, min_step: int | None, max_step: int | None, samples: int | None
) -> list[str]:
    """History rows with `min_step <= _step < max_step`, as JSON texts."""
    lines = sample(_between(context, run, min_step, max_step), samples)
    if context.nonfinite == "string":
        return [json.dumps(finite(json.loads(line))) for line in lines]
    return lines


def sampled(context: Context, run: int, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that have all of a spec's keys, with these keys only; its `maxStep` is included."""
    max_step = spec.get("maxStep")
    stop = None if max_step is None else max_step + 1
    keys = list(dict.fromkeys(spec["keys"]))
    found = []
    for line in _between(context, run, spec.get("minStep"), stop):
        row = json.loads(line)
        if all(key in row for key in keys):
            found.append(json.dumps({key: finite(row[key]) for key in keys}))
    return [json.loads(line) for line in sample(found, spec.get("samples", 500))]


def finite(value: Any) -> Any:
    """A value as JSON proper can carry it: NaN and Infinity become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value


def keys(context: Context, run: int) -> dict[str, Any] | None:
    """Which keys the history has, and its last step; nothing before the first row."""
    seen, found, last = context.state.keys_seen.get(run, (0, {}, -1))
    fresh = context.state.all(
        "select text, step from lines where run = ? and file = ? and number >= ?"
        " and received_at <= ? order by number",
        run,
        HISTORY,
        seen,
        context.horizon,
    )
    shapes: Counter[tuple[tuple[str, ...], tuple[Any, ...]]] = Counter()
    for row in fresh:
        values = parsed(row["text"])
        kinds: tuple[Any, ...] = tuple(map(type, values.values()))
        if dict in kinds:
            kinds = tuple(map(_kind, values.values()))
        shapes[tuple(values), kinds] += 1  # most rows are alike
        last = row["step"]
    for (names, kinds), number in shapes.items():
        for name, kind in zip(names, kinds, strict=True):
            kind = KINDS.get(kind, kind)
            found.setdefault(name, {}).setdefault(kind, 0)
            found[name][kind] += number
    context.state.keys_seen[run] = (seen + len(fresh), found, last)
    if not found:
        return None
    counts = {
        key: {"typeCounts": [{"type": kind, "count": n} for kind, n in kinds.items()]}
        for key, kinds in found.items()
    }
    return {"keys": counts, "lastStep": last, "sets": []}


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("_type", "map"))
    return KINDS[type(value)]


@dataclass(frozen=True)
class ParquetHistory:
    parquet_urls: list[str]
    live_data: list[dict[str, Any]]


def parquet(context: Context, run: int, live_keys: list[str], *, ended: bool) -> ParquetHistory:
    """Where the exported rows are, and the first row that is not exported.

    Rows are live, as on the real server for some minutes, unless the server was started to export
    the history of ended runs.
    """
    first = context.state.one(
        "select text from lines where run = ? and file = ? and received_at <= ?"
        " order by number limit 1",
        run,
        HISTORY,
        context.horizon,
    )
    if first is None:
        return ParquetHistory([], [])
    if context.exports and ended:
        from tests.server.export import parquet_bytes

        sha256 = context.state.keep(parquet_bytes(texts(context, run, HISTORY)))
        return ParquetHistory([context.object_url(sha256, "history.parquet")], [])
    row = finite(json.loads(first["text"]))
    return ParquetHistory([], [{key: row[key] for key in live_keys if key in row}])


@dataclass(frozen=True)
class LogLine:
    number: int
    timestamp: str | None
    level: str | None
    label: str | None
    line: str


def log_lines(context: Context, run: int) -> list[LogLine]:
    """The console; a line that came structured is taken apart."""
    found = []
    for row in context.state.all(
        "select number, text from lines where run = ? and file = ? order by number", run, OUTPUT
    ):
        try:
            parts = json.loads(row["text"])
            content = str(parts["content"])
        except (ValueError, TypeError, KeyError):
            parts, content = {}, row["text"]
        found.append(
            LogLine(row["number"], parts.get("ts"), parts.get("level"), parts.get("label"), content)
        )
    return found
