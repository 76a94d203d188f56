"""A run of each version of the format, as it was written then, reads as it did then."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests import format_reader
from tests.format_contents import LINE, read_run
from tests.format_damage import read_run as read_state
from tests.format_reader import INDEX
from tests.strategies import canonical
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.tables import StoredTable
from wandbkeras.store.verify import verify_run

GOLDEN = Path(__file__).parent / "golden"
RUNS = sorted(path for path in GOLDEN.glob("*/run-*") if path.is_dir())
each_run = pytest.mark.parametrize("root", RUNS, ids=lambda root: root.name)


def described(root: Path) -> dict[str, Any]:
    """Return what a stored run says, as JSON has it."""
    run = StoredRun(root, strict=True)
    tables = [*run.tables(), *map(run.stored_table, _artifact_tables(run))]
    return _plain(
        {
            "info": asdict(run.info),
            "state": run.state,
            "config": run.config,
            "summary": run.summary,
            "rows": [[r.step, r.timestamp, r.runtime, r.attempt, r.values] for r in run.rows()],
            "events": [[event.type, event.timestamp] for event in run.events()],
            "artifacts": [version.to_document() for version in run.artifacts],
            "console": [
                list(line.values())
                for line in run.console().select(["_attempt", "_writer", *LINE]).to_pylist()
            ],
            "tables": [[table.file.path, _cells(table)] for table in tables],
        }
    )


def expected_of(root: Path) -> Any:
    """Return what the run said when it was written."""
    return json.loads(root.with_name(f"{root.name}.json").read_text())


def _artifact_tables(run: StoredRun) -> list[Any]:
    return [file for version in run.artifacts for file in version.tables.values()]


def _cells(table: StoredTable) -> list[dict[str, Any]]:
    """Return the rows of a table, with what its JSON text says."""
    rows: list[dict[str, Any]] = table.read().to_pylist()
    for name in (column.name for column in table.schema().columns if column.kind == "json"):
        for row in rows:
            row[name] = None if row[name] is None else json.loads(row[name])
    return rows


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=bytes.hex))


@each_run
def test_a_run_of_each_version_reads_as_it_did(root: Path) -> None:
    """Every row, event, artifact and table, config and summary; every byte of it is sound."""
    assert canonical(described(root)) == canonical(expected_of(root))
    assert verify_run(root).damage == []


@each_run
def test_the_independent_reader_reads_it_too(root: Path) -> None:
    """Whoever knows the document alone finds the same rows, in a hundred lines."""
    expected = expected_of(root)
    info, rows = format_reader.read_run(root)
    indexed = [dict(zip(INDEX, row, strict=False)) | row[-1] for row in expected["rows"]]
    assert canonical(rows) == canonical(indexed)
    assert info.items() >= expected["info"].items()


@each_run
def test_what_is_beside_the_rows_is_read_too(root: Path) -> None:
    """Config, summary, artifacts, tables, console and state, by whoever knows the document."""
    expected = expected_of(root)
    found, state = read_run(root), read_state(root, host="elsewhere", now=2e9)
    assert found["config"] == state.state["config"] == expected["config"]
    assert _plain(state.artifacts) == expected["artifacts"]
    assert canonical(_plain(found["tables"])) == canonical(dict(expected["tables"]))
    assert found["console"] == expected["console"]
    assert canonical(state.state["summary"]) == canonical(expected["summary"])
    assert state.status == expected["state"]


def test_each_version_has_a_run() -> None:
    """There is one of every version so far."""
    assert {root.parent.name for root in RUNS} == {"version-1"}
