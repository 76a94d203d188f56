"""What the machine did is told with a run, and found by tools that know nothing of ours."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from wandbkeras_cli.main import main

from wandbkeras import Run
from wandbkeras.store.reader import StoredRun

_RECORDING = Path(__file__).parents[1] / "docs/recording.md"


@pytest.fixture
def measured(start: Callable[..., Run], stored: Callable[[Run], StoredRun]) -> StoredRun:
    """A run with three samples of a machine with a GPU, the last without it."""
    run = start(id="k3j9x2ab")
    run.record_system_metrics({"cpu": 10.0, "gpu.0.gpu": 90.0, "network.sent": 5.0})
    run.record_system_metrics({"cpu": 40.0, "gpu.0.gpu": 70.0, "network.sent": 7.0})
    run.record_system_metrics({"cpu": 25.0, "network.sent": 9.0})
    run.finish()
    return stored(run)


def _show(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["wandbkeras", "show", *map(str, arguments)])
    with pytest.raises(SystemExit, match="0"):
        main()


def test_show_tells_how_much_of_the_machine_was_used(
    measured: StoredRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Processor, memory and GPUs for people; all metrics for programs."""
    _show(monkeypatch, measured.path)
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("SYSTEM METRIC     SAMPLES  MEAN  MAX   LAST")
    assert lines[start + 1 : start + 3] == [
        "system.cpu        3        25.0  40.0  25.0",
        "system.gpu.0.gpu  2        80.0  90.0  70.0",
    ]
    assert "network" not in "".join(lines)
    _show(monkeypatch, measured.path, "--json")
    found = json.loads(capsys.readouterr().out)["system_metrics"]
    assert found[-1] == {
        "name": "system.network.sent", "samples": 3, "mean": 7.0, "max": 9.0, "last": 9.0,
    }  # fmt: skip


def test_duckdb_reads_the_samples_as_the_documentation_says(
    measured: StoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query of docs/recording.md gives each sample of each run with its time."""
    (query,) = re.findall("```sql\n(.*?)```", _RECORDING.read_text(), re.DOTALL)
    monkeypatch.chdir(measured.path.parents[1])
    rows = duckdb.sql(query).fetchall()
    assert [cpu for _, _, cpu in rows] == [10.0, 40.0, 25.0]
    times = measured.system_metrics()["_timestamp"].to_pylist()
    assert [time for _, time, _ in rows] == times
