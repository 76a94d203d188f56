"""Sync end to end: what a server received is exactly what was recorded, beyond what sync says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import wandbkeras
from tests.server.process import LoopbackServer
from tests.server.snapshot import RequestLine, RunSnapshot
from tests.strategies import canonical
from tests.syncing import connect, held, sync_one, tree
from wandbkeras import Artifact, Histogram, Run
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.options import Result

NAN, INF = math.nan, math.inf
BIG = 2**60 + 1
FAR = 2**53 + 1
LONG = "é" * 70_000  # crosses blocks of the transaction log
HISTOGRAM = {"_type": "histogram", "values": [1, 2], "bins": [1.0, 2.0, 3.0]}
CONFIG = {
    "lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.999], "extra": {"nesterov": False}},
    "seed": BIG, "a.b": 1, "7": "seven", "none": None, "é": "ü", "list": [1, [2, {"x": 3}]],
}  # fmt: skip
# What is logged at each step, and where it differs the row that W&B must hold.
ROWS: dict[int, dict[str, Any]] = {
    0: {
        "loss": 1.5, "nan": NAN, "inf": INF, "ninf": -INF, "big": BIG, "least": -(2**63),
        "é ö": 1, "a.b": 2, "7": 7, "none": None, "text": 'two\nlines "quoted" \x00', "flag": True,
        "list": [1, 2.5, None, "x", NAN], "a/b c": 0.1, "nested.x.y": 2, "h": HISTOGRAM,
        "zero": 0.0,
    },
    5: {"loss": 1, "nan": 2.0},
    6: {"loss": "diverged", "late": 1, "epoch": 3, "val/acc": 1.0, "hidden": 1},
    FAR: {"val/acc": 3.0, "long": LONG, "epoch": 3},
    FAR + 1: {},
}  # fmt: skip
SUMMARY = {
    **ROWS[0], "loss": "diverged", "nan": 2.0, "late": 1, "epoch": 3, "long": LONG, "best": 0.0,
    "val/acc": {"min": 1.0, "max": 3.0, "mean": 2.0},
}  # fmt: skip
del SUMMARY["none"]
FILES = [{"e": b"", "sub dir/é.bin": bytes(range(256)) * 500}, {"e": b"now something"}]


def record(store: Path, work: Path) -> Run:
    """Record a run with everything that a run can hold."""
    run = wandbkeras.init(
        dir=store, project="digits", name="a ü run", group="g", job_type="train",
        tags=["b", "a"], notes="two\nlines", config=CONFIG,
    )  # fmt: skip
    run.define_metric("val/*", step_metric="epoch", summary="min,max,mean", goal="maximize")
    run.define_metric("hidden", hidden=True, summary="none")
    first = dict(ROWS[0], h=Histogram([1.0, 2.0, 3.0], num_bins=2), nested={"x": {"y": 2}})
    del first["nested.x.y"]
    run.log(first)
    run.log(ROWS[5], step=5, commit=False)
    run.log(ROWS[6], step=6, commit=True)
    run.log({"val/acc": 3.0}, step=FAR)
    run.log({"long": LONG}, commit=True)
    run.log({})
    run.summary["best"] = 0.0
    for number, files in enumerate(FILES):
        artifact = Artifact("data", "dataset", description="why", metadata={"n": number, "x": [1]})
        for name, data in files.items():
            (work / f"file{number}-{len(data)}").write_bytes(data)
            artifact.add_file(work / f"file{number}-{len(data)}", name)
        run.log_artifact(artifact, aliases=["best", f"try{number}"])
    run.finish(3)
    return run


@dataclass(frozen=True)
class Arrival:
    path: Path
    before: dict[str, tuple[int, str]]
    after: dict[str, tuple[int, str]]
    result: Result
    held: RunSnapshot
    requests: list[RequestLine]


@pytest.fixture(scope="module", params=["token", "string"])
def arrival(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arrival]:
    """The run synced once, to servers that spell NaN in either way when they are read."""
    root = tmp_path_factory.mktemp("arrival")
    server = LoopbackServer(root / "server", nonfinite=request.param)
    with server.start(), pytest.MonkeyPatch.context() as monkeypatch:
        connect(server, root / "home", monkeypatch)
        run = record(root / "runs", root)
        path = Path(run.dir or "")
        before = tree(path)
        result = sync_one(path)
        found = held(server, run.id)
        yield Arrival(path, before, tree(path), result, found, server.requests())
        assert server.violations() == []


def test_sync_says_verified(arrival: Arrival) -> None:
    """The result counts what was sent, and the receipt what was verified."""
    result = arrival.result
    assert (result.outcome, result.error, result.exit_code) == ("verified", None, 0)
    assert (result.rows_sent, result.artifacts_sent) == (5, 2)
    assert result.receipt is not None
    assert (result.receipt.rows, result.receipt.state) == (5, "failed")
    assert [a["version"] for a in result.receipt.artifacts] == ["v0", "v1"]


def test_every_row_arrived_once_and_exactly(arrival: Arrival) -> None:
    """The received lines have every value, in order, at their own steps and times."""
    stored = list(StoredRun(arrival.path).rows())
    assert [row["_step"] for row in arrival.held.rows] == list(ROWS)
    for line, row in zip(arrival.held.rows, stored, strict=True):
        expected = {
            **ROWS[row.step],
            "_step": row.step,
            "_timestamp": row.timestamp,
            "_runtime": row.runtime,
        }
        assert canonical(line) == canonical(expected)


def test_large_integers_arrive_digit_by_digit(arrival: Arrival) -> None:
    """No float was in between: the texts have all digits."""
    first = arrival.held.history[0]
    assert f'"big":{BIG}' in first
    assert f'"least":{-(2**63)}' in first
    assert f'"_step":{FAR}' in arrival.held.history[3]


def test_the_summary_arrived_exactly(arrival: Arrival) -> None:
    """Last values, aggregates, what was set, the last row's time and step, the duration."""
    stored = StoredRun(arrival.path)
    runtime = int(stored.folded.runtime)
    expected = {
        **SUMMARY,
        "_timestamp": list(stored.rows())[-1].timestamp,
        "_step": FAR + 1,
        "_runtime": runtime,
        "_wandb": {"runtime": runtime},
    }
    assert canonical(arrival.held.summary) == canonical(expected)


def test_the_config_arrived_exactly(arrival: Arrival) -> None:
    """Nested, with large integers, None and every name."""
    assert canonical(arrival.held.config_values) == canonical(CONFIG)


def test_who_the_run_is_arrived(arrival: Arrival) -> None:
    """Name, group, job type, tags, notes, host, state and exit code."""
    found, info = arrival.held, StoredRun(arrival.path).info
    assert (found.display_name, found.group, found.job_type) == ("a ü run", "g", "train")
    assert (found.tags, found.notes) == (("b", "a"), "two\nlines")
    assert (found.host, found.state, found.exit_code) == (info.host, "failed", 3)


def test_the_recording_machine_and_time_arrived(arrival: Arrival) -> None:
    """`wandb-metadata.json` says host, start, program and Python of the recording."""
    found = json.loads(arrival.held.files["wandb-metadata.json"])
    stored = StoredRun(arrival.path)
    process = stored.attempts[0].state.process
    started = datetime.fromisoformat(found["startedAt"].replace("Z", "+00:00"))
    assert round(started.timestamp() * 1e6) == round(stored.info.created * 1e6)
    assert (found["host"], found["program"], found["python"]) == (
        stored.info.host, process["program"], process["python"],
    )  # fmt: skip


def test_the_metric_definitions_arrived(arrival: Arrival) -> None:
    """W&B keeps them in the config: by name or glob, hidden, aggregates, x-axis and goal.

    A glob stands for the metrics that it defines, as in an online run.
    """
    found = arrival.held.config["_wandb"]["value"]["m"]
    names = {metric.get("1", metric.get("2")): metric for metric in found}
    assert names.keys() == {"val/*", "hidden", "epoch"}
    assert names["val/*"]["7"] == [1, 2, 3]  # min, max, mean
    assert names["val/*"]["8"] == 2  # maximize
    assert found[names["val/*"]["5"] - 1] is names["epoch"]


def test_every_artifact_arrived_byte_for_byte(arrival: Arrival) -> None:
    """Two versions in order, with their files, metadata and description; aliases have moved."""
    found = arrival.held.logged_artifacts
    assert [a.version for a in found] == [0, 1]
    for artifact, files, number in zip(found, FILES, range(2), strict=True):
        assert (artifact.name, artifact.type, artifact.state) == ("data", "dataset", "COMMITTED")
        assert (artifact.description, artifact.metadata) == ("why", {"n": number, "x": [1]})
        assert artifact.files == files
    assert [set(a.aliases) for a in found] == [{"try0"}, {"latest", "best", "try1"}]


def test_nothing_but_a_receipt_was_added(arrival: Arrival) -> None:
    """No byte and no mode of the run changed, its blobs are where they were."""
    added = arrival.after.keys() - arrival.before.keys()
    assert {name: arrival.after[name] for name in arrival.before} == arrival.before
    assert {Path(name).parent.as_posix() for name in added} == {".", "sync"}
    assert len(added) == 2
    assert any(name.startswith("blobs/") for name in arrival.before)


def test_nothing_was_sent_twice(arrival: Arrival) -> None:
    """Each artifact is made and committed once, each blob uploaded once."""
    operations = [request.operation for request in arrival.requests]
    assert operations.count("CreateArtifact") == operations.count("CommitArtifact") == 2
    assert all(request.status == 200 for request in arrival.requests)


def test_history_that_the_server_exported_is_verified_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that read back from Parquet, with null for what was not logged, are the same rows."""
    with LoopbackServer(tmp_path / "server", exports=True).start() as server:
        connect(server, tmp_path / "home", monkeypatch)
        run = wandbkeras.init(dir=tmp_path / "runs", project="digits")
        run.log({"loss": 0.5, "nan": NAN, "big": BIG, "none": None, "text": "é"})
        run.log({"loss": INF, "late": True, "h": Histogram([1.0, 2.0], num_bins=1)}, step=2**40)
        run.finish()
        assert sync_one(run.dir).error is None
        assert server.violations() == []


def test_an_empty_run_arrives(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without rows, config, artifacts and project is a run too."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    run = wandbkeras.init(dir=tmp_path / "runs")
    run.finish()
    assert sync_one(run.dir).error is None
    found = held(wandb_server, run.id, project="uncategorized")
    assert (found.history, found.config_values, found.state) == ((), {}, "finished")
