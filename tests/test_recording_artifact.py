"""Artifacts: files of a run under a name, a type and aliases."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wandbkeras
from wandbkeras import Artifact
from wandbkeras.errors import UsageError
from wandbkeras.recording.artifact import artifact_name
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import ArtifactVersion

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of three files, two of them the same."""
    root = tmp_path / "data"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"a")
    (root / "sub" / "b.bin").write_bytes(bytes(1000))
    (root / "sub" / "deep" / "copy of b").write_bytes(bytes(1000))
    return root


def _content(run: StoredRun, version: ArtifactVersion) -> dict[str, bytes]:
    return {name: run.blob(file.sha256).read_bytes() for name, file in version.files.items()}


def test_a_file_is_an_artifact(start: Start, stored: Stored, data: Path) -> None:
    """Its bytes are in the run, with their digests; name and type have defaults."""
    run = start(id="k3j9x2ab")
    returned = run.log_artifact(data / "a.txt")
    (version,) = stored(run).artifacts
    assert (version.name, version.type) == ("run-k3j9x2ab-a.txt", "unspecified")
    assert (returned.name, returned.type) == (version.name, version.type)
    assert version.aliases == ("latest",)
    (file,) = version.files.values()
    assert file.sha256 == hashlib.sha256(b"a").hexdigest()
    assert file.md5 == hashlib.md5(b"a").hexdigest()
    assert file.size == 1
    assert _content(stored(run), version) == {"a.txt": b"a"}


def test_a_directory_is_an_artifact(start: Start, stored: Stored, data: Path) -> None:
    """Every file below it is in, under its relative path; equal files are stored once."""
    run = start()
    run.log_artifact(str(data), name="digits", type="dataset", aliases=["raw", "latest", "raw"])
    run.finish()
    (version,) = stored(run).artifacts
    assert (version.name, version.type) == ("digits", "dataset")
    assert version.aliases == ("latest", "raw")
    assert _content(stored(run), version) == {
        "a.txt": b"a",
        "sub/b.bin": bytes(1000),
        "sub/deep/copy of b": bytes(1000),
    }
    blobs = [path for path in stored(run).layout.blobs.rglob("*") if path.is_file()]
    assert len(blobs) == 2


def test_an_artifact_is_built_of_files_and_directories(
    start: Start, stored: Stored, data: Path
) -> None:
    """Names of one's own, a description and metadata are recorded."""
    artifact = Artifact(
        "model", type="model", description="d", metadata={"acc": 0.5, "n": {"a": 1}}
    )
    artifact.add_file(data / "a.txt", name="renamed/a.txt")
    artifact.add_file(data / "a.txt")
    artifact.add_dir(data / "sub", name="below")
    run = start()
    assert run.log_artifact(artifact, aliases=("best",)) is artifact
    (version,) = stored(run).artifacts
    assert version.description == "d"
    assert version.metadata == {"acc": 0.5, "n": {"a": 1}}
    assert version.aliases == ("latest", "best")
    assert sorted(version.files) == [
        "a.txt",
        "below/b.bin",
        "below/deep/copy of b",
        "renamed/a.txt",
    ]


def test_versions_are_recorded_in_order(start: Start, stored: Stored, data: Path) -> None:
    """Each call is a version; what a file held at that moment is what it holds."""
    run = start()
    for content in (b"one", b"two"):
        (data / "a.txt").write_bytes(content)
        wandbkeras.log_artifact(data / "a.txt", "digits", "dataset")
    run.finish()
    versions = stored(run).artifacts
    assert [_content(stored(run), version)["a.txt"] for version in versions] == [b"one", b"two"]


def test_a_disabled_run_takes_an_artifact(start: Start, store: Path, data: Path) -> None:
    """The arguments are checked, nothing is copied."""
    run = start(mode="disabled")
    run.log_artifact(data)
    with pytest.raises(UsageError):
        run.log_artifact(data / "missing")
    assert not store.exists()


def test_a_name_is_made_acceptable() -> None:
    """What W&B refuses in an artifact's name becomes a dash, and it is never too long."""
    assert artifact_name("model-süß/run 1") == "model-s---run-1"
    assert len(artifact_name("m" * 200)) == 128


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "artifact name ''"),
        ({"name": "a b"}, "artifact name 'a b': W&B takes 1 to 128"),
        ({"name": "a/b"}, "artifact name 'a/b'"),
        ({"name": "n" * 129}, "artifact name 'nnn"),
        ({"name": 5}, "artifact name 5"),
        ({"type": ""}, "artifact type ''"),
        ({"type": "a:b"}, "artifact type 'a:b'"),
        ({"type": None}, "artifact type None"),
        (
            {"metadata": {str(i): i for i in range(101)}},
            "received 101 metadata keys; W&B takes 100",
        ),
        ({"description": 5}, "received description 5; expected a string"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    """What W&B would refuse is refused when the artifact is made."""
    with pytest.raises(UsageError, match=message):
        Artifact(**{"name": "n", "type": "t", **arguments})


@pytest.mark.parametrize("alias", ["a/b", "a:b", "", 5])
def test_a_wrong_alias_is_named(start: Start, data: Path, alias: Any) -> None:
    """An alias that W&B refuses is refused before a file is copied."""
    run = start()
    with pytest.raises(UsageError, match="alias"):
        run.log_artifact(data, "digits", "dataset", aliases=[alias])
    assert not (Path(run.dir or "") / "blobs").exists()


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a\\b", "..", "a\udce9"])
def test_a_path_stays_within_the_artifact(data: Path, name: str) -> None:
    """A name that would lead out of the artifact's directory, or is no text, is refused."""
    artifact = Artifact("n", type="t")
    with pytest.raises(UsageError, match="artifact 'n'"):
        artifact.add_file(data / "a.txt", name=name)
    assert artifact.files == {}


def test_paths_that_are_not_there_are_named(start: Start, data: Path) -> None:
    """The message says which path, and what it is not."""
    artifact = Artifact("n", type="t")
    with pytest.raises(UsageError, match=r"missing is not a file"):
        artifact.add_file(data / "missing")
    with pytest.raises(UsageError, match=r"a\.txt is not a directory"):
        artifact.add_dir(data / "a.txt")
    run = start()
    with pytest.raises(UsageError, match="missing is not a file"):
        run.log_artifact(data / "missing")
    with pytest.raises(UsageError, match=r"received 5; expected a wandbkeras\.Artifact or a path"):
        run.log_artifact(5)  # type: ignore[arg-type]


def test_two_files_never_share_a_name(data: Path) -> None:
    """The second is refused; the same file again is not a second one."""
    artifact = Artifact("n", type="t")
    artifact.add_file(data / "a.txt")
    artifact.add_file(data / "a.txt")
    with pytest.raises(UsageError, match=r"two files under the name 'a\.txt'"):
        artifact.add_file(data / "sub" / "b.bin", name="a.txt")


def test_a_file_name_that_is_no_text_is_refused(start: Start, tmp_path: Path) -> None:
    """A directory with a file whose name no manifest can hold gives one line, not a traceback."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    with pytest.raises(UsageError, match="not valid Unicode"):
        start().log_artifact(tmp_path / "odd", "n", "t")
