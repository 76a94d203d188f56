"""Rendering, without network: which records a stored run becomes, and in which order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2 as pb

import wandbkeras
from tests.wandb_file import read_records
from wandbkeras import Artifact, Histogram, Run
from wandbkeras.errors import DamagedError
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.outbox import Outbox
from wandbkeras.sync.plan import Plan
from wandbkeras.sync.render import records, render

DESTINATION = Destination("http://127.0.0.1:1", None, "digits", "k3j9x2ab")


@pytest.fixture
def recorded(start: Callable[..., Run], tmp_path: Path) -> Content:
    """Three rows and two versions of an artifact."""
    run = start(
        project="digits", id="k3j9x2ab", name="first", group="g", job_type="train", tags=["b", "a"],
        notes="two\nlines", config={"lr": 0.1, "opt": {"name": "adam", "empty": {}}, "a.b": None},
    )  # fmt: skip
    run.define_metric("epoch", hidden=True)
    run.define_metric("val/*", step_metric="epoch", summary="min,mean", goal="minimize")
    run.log({"loss": 0.5, "val/loss": 1.0, "epoch": 0})
    run.log({"loss": float("nan"), "text": "é\n", "none": None}, step=7, commit=True)
    run.log({"weights": Histogram([1.0, 2.0, 3.0], num_bins=2), "big": 2**60 + 1})
    for version in range(2):
        (tmp_path / "data.txt").write_text(f"version {version}")
        artifact = Artifact("data", "dataset", description="why", metadata={"n": version})
        artifact.add_file(tmp_path / "data.txt", "sub/data.txt")
        run.log_artifact(artifact, aliases=[f"v-{version}", "best"])
    run.finish(3)
    assert run.dir is not None
    return Content(StoredRun(run.dir))


def rendered(content: Content, staging: Path, **plan: Any) -> list[pb.Record]:
    chosen = {"artifacts": content.artifacts, **plan}
    outbox = Outbox(content, staging)
    found = records(content, Plan(DESTINATION, "someone", **chosen), outbox, "0.31.0")
    return [r if isinstance(r, pb.Record) else pb.Record.FromString(r) for r in found]


def of_kind(found: list[pb.Record], kind: str) -> list[Any]:
    return [getattr(r, kind) for r in found if r.WhichOneof("record_type") == kind]


def items(found: Any) -> dict[str, Any]:
    """Key to value; a nested key's parts are joined by slashes."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in found}


def test_records_come_in_the_order_of_a_client(recorded: Content, tmp_path: Path) -> None:
    """Header, run, environment, definitions, rows, artifacts, one summary, the end."""
    kinds = [record.WhichOneof("record_type") for record in rendered(recorded, tmp_path)]
    assert kinds == [
        "header", "run", "environment", "metric", "metric", "history", "history", "history",
        "request", "request", "summary", "exit",
    ]  # fmt: skip


def test_the_run_says_who_it_is(recorded: Content, tmp_path: Path) -> None:
    """The run record has every field, the recorded start and the config, still nested."""
    (run,) = of_kind(rendered(recorded, tmp_path), "run")
    assert (run.run_id, run.entity, run.project) == ("k3j9x2ab", "someone", "digits")
    assert (run.display_name, run.run_group, run.job_type) == ("first", "g", "train")
    assert (list(run.tags), run.notes) == (["b", "a"], "two\nlines")
    assert run.host == recorded.info.host
    assert run.start_time.ToMicroseconds() == round(recorded.info.created * 1e6)
    assert items(run.config.update) == {"lr": 0.1, "opt": {"name": "adam"}, "a.b": None}


def test_nothing_asks_the_client_to_resume(recorded: Content, tmp_path: Path) -> None:
    """A client told to resume numbers the steps anew, so it is not told."""
    (run,) = of_kind(rendered(recorded, tmp_path), "run")
    assert not run.resumed
    assert run.starting_step == 0


def test_the_environment_is_that_of_the_recording_machine(
    recorded: Content, tmp_path: Path
) -> None:
    """Host, program and Python version come from the first attempt, the start from the run."""
    (environment,) = of_kind(rendered(recorded, tmp_path), "environment")
    process = recorded.run.attempts[0].state.process
    assert (environment.host, environment.program, environment.python) == (
        recorded.info.host, process["program"], process["python"],
    )  # fmt: skip
    assert environment.started_at.ToMicroseconds() == round(recorded.info.created * 1e6)


def test_definitions_keep_what_was_asked(recorded: Content, tmp_path: Path) -> None:
    """A name, the name that a prefix covered, and the prefix itself as a glob."""
    metrics = of_kind(rendered(recorded, tmp_path), "metric")
    epoch = next(m for m in metrics if m.name == "epoch")
    assert (epoch.options.hidden, epoch.options.defined) == (True, True)
    for metric in (m for m in metrics if m is not epoch):
        assert (metric.step_metric, metric.options.step_sync) == ("epoch", True)
        assert metric.goal == pb.MetricRecord.GOAL_MINIMIZE
        assert (metric.summary.min, metric.summary.mean, metric.summary.max) == (True, True, False)
    assert {m.name or m.glob_name for m in metrics} == {"epoch", "val/*"}


def test_a_row_is_written_whole(recorded: Content, tmp_path: Path) -> None:
    """Values, step, time and runtime; text as it is, NaN as W&B's bare token, histograms plain."""
    first, second, third = of_kind(rendered(recorded, tmp_path), "history")
    assert [row.step.num for row in (first, second, third)] == [0, 7, 8]
    stored = list(recorded.run.rows())
    for row, expected in zip((first, second, third), stored, strict=True):
        found = items(row.item)
        assert found["_step"] == expected.step
        assert found["_timestamp"] == expected.timestamp
        assert found["_runtime"] == expected.runtime
    texts = {item.key: item.value_json for item in second.item}
    assert (texts["loss"], texts["text"], texts["none"]) == ("NaN", '"é\\n"', "null")
    assert items(third.item)["big"] == 2**60 + 1
    assert items(third.item)["weights"] == {
        "_type": "histogram", "values": [1, 2], "bins": [1.0, 2.0, 3.0],
    }  # fmt: skip


@pytest.mark.parametrize("first_row", range(4))
def test_rows_before_the_plans_first_are_not_written(
    first_row: int, recorded: Content, tmp_path: Path
) -> None:
    """Only what is missing is rendered, down to no row at all."""
    rows = of_kind(rendered(recorded, tmp_path, first_row=first_row), "history")
    assert [row.step.num for row in rows] == [0, 7, 8][first_row:]


def test_only_the_plans_artifacts_are_written(recorded: Content, tmp_path: Path) -> None:
    """A version that the destination holds is not rendered again."""
    _, second = recorded.artifacts
    (request,) = of_kind(rendered(recorded, tmp_path, artifacts=[second]), "request")
    assert json.loads(request.log_artifact.artifact.metadata) == {"n": 1}


def test_an_artifact_is_uploaded_from_the_runs_blobs(recorded: Content, tmp_path: Path) -> None:
    """Each file is named by its blob, and the staging directory holds none of them."""
    requests = of_kind(rendered(recorded, tmp_path), "request")
    for number, request in enumerate(requests):
        assert request.log_artifact.staging_dir == str(tmp_path.resolve() / "staging")
        artifact = request.log_artifact.artifact
        assert (artifact.name, artifact.type, artifact.description) == ("data", "dataset", "why")
        assert (artifact.entity, artifact.project) == ("someone", "digits")
        assert (artifact.digest, artifact.finalize) == (recorded.artifacts[number].digest, True)
        (entry,) = artifact.manifest.contents
        blob = Path(entry.local_path)
        assert (entry.path, entry.size) == ("sub/data.txt", len("version 0"))
        assert blob.is_relative_to(recorded.run.layout.blobs.resolve())
        assert blob.read_text() == f"version {number}"


def test_an_alias_is_given_to_the_last_version_that_has_it(
    recorded: Content, tmp_path: Path
) -> None:
    """What a later version takes over is not given first: versions may arrive out of order."""
    first, second = of_kind(rendered(recorded, tmp_path), "request")
    assert list(first.log_artifact.artifact.aliases) == ["v-0"]
    assert set(second.log_artifact.artifact.aliases) == {"latest", "v-1", "best"}


def test_client_ids_are_the_same_at_every_try(recorded: Content, tmp_path: Path) -> None:
    """A server can tell that a version is sent again; versions of one run differ."""
    tries = [of_kind(rendered(recorded, tmp_path), "request") for _ in range(2)]
    ids = [[r.log_artifact.artifact.client_id for r in requests] for requests in tries]
    assert ids[0] == ids[1]
    assert len({*ids[0]}) == 2
    assert {len(client_id) for client_id in ids[0]} == {128}


def test_the_summary_is_whole(recorded: Content, tmp_path: Path) -> None:
    """Last values, aggregates, the time of the last row and the duration."""
    (summary,) = of_kind(rendered(recorded, tmp_path), "summary")
    found = items(summary.update)
    assert found.pop("loss") != found.get("loss")  # NaN
    assert found.pop("_timestamp") == list(recorded.run.rows())[-1].timestamp
    assert found.pop("_wandb/runtime") == found.pop("_runtime") == int(recorded.runtime)
    assert found == {
        "val/loss": {"min": 1.0, "mean": 1.0}, "epoch": 0, "text": "é\n", "big": 2**60 + 1,
        "weights": {"_type": "histogram", "values": [1, 2], "bins": [1.0, 2.0, 3.0]},
    }  # fmt: skip


def test_the_end_has_the_exit_code(recorded: Content, tmp_path: Path) -> None:
    """An ended run is complete, with the code that it ended with."""
    (end,) = of_kind(rendered(recorded, tmp_path), "exit")
    assert (end.exit_code, end.not_complete) == (3, False)
    assert end.runtime == int(recorded.runtime)


def test_a_running_run_is_not_complete(start: Callable[..., Run], tmp_path: Path) -> None:
    """The end of a running run leaves it running, and its open row is not written yet."""
    run = start(project="digits")
    run.log({"loss": 1.0})
    run.log({"loss": 0.5}, step=5)
    assert run.dir is not None
    found = rendered(Content(StoredRun(run.dir)), tmp_path)
    assert [row.step.num for row in of_kind(found, "history")] == [0]
    assert of_kind(found, "exit")[0].not_complete


def test_render_makes_what_wandb_sync_looks_for(recorded: Content, tmp_path: Path) -> None:
    """The directory is named as an offline run and holds a readable log."""
    plan = Plan(DESTINATION, "someone", artifacts=recorded.artifacts)
    folder = render(recorded, plan, tmp_path, "0.31.0")
    assert folder.name == f"offline-{recorded.run.path.name}"
    found = [pb.Record.FromString(data) for data in read_records(folder / "run-k3j9x2ab.wandb")]
    expected = rendered(recorded, tmp_path / "staging")
    assert [r.WhichOneof("record_type") for r in found] == [
        r.WhichOneof("record_type") for r in expected
    ]


def test_a_missing_blob_is_damage(recorded: Content, tmp_path: Path) -> None:
    """What is not there can't be rendered, and the message names it."""
    (blob,) = [
        recorded.run.blob(file.sha256) for file in recorded.artifacts[0].version.files.values()
    ]
    blob.unlink()
    with pytest.raises(DamagedError, match=blob.name):
        rendered(recorded, tmp_path)


def test_rendering_changes_nothing(recorded: Content, tmp_path: Path) -> None:
    """Rendering twice gives the same records: it only reads."""
    assert wandbkeras.run is None
    assert rendered(recorded, tmp_path) == rendered(recorded, tmp_path)
