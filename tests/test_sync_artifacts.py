"""References, files of the run and dropped versions arrive, or sync says that they did not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import wandb

from tests.server.process import LoopbackServer
from tests.syncing import PROJECT, connect, held, sync_one, tree
from wandbkeras import Artifact, Run
from wandbkeras.errors import DamagedError, NotVerifiedError
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.writer import RunWriter
from wandbkeras.sync.compare import differences
from wandbkeras.sync.content import Content
from wandbkeras.sync.readback import Server
from wandbkeras.sync.remote import RemoteFile

Start = Callable[..., Run]

FILES = {"notes.txt": b"two\nlines", "sub dir/é [1].bin": bytes(range(256)) * 500, "empty": b""}


@pytest.fixture(autouse=True)
def _connected(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(wandb_server, tmp_path / "home", monkeypatch)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with the files that are saved."""
    for name, content in FILES.items():
        path = tmp_path / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "work"


def _begun(start: Start) -> Run:
    run = start(project=PROJECT)
    run.log({"loss": 1.0})
    return run


def _log(run: Run, path: Path, content: bytes, alias: str) -> None:
    path.write_bytes(content)
    artifact = Artifact("model", "model")
    artifact.add_file(path, "model.keras")
    run.log_artifact(artifact, aliases=[alias])


def test_references_arrive_as_wandb_would_have_sent_them(
    start: Start, work: Path, wandb_server: LoopbackServer
) -> None:
    """The manifest there has files and references with wandb's digests; nothing of theirs is
    uploaded."""
    run = _begun(start)
    ours, theirs = Artifact("set", "dataset"), wandb.Artifact("set", "dataset")
    for artifact in (ours, theirs):
        artifact.add_file(str(work / "notes.txt"))
        artifact.add_reference((work / "empty").as_uri(), "local")
        artifact.add_reference("https://host/large.bin", checksum=False)
        artifact.add_reference("hdfs://name/path", "elsewhere")
    ours.add_reference("s3://bucket/a/key")
    run.log_artifact(ours)
    run.finish()
    result = sync_one(run.dir)
    assert (result.error, result.artifacts_sent) == (None, 1)
    (version,) = held(wandb_server, run.id).logged_artifacts
    assert version.state == "COMMITTED"
    assert version.files == {"notes.txt": FILES["notes.txt"]}
    contents = dict(version.manifest["contents"]) if version.manifest else {}
    bucket = contents.pop("a/key")
    assert (bucket["ref"], bucket["digest"]) == ("s3://bucket/a/key", "s3://bucket/a/key")
    assert {path: (e["digest"], e.get("ref")) for path, e in contents.items()} == {
        path: (e.digest, e.ref) for path, e in theirs.manifest.entries.items()
    }
    assert sync_one(run.dir).outcome == "unchanged"


def test_a_reference_that_leads_elsewhere_is_a_difference(start: Start, work: Path) -> None:
    """A digest says nothing of where the content lies."""
    run = _begun(start)
    artifact = Artifact("set", "dataset")
    artifact.add_reference((work / "notes.txt").as_uri())
    run.log_artifact(artifact)
    run.finish()
    assert sync_one(run.dir).error is None
    content = Content(StoredRun(run.dir or ""))
    remote = Server().find("loopback", PROJECT, run.id)
    assert remote is not None
    (version,) = remote.artifacts
    moved = replace(version, references={"notes.txt": "file:///elsewhere"})
    assert differences(content, remote) == []
    (text,) = differences(content, replace(remote, artifacts=(moved,)))
    assert "references: expected" in text


def test_saved_files_arrive(start: Start, work: Path, wandb_server: LoopbackServer) -> None:
    """Byte for byte, under their names, without a copy on the way, and are counted."""
    run = _begun(start)
    run.save(work / "*", work)
    run.save(work / "sub dir" / "*", work)
    run.finish()
    before = tree(Path(run.dir or ""))
    result = sync_one(run.dir)
    assert (result.error, result.files_sent) == (None, 3)
    assert result.receipt is not None
    assert result.receipt.files == 3
    found = held(wandb_server, run.id)
    assert {name: found.files[name] for name in FILES} == FILES
    after = tree(Path(run.dir or ""))
    assert {name: after[name] for name in before if not name.startswith("sync")} == before
    assert sync_one(run.dir).outcome == "unchanged"


def test_a_file_that_changed_is_sent_again(
    start: Start, work: Path, wandb_server: LoopbackServer
) -> None:
    """Of a running run what is new; the others are not sent twice."""
    run = _begun(start)
    run.save(work / "*", work)
    first = sync_one(run.dir)
    (work / "notes.txt").write_bytes(b"three\nnew\nlines")
    run.log({"loss": 0.5})
    run.finish()
    second = sync_one(run.dir)
    assert (first.error, second.error) == (None, None)
    assert (first.files_sent, second.files_sent) == (2, 1)
    found = held(wandb_server, run.id).files
    assert (found["notes.txt"], found["empty"]) == (b"three\nnew\nlines", b"")


def test_a_file_that_is_refused_is_not_verified(
    start: Start, work: Path, wandb_server: LoopbackServer
) -> None:
    """The client says nothing of it; sync does, and the next one brings it."""
    run = _begun(start)
    run.save(work / "notes.txt", work)
    run.finish()
    wandb_server.add_fault("status", operation="CreateRunFiles", status=403)
    result = sync_one(run.dir, timeout_s=5.0)
    assert isinstance(result.error, NotVerifiedError)
    assert "file 'notes.txt' is missing" in str(result.error)
    assert result.receipt is None
    wandb_server.restart()  # which forgets the fault
    assert sync_one(run.dir).files_sent == 1
    assert held(wandb_server, run.id).files["notes.txt"] == FILES["notes.txt"]


@pytest.mark.parametrize(
    ("there", "difference"),
    [
        (None, "file 'notes.txt' is missing"),
        (RemoteFile(8, hashlib.md5(FILES["notes.txt"]).hexdigest()), "found 8 with"),
        (RemoteFile(9, "0" * 32), f"found 9 with {'0' * 32}"),
        (RemoteFile(9, None), "found 9 with none"),
    ],
)
def test_each_difference_of_a_file_is_named(
    start: Start, work: Path, there: RemoteFile | None, difference: str
) -> None:
    """Its name, size and MD5 are compared, and a server that tells none proves nothing."""
    run = _begun(start)
    run.save(work / "notes.txt", work)
    run.finish()
    assert sync_one(run.dir).error is None
    content = Content(StoredRun(run.dir or ""))
    remote = Server().find("loopback", PROJECT, run.id, content.files)
    assert remote is not None
    assert differences(content, remote) == []
    changed = replace(remote, files={} if there is None else {"notes.txt": there})
    (text,) = differences(content, changed)
    assert difference in text


def test_dropped_versions_are_not_sent(
    start: Start, tmp_path: Path, wandb_server: LoopbackServer
) -> None:
    """The server gets those that are kept, and the run is verified without the others."""
    run = _begun(start)
    for number in range(3):
        _log(run, tmp_path / "f", b"%d" % number, f"n{number}")
    run.drop_versions(list(run.artifact_versions("model"))[:2])
    run.finish()
    result = sync_one(run.dir)
    assert (result.error, result.artifacts_sent) == (None, 1)
    (version,) = held(wandb_server, run.id).logged_artifacts
    assert version.files == {"model.keras": b"2"}
    assert set(version.aliases) == {"latest", "n2"}


# Which of the versions are kept after each has been logged.
@pytest.mark.parametrize("kept", [["0", "1", "2"], ["0", "01", "02"]])
def test_versions_dropped_after_they_arrived_do_no_harm(
    start: Start, tmp_path: Path, wandb_server: LoopbackServer, kept: list[str]
) -> None:
    """A running run is synced as its models come and go: each arrives once."""
    run = _begun(start)
    sent = []
    for number, names in enumerate(kept):
        _log(run, tmp_path / "f", b"%d" % number, f"n{number}")
        versions = run.artifact_versions("model")
        run.drop_versions(key for key, v in versions.items() if v.aliases[1][1:] not in names)
        assert "".join(v.aliases[1][1:] for v in run.artifact_versions("model").values()) == names
        result = sync_one(run.dir)
        assert result.error is None
        sent.append(result.artifacts_sent)
    run.finish()
    assert sync_one(run.dir).error is None
    assert sent == [1, 1, 1]
    found = [v.files["model.keras"] for v in held(wandb_server, run.id).logged_artifacts]
    assert found == [b"0", b"1", b"2"]


@pytest.mark.parametrize("name", ["config.yaml", "Wandb-Metadata.JSON", "../x", "/etc/passwd"])
def test_a_strangers_file_can_not_take_the_place_of_wandbs_own(
    layout: Layout, name: str, wandb_server: LoopbackServer
) -> None:
    """The client would write through it: such a run is damaged, and nothing is sent."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0})
    file = writer.files.add(layout.info)
    writer.event("file", {"path": name, **asdict(file)})
    writer.close(0, 0.0)
    result = sync_one(layout.root)
    assert isinstance(result.error, DamagedError)
    assert not any(request.operation == "UpsertBucket" for request in wandb_server.requests())
