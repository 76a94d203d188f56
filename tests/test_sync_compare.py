"""Comparing: what counts as the same, and how a difference is said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests import strategies
from wandbkeras import Artifact, Run
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import Row
from wandbkeras.sync.compare import (
    artifact_differences,
    differences,
    match_artifacts,
    row_differences,
    same,
)
from wandbkeras.sync.content import Content
from wandbkeras.sync.remote import RemoteArtifact, RemoteRun

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (1, 1.0), (1.0, 1), (2**60 + 1, 2**60 + 1), (0.1, 0.1), (NAN, NAN), (INF, INF),
        (NAN, "NaN"), (INF, "Infinity"), (-INF, "-Infinity"), ("NaN", "NaN"), (True, True),
        (None, None), ("é", "é"), ([1, NAN, [None]], [1.0, "NaN", [None]]), ((1, 2), [1, 2]),
        ({"a": {"b": NAN}}, {"a": {"b": NAN}}), ({}, {}), (-0.0, 0.0),
    ],
)  # fmt: skip
def test_equal_as_wandb_keeps_them(expected: Any, found: Any) -> None:
    """JSON has one kind of number, NaN is NaN, and a server may spell non-finite numbers out."""
    assert same(expected, found)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (1, 2), (1, True), (True, 1), (False, 0), (0, None), (None, "NaN"), (NAN, None), (1, "1"),
        (2**60 + 1, float(2**60)), (2**53 + 1, 2**53), (NAN, INF), (INF, -INF), (INF, "NaN"),
        (1.0, "Infinity"), (NAN, "nan"), ("NaN", NAN), ([1], [1, 2]), ([1, 2], [2, 1]), ([1], 1),
        ({"a": 1}, {"a": 1, "b": None}), ({"a": 1}, [["a", 1]]), ("", None),
        (0.1, math.nextafter(0.1, 1)),
    ],
)  # fmt: skip
def test_not_equal(expected: Any, found: Any) -> None:
    """Types that W&B tells apart, integers beyond 2**53 and the last bit of a float all count."""
    assert not same(expected, found)


@given(value=strategies.values)
def test_every_value_equals_itself_after_json(value: Any) -> None:
    """What W&B's JSON carries compares equal to what was recorded."""
    assert same(value, json.loads(json.dumps(value)))


def wandb_row(step: int, **values: Any) -> dict[str, Any]:
    return {"_step": step, "_timestamp": 1.0 + step, "_runtime": 0.5, **values}


def row(step: int, **values: Any) -> Row:
    return Row(step, 1.0 + step, 0.5, values)


def texts(expected: list[Row], found: list[dict[str, Any]]) -> list[str]:
    return [text for _, text in row_differences(expected, found)]


def test_equal_rows_have_no_differences() -> None:
    """Order of keys is none, and a None is what exported history shows for nothing."""
    expected = [row(0, loss=1, none=None), row(4, loss=NAN)]
    found = [wandb_row(0, loss=1.0), {**wandb_row(4), "loss": "NaN", "other": None}]
    assert texts(expected, found) == []


def test_each_kind_of_row_difference_is_named() -> None:
    """A wrong value, a lost and a foreign value, a missing and a superfluous row."""
    expected = [row(0, loss=1.0), row(1, loss=1.0), row(2, loss=1.0)]
    assert texts(expected, [wandb_row(0, loss=2.0), wandb_row(1), wandb_row(2, loss=1.0)]) == [
        "row 0 (_step 0): loss: expected 1.0, found 2.0",
        "row 1 (_step 1): loss: expected 1.0, found 'nothing'",
    ]
    found = [wandb_row(step, loss=1.0) for step in range(4)]
    assert texts(expected[:1], found[:2]) == ["row 1 (_step 1) is not of this run"]
    assert texts(expected, found[:2]) == ["row 2 (_step 2) is missing"]


@pytest.mark.parametrize("key", ["_step", "_timestamp", "_runtime"])
def test_the_index_of_a_row_is_compared(key: str) -> None:
    """A row at another step or time is another row."""
    found = {**wandb_row(3, loss=1.0), key: 9}
    assert key in texts([row(3, loss=1.0)], [found])[0]


def test_a_long_row_is_not_printed_whole() -> None:
    """A message names three keys and cuts long values."""
    expected = row(0, **{f"k{i}": "x" * 10_000 for i in range(10)})
    (text,) = texts([expected], [wandb_row(0)])
    assert len(text) < 500


@pytest.fixture
def content(start: Callable[..., Run], tmp_path: Path) -> Content:
    """A finished run with one row and versions A, B and A again of one artifact."""
    run = start(project="digits", name="n", tags=["b", "a"], config={"lr": 0.1})
    run.log({"loss": 1.0})
    for number, text in enumerate("ABA"):
        (tmp_path / "f").write_text(text)
        artifact = Artifact("data", "dataset", metadata={"n": number})
        artifact.add_file(tmp_path / "f")
        run.log_artifact(artifact, aliases=[f"al{number}"])
    run.finish()
    assert run.dir is not None
    return Content(StoredRun(run.dir))


@pytest.fixture
def remote(content: Content) -> RemoteRun:
    """What a server says that holds all of it."""
    return RemoteRun(
        url="", state="finished", name="n", group=None, job_type=None, tags=("a", "b"), notes=None,
        host=content.info.host, started=content.info.created, heartbeat=0.0,
        config=content.config, line_count=1,
        summary={**content.summary, "_step": 0, "_wandb": {"runtime": int(content.runtime)}},
        artifacts=tuple(
            RemoteArtifact(
                a.version.name, "dataset", f"v{i}", a.digest, a.aliases, None,
                dict(a.version.metadata), dict(a.files),
            )
            for i, a in enumerate(content.artifacts)
        ),
    )  # fmt: skip


def test_a_run_that_arrived_has_no_differences(content: Content, remote: RemoteRun) -> None:
    """The order of tags is none, and what the client puts into the summary is not ours."""
    assert differences(content, remote, content.artifacts) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"state": "running"}, "state: expected finished, found running"),
        ({"name": "other"}, "name: expected 'n', found 'other'"),
        ({"group": "g"}, "group: expected None, found 'g'"),
        ({"job_type": "t"}, "job type: expected None, found 't'"),
        ({"tags": ("a",)}, "tags: expected ['a', 'b'], found ['a']"),
        ({"notes": "x"}, "notes: expected None, found 'x'"),
        ({"host": "elsewhere"}, "found 'elsewhere'"),
        ({"started": None}, "start time: expected"),
        ({"config": {"lr": 0.1, "more": 1}}, "config: more: expected 'nothing', found 1"),
        ({"summary": {}}, "summary: loss: expected 1.0, found 'nothing'"),
        ({"artifacts": ()}, "artifact data (latest, al0) is missing"),
    ],
)
def test_each_difference_of_a_run_is_named(
    change: dict[str, Any], text: str, content: Content, remote: RemoteRun
) -> None:
    """What differs is said with what was expected and what was found."""
    assert text in "; ".join(differences(content, replace(remote, **change)))


def test_a_duration_of_another_second_differs(content: Content, remote: RemoteRun) -> None:
    """The duration that W&B shows is compared too."""
    summary = {**remote.summary, "_wandb": {"runtime": 99}}
    assert differences(content, replace(remote, summary=summary)) == [
        "duration: expected 0 s, found 99"
    ]


def test_the_same_content_may_come_again(content: Content, remote: RemoteRun) -> None:
    """Versions A, B, A are three."""
    assert [version and version.version for _, version in match_artifacts(content, remote)] == [
        "v0", "v1", "v2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("there", "missing"),
    [("", "ABA"), ("A", "BA"), ("AB", "A"), ("ABA", ""), ("B", "ABA"), ("BA", "BA"),
     ("BABA", ""), ("ABAB", "A"), ("X", "ABA"), ("XA", "BA"), ("AX", "ABA")],
)  # fmt: skip
def test_what_comes_after_the_last_versions_is_missing(
    there: str, missing: str, content: Content, remote: RemoteRun
) -> None:
    """An interrupted sync goes on; after a gap all comes again, so that the last is the latest."""
    digests = {name: content.artifacts["AB".index(name)].digest for name in "AB"}
    artifacts = tuple(
        replace(remote.artifacts[0], version=f"v{i}", digest=digests.get(name, "other"))
        for i, name in enumerate(there)
    )
    pairs = match_artifacts(content, replace(remote, artifacts=artifacts))
    lacking = [artifact.digest for artifact, version in pairs if version is None]
    assert lacking == [digests[name] for name in missing]


def test_versions_are_in_order_of_their_numbers(content: Content, remote: RemoteRun) -> None:
    """v10 comes after v9, in whatever order the server tells them."""
    artifacts = [replace(a, version=f"v{9 + i}") for i, a in enumerate(remote.artifacts)]
    pairs = match_artifacts(content, replace(remote, artifacts=tuple(artifacts[::-1])))
    assert [version and version.version for _, version in pairs] == ["v9", "v10", "v11"]


def test_aliases_that_moved_on_are_no_difference(content: Content, remote: RemoteRun) -> None:
    """Another run's version may have taken `latest` over since; not since it was just sent."""
    moved = tuple(replace(a, aliases=()) for a in remote.artifacts)
    assert differences(content, replace(remote, artifacts=moved)) == []
    sent = content.artifacts[2:]
    assert differences(content, replace(remote, artifacts=moved), sent) == [
        "artifact data (latest, al2): lacks the aliases al2, latest"
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": "model"}, "type: expected 'dataset', found 'model'"),
        ({"metadata": {}}, "metadata: expected {'n': 0}, found {}"),
        ({"description": "x"}, "description: expected None, found 'x'"),
        ({"files": {}}, "files: expected {'f': "),
    ],
)
def test_each_difference_of_an_artifact_is_named(
    change: dict[str, Any], text: str, content: Content, remote: RemoteRun
) -> None:
    """Type, metadata, description and the digests of the files are compared."""
    version = replace(remote.artifacts[0], **change)
    (found,) = artifact_differences(content.artifacts[0], version, with_aliases=True)
    assert text in found
