"""What a destination must hold: the stored run in W&B's terms."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from hypothesis import given
from hypothesis import strategies as st
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

from wandbkeras import Artifact, Histogram, Run
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.artifacts import artifact_digest
from wandbkeras.sync.content import Content


def content_of(run: Run) -> Content:
    assert run.dir is not None
    return Content(StoredRun(run.dir))


digests = st.binary(min_size=16, max_size=16)
parts = st.text(st.characters(exclude_characters="/\\.", exclude_categories=["Cs"]), min_size=1)
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)


@given(files=st.dictionaries(paths, digests, max_size=5))
def test_an_artifacts_digest_is_wandbs(files: dict[str, bytes]) -> None:
    """W&B's own manifest computes the same digest from the same files."""
    encoded = {path: base64.b64encode(digest).decode() for path, digest in files.items()}
    artifact = wandb.Artifact("data", "dataset")
    for path, digest in encoded.items():
        artifact.manifest.add_entry(ArtifactManifestEntry(path=path, digest=digest, size=0))
    assert artifact_digest(encoded) == artifact.digest


def log_version(run: Run, folder: Path, text: str, **artifact: Any) -> None:
    (folder / "f").write_text(text)
    made = Artifact("data", "dataset", metadata=artifact.get("metadata"))
    made.add_file(folder / "f")
    run.log_artifact(made, aliases=artifact.get("aliases"))


def test_equal_content_twice_is_one_version(start: Callable[..., Run], tmp_path: Path) -> None:
    """W&B makes no version of what equals the latest: the first stays and gains the aliases."""
    run = start()
    for number, text in enumerate("AAB"):
        log_version(run, tmp_path, text, aliases=[f"al{number}"], metadata={"n": number})
    run.finish()
    first, second = content_of(run).artifacts
    assert (set(first.aliases), first.version.metadata) == ({"al0", "al1"}, {"n": 0})
    assert (set(second.aliases), second.version.metadata) == ({"al2", "latest"}, {"n": 2})


def test_artifacts_of_different_names_share_no_aliases(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    """An alias is one artifact's own."""
    run = start()
    (tmp_path / "f").write_text("A")
    for name in ("one", "two"):
        run.log_artifact(tmp_path / "f", name=name, aliases=["best"])
    run.finish()
    assert [set(a.aliases) for a in content_of(run).artifacts] == [{"latest", "best"}] * 2


@pytest.mark.parametrize(
    ("config", "arrives"),
    [
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}),
        ({"a": {}, "b": 1}, {"b": 1}),
        ({"a": {"b": {}}, "c": {"d": {}, "e": 1}}, {"c": {"e": 1}}),
        ({"l": [], "d": [{}]}, {"l": [], "d": [{}]}),
        ({"x": math.nan, "l": [math.inf, {"y": -math.inf}]}, {"x": None, "l": [None, {"y": None}]}),
        ({"n": None, "big": 2**60 + 1, "a.b": 1}, {"n": None, "big": 2**60 + 1, "a.b": 1}),
    ],
)
def test_a_config_is_what_the_client_sends(
    config: dict[str, Any], arrives: dict[str, Any], start: Callable[..., Run]
) -> None:
    """The client keeps leaves only, and writes null for what JSON lacks."""
    run = start(config=config)
    run.finish()
    assert content_of(run).config == arrives


def test_a_histogram_arrives_as_counts_and_edges(start: Callable[..., Run]) -> None:
    """What else a histogram knows stays in the store, also where it is a summary."""
    run = start()
    run.log({"h": Histogram([1.0, 2.0, math.nan], num_bins=1)})
    run.finish()
    expected = {"_type": "histogram", "values": [2], "bins": [1.0, 2.0]}
    content = content_of(run)
    assert [row.values for row in content.rows()] == [{"h": expected}]
    assert content.summary["h"] == expected


def test_a_summary_has_no_none(start: Callable[..., Run]) -> None:
    """The client that computes summaries online leaves None out."""
    run = start()
    run.log({"a": None, "b": 1})
    run.finish()
    assert "a" not in content_of(run).summary


def test_a_run_without_rows_has_no_last_time(start: Callable[..., Run]) -> None:
    """Nothing logged, nothing claimed."""
    run = start(config={"lr": 1})
    run.finish()
    content = content_of(run)
    assert (list(content.steps), list(content.rows())) == ([], [])
    assert content.summary == {"_runtime": 0}


def test_a_crashed_run_is_failed_there(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a finish record the exit code is 1, and W&B's word for it is failed."""
    run = start()
    run.log({"a": 1})
    content = content_of(run)
    assert (content.remote_states, content.is_running) == (("running",), True)
    monkeypatch.setattr(content, "state", "crashed")
    assert (content.remote_states, content.exit_code) == (("failed",), 1)
