"""A run of each version of the format, as it was written then, reads as it did then."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.format_reader import read_rows
from tests.format_run import read_run
from tests.strategies import canonical
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.verify import verify_run

GOLDEN = Path(__file__).parent / "golden"
RUNS = sorted(GOLDEN.glob("*/run-*"))


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
            "tables": [[table.file.path, table.read().to_pylist()] for table in tables],
        }
    )


def _artifact_tables(run: StoredRun) -> list[Any]:
    return [file for version in run.artifacts for file in version.tables.values()]


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("root", RUNS, ids=lambda root: root.parent.name)
def test_a_run_of_each_version_reads_as_it_did(root: Path) -> None:
    """Every row, event, artifact and table, config and summary; every byte of it is sound."""
    assert described(root) == json.loads((root.parent / "expected.json").read_text())
    assert verify_run(root).damage == []


@pytest.mark.parametrize("root", RUNS, ids=lambda root: root.parent.name)
def test_the_independent_reader_reads_it_too(root: Path) -> None:
    """Whoever knows the document alone finds the same rows, config, summary and artifacts."""
    expected = json.loads((root.parent / "expected.json").read_text())
    found = read_run(root, host="elsewhere", now=2e9)
    assert canonical([list(row) for row in read_rows(root)]) == canonical(expected["rows"])
    assert canonical([list(row) for row in found.rows]) == canonical(expected["rows"])
    assert (found.status, found.state["config"]) == (expected["state"], expected["config"])
    assert canonical(found.state["summary"]) == canonical(expected["summary"])
    assert _plain(found.artifacts) == expected["artifacts"]


def test_each_version_has_a_run() -> None:
    """There is one of every version so far."""
    assert [root.parent.name for root in RUNS] == ["version-1"]
