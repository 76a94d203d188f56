"""``wandbkeras show``: one run in detail, without network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.errors import DamagedError, WandbkerasError
from wandbkeras.store import columns
from wandbkeras.store.attempts import AttemptView
from wandbkeras.store.layout import STREAMS
from wandbkeras.store.parquet import Part
from wandbkeras.store.plain_files import open_file
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import table_of
from wandbkeras.store.shortage import counts_text
from wandbkeras.store.tables import StoredTable
from wandbkeras.sync.receipt import sync_state
from wandbkeras_cli.output import human_size, json_option, print_json, print_table, say
from wandbkeras_cli.paths import find_run, one_run
from wandbkeras_cli.system_metrics import describe_system_metrics, print_system_metrics

_WIDTH = 100


@click.command()
@one_run
@json_option
def show(run: str, store: Path, as_json: bool) -> None:
    """Show one RUN in detail: a run directory, or the id of a run in --store.

    Who it is, how it went, its config and summary, what is stored, and what was dropped or damaged.
    Reads all rows, but no blobs (`wandbkeras verify` does); changes nothing.

    \b
    Example:
      wandbkeras show k3j9x2ab
      wandbkeras show runs/run-20261123_054500-k3j9x2ab --json
    """
    document = describe(find_run(run, store))
    code = DamagedError.exit_code if document["damage"] else 0
    if as_json:
        print_json({**document, "exit_code": code})
    else:
        _print(document)
    click.get_current_context().exit(code)


def describe(run: StoredRun) -> dict[str, Any]:
    """Return all that is known of a run, without its rows."""
    state = run.folded
    rows = run.history(columns=[]).num_rows
    events, _ = run.events(), run.histograms()
    started = [event.timestamp for event in events if event.type == "attempt"]
    return {
        "path": str(run.path),
        **asdict(run.info),
        "state": run.state,
        "exit_code_of_run": run.exit_code,
        "started": min(started, default=None),
        "last_seen": state.last_seen or None,
        "runtime": state.runtime,
        "rows": rows,
        "last_step": state.last_step,
        "environment": run.environment.to_body() if run.environment is not None else None,
        "traceback": run.traceback,
        "alerts": [asdict(alert) for alert in run.alerts],
        "attempts": [_attempt(view) for view in run.attempts],
        "config": run.config,
        "summary": run.summary,
        "streams": [_stream(run, stream) for stream in STREAMS],
        "system_metrics": describe_system_metrics(run),
        "tables": _tables(run.tables()),
        "artifacts": [
            {
                "name": version.name,
                "type": version.type,
                "aliases": list(version.aliases),
                "files": len(version.files),
                "references": len(version.references),
                "tables": len(version.tables),
                "size": sum(file.size for file in version.files.values())
                + sum(table.size for table in version.tables.values()),
            }
            for version in run.artifacts
        ],
        "files": {name: file.size for name, file in run.files.items()},
        "size": run.size,
        "synced": sync_state(run),
        "dropped": state.dropped,
        "dropped_events": state.dropped_events,
        "failures": state.failures,
        "torn": sum(view.tail.torn for view in run.attempts),
        "lost": run.lost,
        "damage": run.damage,
    }


def _attempt(view: AttemptView) -> dict[str, Any]:
    """Return one writer of an attempt."""
    state = view.state
    return {
        "attempt": view.number,
        "writer": view.manifest.writer,
        "host": state.process.get("host"),
        "program": state.process.get("program"),
        "from_step": state.from_step,
        "last_step": state.last_step,
        "rows": state.rows,
        "exit_code": state.exit_code,
    }


def _stream(run: StoredRun, stream: str) -> dict[str, Any]:
    """Return what is stored of a stream, sealed and in the journals."""
    parts = [part for view in run.attempts for part in view.manifest.parts if part.stream == stream]
    return {
        "stream": stream,
        "rows": sum(part.rows for part in parts) + _in_journals(run, stream),
        "columns": _columns(run, stream, parts),
        "parts": len(parts),
        "size": sum(part.size for part in parts),
    }


def _tables(tables: Sequence[StoredTable]) -> list[dict[str, Any]]:
    """Return what was logged as tables and images, a line a key."""
    by_key: dict[str, list[StoredTable]] = {}
    for table in tables:
        by_key.setdefault(table.key or "", []).append(table)
    return [
        {
            "key": key,
            "kind": found[-1].kind.partition("/")[0],
            "times": len(found),
            "last_step": found[-1].step,
            "rows": sum(table.rows for table in found),
            "size": sum(table.file.size for table in found),
        }
        for key, found in by_key.items()
    ]


def _columns(run: StoredRun, stream: str, parts: Sequence[Part]) -> list[str]:
    """Return the names of the columns that a stream has, in order of appearance."""
    names: dict[str, None] = {}
    for part in parts:
        # A part that can't be read is among the damage already.
        with suppress(OSError, pa.ArrowException, WandbkerasError):
            path = run.layout.listed_part(part.name)
            with open_file(path, run.layout.root) as file:
                names.update(dict.fromkeys(pq.read_schema(file).names))
    rows = [row for view in run.attempts for row in view.tail.rows]
    if stream == "history" and rows:
        names.update(dict.fromkeys(columns.history_table(rows).column_names))
    return list(names)


def _in_journals(run: StoredRun, stream: str) -> int:
    tails = [view.tail for view in run.attempts]
    if stream == "events":
        return sum(len(tail.events) for tail in tails)
    if stream == "history":
        return sum(len(tail.rows) for tail in tails)
    if stream == "console":
        sealed = sum(p.rows for v in run.attempts for p in v.manifest.parts if p.stream == stream)
        return int(run.console().num_rows) - sealed
    return sum(len(columns.histogram_table(tail.rows)) for tail in tails)


def _print(run: dict[str, Any]) -> None:
    _print_facts(run)
    for title in ("config", "summary", "environment"):
        if run[title]:
            click.echo(f"\n{title}")
            _print_mapping(run[title])
    click.echo()
    header = ("ATTEMPT", "WRITER", "HOST", "FROM STEP", "LAST STEP", "ROWS", "EXIT CODE")
    names = ("attempt", "writer", "host", "from_step", "last_step", "rows", "exit_code")
    print_table(header, [[_text(entry[name]) for name in names] for entry in run["attempts"]])
    click.echo()
    print_table(
        ("STREAM", "ROWS", "COLUMNS", "PARTS", "SIZE"),
        [
            (s["stream"], str(s["rows"]), str(len(s["columns"])), str(s["parts"]), _size(s))
            for s in run["streams"]
        ],
    )
    print_system_metrics(run["system_metrics"])
    if run["tables"]:
        click.echo()
        print_table(
            ("TABLE", "KIND", "TIMES", "LAST STEP", "ROWS", "SIZE"),
            [
                (t["key"], *(str(t[n]) for n in ("kind", "times", "last_step", "rows")), _size(t))
                for t in run["tables"]
            ],
        )
    if run["artifacts"]:
        click.echo()
        print_table(
            ("ARTIFACT", "TYPE", "ALIASES", "FILES", "REFERENCES", "TABLES", "SIZE"),
            [
                (
                    *(a["name"], a["type"], ", ".join(a["aliases"]) or "-"),
                    *(str(a[name]) for name in ("files", "references", "tables")),
                    _size(a),
                )
                for a in run["artifacts"]
            ],
        )
    if run["files"]:
        click.echo()
        files = [(name, human_size(size)) for name, size in run["files"].items()]
        print_table(("FILE", "SIZE"), files)
    _print_alerts(run)
    if run["traceback"]:
        click.echo("\ntraceback")
        for line in run["traceback"].splitlines():
            say(f"  {line}")
    _print_troubles(run)


def _print_alerts(run: dict[str, Any]) -> None:
    if run["alerts"]:
        click.echo()
        rows = [(_when(a["timestamp"]), a["level"], a["title"], a["text"]) for a in run["alerts"]]
        print_table(("ALERT", "LEVEL", "TITLE", "TEXT"), [[*map(_short, row)] for row in rows])


def _print_facts(run: dict[str, Any]) -> None:
    facts = {
        "run": f"{run['id']} ({run['name']})" if run["name"] else run["id"],
        "path": run["path"],
        "project": "/".join(filter(None, (run["entity"], run["project"]))) or None,
        "group": run["group"],
        "job type": run["job_type"],
        "tags": ", ".join(run["tags"]) or None,
        "notes": run["notes"],
        "created": f"{_when(run['created'])} UTC on {run['host'] or 'an unknown host'}",
        "state": run["state"] + _exit_text(run["exit_code_of_run"]),
        "runtime": f"{run['runtime']:.1f} s",
        "rows": f"{run['rows']}, last step {_text(run['last_step'])}",
        "size": human_size(run["size"]),
        "synced": run["synced"],
    }
    for name, text in facts.items():
        if text is not None:
            say(f"{name:<9}{text}")


def _print_mapping(values: Mapping[str, Any]) -> None:
    width = min(max(map(len, values)), 40)
    for key, value in values.items():
        table = table_of(value)
        text = json.dumps(value, ensure_ascii=False)
        if table is not None:
            text = f"{value['_type'].partition('/')[0]} of {table.rows} rows: {table.path}"
        say(f"  {key:<{width}}  {_short(text)}")


def _print_troubles(run: dict[str, Any]) -> None:
    if counts := counts_text(run["dropped"], run["dropped_events"]):
        say(f"{run['id']}: {counts} could not be recorded", err=True)
    for name, text in {
        "failures": "times a part of the recorder failed",
        "torn": "bytes of a last record were not finished",
    }.items():
        if run[name]:
            say(f"{run['id']}: {run[name]} {text}", err=True)
    for name, word in {"lost": "lost", "damage": "damaged"}.items():
        for line in run[name]:
            say(f"{run['id']}: {word}: {line}", err=True)


def _when(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, tz=timezone.utc):%Y-%m-%d %H:%M:%S}"


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _exit_text(code: int | None) -> str:
    return "" if code is None else f" (exit code {code})"


def _size(entry: Mapping[str, Any]) -> str:
    return human_size(entry["size"])


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
