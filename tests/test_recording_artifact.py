"""Artifacts: files of a run under a name, a type and aliases."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

import wandbkeras
from tests.disks import InterruptedDisk
from wandbkeras import Artifact
from wandbkeras.errors import UsageError
from wandbkeras.recording.artifact import artifact_name
from wandbkeras.recording.attempt import Begun
from wandbkeras.recording.recorder import Run
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import CLIENT_FILES, ArtifactVersion, RunInfo
from wandbkeras.store.writer import RunWriter

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


def _blobs(run: StoredRun) -> set[str]:
    return {path.name for path in run.layout.blobs.rglob("*") if path.is_file()}


def test_a_model_is_an_artifact_of_its_type(start: Start, stored: Stored, data: Path) -> None:
    """Its name is that of any path, or the one given, and the aliases are added."""
    run = start(id="k3j9x2ab")
    run.log_model(data / "a.txt")
    wandbkeras.log_model(data, "net", ["prod"])
    first, second = stored(run).artifacts
    assert (first.name, first.type, first.aliases) == ("run-k3j9x2ab-a.txt", "model", ("latest",))
    assert (second.name, second.type, second.aliases) == ("net", "model", ("latest", "prod"))
    assert len(second.files) == 3


def test_a_file_given_away_is_moved(start: Start, stored: Stored, data: Path) -> None:
    """The artifact has it, and it is no longer where it was; others are where they were."""
    run = start()
    artifact = Artifact("n", type="t")
    artifact.add_file(data / "a.txt", adopt=True)
    artifact.add_file(data / "sub" / "b.bin")
    run.log_artifact(artifact)
    (version,) = stored(run).artifacts
    assert _content(stored(run), version) == {"a.txt": b"a", "b.bin": bytes(1000)}
    assert [(data / "a.txt").exists(), (data / "sub" / "b.bin").exists()] == [False, True]


# What is referred to, the name given, and if it is hashed.
URIS = [
    ("s3://bucket/a/key", None, False),
    ("s3://bucket/a/key", "renamed/key", False),
    ("s3://bucket", None, False),
    ("gs://bucket/a/key", None, False),
    ("https://host/path/file.bin", None, False),
    ("http://host/path/file.bin?x=1", None, False),
    ("https://account.blob.core.windows.net/container/a/key", None, False),
    ("hdfs://name/path", "data", True),
    ("file://{data}/a.txt", None, True),
    ("file://{data}/a.txt", "x/y", True),
    ("file://{data}/a.txt", None, False),
    ("file://{data}/sub", None, True),
    ("file://{data}/sub", "below", True),
    ("file://{data}/sub/", "below", False),
]


@pytest.mark.parametrize(("uri", "name", "checksum"), URIS)
def test_references_have_wandbs_names_and_digests(
    data: Path, uri: str, name: str | None, checksum: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that wandb says of a reference without asking a bucket or a server is the same."""
    # wandb makes its clients of buckets even when it asks them nothing.
    handlers = wandb.sdk.artifacts.storage_handlers
    for handler in (handlers.s3_handler.S3Handler, handlers.gcs_handler.GCSHandler):
        for method in ("init_boto", "init_gcs"):
            if hasattr(handler, method):
                monkeypatch.setattr(handler, method, lambda self: setattr(self, "_s3", self))
    uri = uri.format(data=data)
    theirs = wandb.Artifact("n", type="t")
    theirs.add_reference(uri, name=name, checksum=checksum)
    ours = Artifact("n", type="t")
    ours.add_reference(uri, name=name, checksum=checksum)
    found = {path: (e.ref, e.digest, e.size) for path, e in theirs.manifest.entries.items()}
    assert {path: (r.ref, r.digest, r.size) for path, r in ours.references.items()} == found
    assert found


def test_references_are_recorded(start: Start, stored: Stored, data: Path) -> None:
    """The artifact has them beside its files, and nothing of what they point to."""
    artifact = Artifact("set", type="dataset")
    artifact.add_file(data / "a.txt")
    artifact.add_reference("s3://bucket/large.bin")
    artifact.add_reference(f"file://{data}/sub")
    artifact.add_reference(f"file://{data}/sub")  # again is once
    run = start()
    run.log_artifact(artifact)
    run.log_artifact("s3://bucket/model.keras", type="model")
    version, whole = stored(run).artifacts
    assert list(version.files) == ["a.txt"]
    assert sorted(version.references) == ["b.bin", "deep/copy of b", "large.bin"]
    reference = version.references["b.bin"]
    md5 = base64.b64encode(hashlib.md5(bytes(1000)).digest()).decode()
    assert (reference.ref, reference.digest) == (f"file://{data}/sub/b.bin", md5)
    assert (reference.size, version.references["large.bin"].size) == (1000, None)
    assert _blobs(stored(run)) == {hashlib.sha256(b"a").hexdigest()}
    assert (whole.name, whole.type) == (f"run-{run.id}-model.keras", "model")
    assert [r.ref for r in whole.references.values()] == ["s3://bucket/model.keras"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("bucket/key", "expected a URI such as s3://bucket/key"),
        ("wandb-artifact://abc/file", "expected a URI such as"),
        ("hdfs://name/path", "it has no name of its own: pass name="),
        ("file:///nowhere/at/all", "/nowhere/at/all is neither a file nor a directory"),
        ("s3://bucket/../key", "not a relative path"),
        (5, "received 5; expected a URI"),
    ],
)
def test_a_wrong_reference_is_named(uri: Any, message: str) -> None:
    """The message says what is missing, and nothing is added."""
    artifact = Artifact("n", type="t")
    with pytest.raises(UsageError, match=message):
        artifact.add_reference(uri)
    assert artifact.references == {}


def test_files_and_references_share_no_name(data: Path) -> None:
    """The second of a name is refused, whichever it is."""
    artifact = Artifact("n", type="t")
    artifact.add_file(data / "a.txt", name="x")
    with pytest.raises(UsageError, match="two files under the name 'x'"):
        artifact.add_reference("s3://bucket/x")
    artifact.add_reference("s3://bucket/y")
    with pytest.raises(UsageError, match="two files under the name 'y'"):
        artifact.add_file(data / "a.txt", name="y")
    with pytest.raises(UsageError, match="two files under the name 'y'"):
        artifact.add_reference("s3://other/y")


def _saved(run: StoredRun) -> dict[str, bytes]:
    return {name: run.blob(file.sha256).read_bytes() for name, file in run.files.items()}


def test_files_are_saved_with_the_run(
    start: Start, stored: Stored, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names are those of wandb: below the working directory, the base, or one level up."""
    monkeypatch.chdir(data)
    run = start()
    assert run.save("sub/*") == ["sub/b.bin"]
    assert wandbkeras.save("sub/*", base_path="sub") == ["b.bin"]
    assert run.save(data / "a.txt") == ["data/a.txt"]
    assert run.save(data / "sub" / "*" / "copy*", base_path=data.parent) == [
        "data/sub/deep/copy of b"
    ]
    zeros = bytes(1000)
    saved = {"sub/b.bin": zeros, "b.bin": zeros, "data/a.txt": b"a"}
    assert _saved(stored(run)) == {**saved, "data/sub/deep/copy of b": zeros}
    run.finish()
    assert _saved(stored(run)) == {**saved, "data/sub/deep/copy of b": zeros}


def test_a_pattern_can_be_a_name(
    start: Start, stored: Stored, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file whose name is a pattern is found with ``glob=False``; what matches nothing is said."""
    (tmp_path / "w[1].txt").write_bytes(b"x")
    run = start()
    assert run.save(tmp_path / "w[1].txt", tmp_path) == []
    assert "save: no file matches" in capfd.readouterr().err
    assert run.save(tmp_path / "w[1].txt", tmp_path, glob=False) == ["w[1].txt"]
    assert _saved(stored(run)) == {"w[1].txt": b"x"}


def test_the_policy_says_when_a_file_is_kept(start: Start, stored: Stored, tmp_path: Path) -> None:
    """``now`` keeps it as it is, ``end`` as it ends, ``live`` both; one version stays."""
    run = start()
    for policy in ("now", "end", "live"):
        (tmp_path / policy).write_bytes(b"before")
        run.save(tmp_path / policy, tmp_path, policy)
    assert _saved(stored(run)) == {"now": b"before", "live": b"before"}
    for policy in ("now", "end", "live"):
        (tmp_path / policy).write_bytes(b"afterwards")
    run.finish()
    found = stored(run)
    assert _saved(found) == {"now": b"before", "end": b"afterwards", "live": b"afterwards"}


def test_a_file_saved_again_replaces_the_one_before(
    start: Start, stored: Stored, tmp_path: Path
) -> None:
    """Its old bytes go, unless something else needs them; unchanged, it is not read again."""
    run = start()
    log = tmp_path / "log.txt"
    for content in (b"one", b"two", b"two", b"three"):
        log.write_bytes(content)
        run.save(log, tmp_path, "now")
        run.save(log, tmp_path, "now")
        if content == b"one":
            run.log_artifact(log, "log", "text")
    assert [e.body["path"] for e in stored(run).events() if e.type == "file"] == ["log.txt"] * 3
    assert _saved(stored(run)) == {"log.txt": b"three"}
    assert _blobs(stored(run)) == {hashlib.sha256(x).hexdigest() for x in (b"one", b"three")}


def test_a_file_that_is_gone_at_the_end_is_said(
    start: Start, stored: Stored, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run ends as it would have, with what was kept before, and counts the failure."""
    run = start()
    (tmp_path / "a").write_bytes(b"a")
    run.save(tmp_path / "a", tmp_path)
    (tmp_path / "a").unlink()
    run.finish()
    assert (stored(run).state, stored(run).folded.failures) == ("finished", 1)
    assert _saved(stored(run)) == {"a": b"a"}
    assert "save: " in capfd.readouterr().err


def test_files_go_on_with_a_resumed_run(start: Start, stored: Stored, tmp_path: Path) -> None:
    """What an earlier attempt saved stays, and a later one may replace it."""
    for content in (b"first", b"second"):
        run = start(id="k3j9x2ab", resume="allow")
        (tmp_path / "both").write_bytes(content)
        (tmp_path / content.decode()).write_bytes(b"own")
        run.save(tmp_path / "both", tmp_path)
        run.save(tmp_path / content.decode(), tmp_path)
        run.finish()
    assert _saved(stored(run)) == {"both": b"second", "first": b"own", "second": b"own"}
    assert hashlib.sha256(b"first").hexdigest() not in _blobs(stored(run))


@pytest.mark.parametrize("name", [*sorted(CLIENT_FILES), "Config.YAML", "output.log/x"])
def test_the_names_of_wandbs_own_files_are_refused(start: Start, tmp_path: Path, name: str) -> None:
    """W&B's client would write over them, or through them into the run; below a directory it
    would not."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"mine")
    run = start()
    with pytest.raises(UsageError, match="pass a base_path"):
        run.save(path, tmp_path)
    assert run.save(path, tmp_path.parent) == [f"{tmp_path.name}/{name}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("s3://bucket/key",), "is a URI: add it to an artifact with add_reference"),
        (("/etc/*", "/usr"), "is not below the base path '/usr'"),
        (("/etc", "/etc"), "is not below the base path '/etc'"),
        (("../*",), "is not below the base path"),
        (("*", None, "later"), "received policy 'later'; expected live, now or end"),
    ],
)
def test_a_wrong_argument_of_save_is_named(
    start: Start, arguments: tuple[Any, ...], message: str
) -> None:
    """Nothing is saved."""
    run = start()
    with pytest.raises(UsageError, match=message):
        run.save(*arguments)


def test_a_disabled_run_saves_no_file(start: Start, store: Path, data: Path) -> None:
    """It says the names, and touches no disk."""
    run = start(mode="disabled")
    assert run.save(data / "a.txt") == ["data/a.txt"]
    run.log_model(data / "a.txt")
    assert run.artifact_versions("any") == {}
    run.drop_versions(["any"])
    run.finish()
    assert not store.exists()


def test_a_dropped_version_is_gone_and_its_record_stays(
    start: Start, stored: Stored, tmp_path: Path
) -> None:
    """It is no version of the run any more; contents that others need stay."""
    run = start()
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "own").write_bytes(b"%d" % number)
        (folder / "shared").write_bytes(b"shared")
        run.log_artifact(folder, "model", "model", aliases=[f"v{number}"])
    (tmp_path / "0" / "own").rename(tmp_path / "kept")
    run.save(tmp_path / "kept", tmp_path)
    first, second, third = run.artifact_versions("model")
    run.drop_versions([first, second])
    assert list(run.artifact_versions("model")) == [third]
    run.finish()
    found = stored(run)
    assert [version.aliases for version in found.artifacts] == [("latest", "v2")]
    assert [version.aliases[1] for version in found.dropped_artifacts] == ["v0", "v1"]
    names = sorted(path.name for path in found.layout.artifacts.iterdir())
    assert names == [first, second, third]
    assert _blobs(found) == {hashlib.sha256(x).hexdigest() for x in (b"0", b"2", b"shared")}
    with pytest.raises(UsageError, match="is no version of this run"):
        start(id=run.id, resume="must").drop_versions([first])


def test_blobs_stay_while_another_writer_may_need_them(
    start: Start, stored: Stored, tmp_path: Path
) -> None:
    """It may be about to log the same content: the version goes, its files are left over."""
    run = start()
    (tmp_path / "f").write_bytes(b"x")
    run.log_artifact(tmp_path / "f", "model", "model")
    beside = RunWriter(Layout(Path(run.dir or "")), describe_process(), attempt=0)
    run.drop_versions(run.artifact_versions("model"))
    beside.close(0, 0.0)
    run.finish()
    assert (stored(run).artifacts, len(_blobs(stored(run)))) == ([], 1)


def test_dropping_may_be_interrupted_at_every_step(layout: Layout, tmp_path: Path) -> None:
    """The run has the version with all its files, or does not have it."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(name.encode())
        (tmp_path / name / "g").write_bytes(name.encode() * 2)
    found = []
    for steps in range(1000):
        root = tmp_path / f"run-{steps}"
        root.mkdir()
        (root / "run.json").write_bytes(layout.info.read_bytes())
        disk = InterruptedDisk()
        writer = RunWriter(Layout(root), {**describe_process(), "from_step": 0}, disk=disk)
        run = Run(Begun(RunInfo("k3j9x2ab", 0.0), writer))
        run.log_artifact(tmp_path / "old", "model", "model")
        disk.steps = disk.done + steps
        run.log_artifact(tmp_path / "new", "model", "model")
        run.drop_versions(list(run.artifact_versions("model"))[:1])
        finished = disk.done < disk.steps
        writer.abandon()
        stored = StoredRun(root)
        contents = [_content(stored, version) for version in stored.artifacts]
        found.append([content["f"] for content in contents])
        assert [c["g"] for c in contents] == [c["f"] * 2 for c in contents]
        if finished:
            break
    assert found[0] == [b"old"]
    assert found[-1] == [b"new"]
    assert [b"old", b"new"] in found


def test_a_reference_in_a_manifest_is_read_as_it_was_written(
    start: Start, stored: Stored, data: Path
) -> None:
    """The manifest has them in a member of their own, as its specification says."""
    run = start()
    run.log_artifact("s3://bucket/key", "n", "t")
    (path,) = stored(run).layout.artifacts.iterdir()
    assert json.loads(path.read_text())["references"] == {
        "key": {"ref": "s3://bucket/key", "digest": "s3://bucket/key", "size": None}
    }
