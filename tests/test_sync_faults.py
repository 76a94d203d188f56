"""A server that refuses, loses, stalls or dies: never verified without proof, made good later."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.server.process import LoopbackServer
from tests.syncing import COMMAND, connect, held, receipts, sync, sync_one, until
from wandbkeras import Artifact, Run
from wandbkeras.errors import (
    DeletedError,
    LockedError,
    NotVerifiedError,
    RefusedError,
    UnreachableError,
)
from wandbkeras.sync import engine
from wandbkeras.sync.options import Options, Result

ROWS = 30
# For starting W&B's client and reading back once more, on a machine that does other things too.
SLACK_S = 20


@pytest.fixture
def finished(
    start: Callable[..., Run],
    wandb_server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A finished run with rows and two versions of an artifact; this process is a client."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    return record(start, tmp_path)


def record(start: Callable[..., Run], folder: Path, **arguments: Any) -> Path:
    run = start(**{"project": "digits", "id": "k3j9x2ab", "config": {"lr": 0.1}, **arguments})
    for i in range(ROWS):
        run.log({"loss": 1.0 / (i + 1)})
    for version in range(2):
        (folder / "data.txt").write_text(f"version {version}")
        artifact = Artifact("data", "dataset")
        artifact.add_file(folder / "data.txt")
        run.log_artifact(artifact, aliases=[f"try{version}"])
    run.finish()
    return Path(run.dir or "")


def assert_all_is_there(server: LoopbackServer) -> None:
    found = held(server, "k3j9x2ab")
    assert [row["loss"] for row in found.rows] == [1.0 / (i + 1) for i in range(ROWS)]
    assert [(a.aliases, a.files) for a in found.logged_artifacts[-2:]] == [
        (("try0",), {"data.txt": b"version 0"}),
        (("latest", "try1"), {"data.txt": b"version 1"}),
    ]
    assert (found.state, found.config_values) == ("finished", {"lr": 0.1})


def assert_all_is_there_once(server: LoopbackServer) -> None:
    assert_all_is_there(server)
    assert [a.version for a in held(server, "k3j9x2ab").logged_artifacts] == [0, 1]


def sync_and_meanwhile(path: Path, action: Callable[[], object], *, timeout_s: float) -> Result:
    """Sync a run; do something when all has been asked and W&B's client is about to start."""

    def progress(text: str) -> None:
        if "uploading" in text:
            action()

    options = Options(timeout_s=timeout_s, settle_s=0)
    (result,) = engine.sync([path], options, progress=progress)
    return result


# What is refused for good, how long sync may take, and what it says.
REFUSED = {
    "metrics, 500": ({"kind": "file_stream", "status": 500}, 3, "did not end in time"),
    "metrics, 403": ({"kind": "file_stream", "status": 403}, 90, "HTTP 403 from .*/file_stream"),
    "files, 403": (
        {"kind": "upload", "status": 403},
        90,
        r"artifact data \(latest, try0\) is missing.*HTTP 403 from .*/storage/upload/",
    ),
    "artifacts, 400": (
        {"operation": "CreateArtifact", "status": 400},
        90,
        r"artifact data \(latest, try1\) is missing.*HTTP 400 from .*/graphql",
    ),
    "commits, 500": ({"operation": "CommitArtifact", "status": 500}, 3, "did not end in time"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_not_verified_and_completed_later(
    name: str, finished: Path, wandb_server: LoopbackServer
) -> None:
    """The message says what is missing and why, without waiting for what can't come; once the
    fault is gone, the rest arrives, once."""
    fault, timeout_s, text = REFUSED[name]
    wandb_server.add_fault("status", **fault)
    started = time.monotonic()
    refused = sync_one(finished, timeout_s=timeout_s)
    assert time.monotonic() - started < 3 + SLACK_S
    assert isinstance(refused.error, NotVerifiedError)
    assert (refused.outcome, refused.exit_code, refused.receipt) == ("failed", 6, None)
    assert re.search(text, str(refused.error))
    assert receipts(finished) == []

    wandb_server.clear_faults()
    assert sync_one(finished).error is None
    assert_all_is_there_once(wandb_server)


@pytest.mark.parametrize("wait", ["1", "600"])
def test_a_server_that_puts_everybody_off_is_named_in_time(
    wait: str, finished: Path, wandb_server: LoopbackServer
) -> None:
    """Whether it does so from the first question on, or once metrics are being sent."""
    busy = {"status": 429, "headers": {"Retry-After": wait}}
    started = time.monotonic()
    wandb_server.add_fault("status", **busy)
    first = sync_one(finished, timeout_s=3)
    wandb_server.clear_faults()
    sending = partial(wandb_server.add_fault, "status", kind="file_stream", **busy)
    second = sync_and_meanwhile(finished, sending, timeout_s=3)
    for result in (first, second):
        assert result.error is not None
        assert result.error.retryable
        assert "HTTP 429" in str(result.error)
    assert time.monotonic() - started < 2 * (3 + SLACK_S)
    wandb_server.clear_faults()
    assert sync_one(finished).error is None
    assert_all_is_there_once(wandb_server)


def test_refused_metrics_are_not_verified_and_completed_later(
    finished: Path, wandb_server: LoopbackServer
) -> None:
    """The client gives them up at once, says that it finished, and sync does not believe it."""
    for status in (400, 403, 413):
        wandb_server.clear_faults()
        wandb_server.add_fault("status", kind="file_stream", status=status)
        refused = sync_one(finished)
        assert isinstance(refused.error, NotVerifiedError)
        assert "rows: expected 30, found 0" in str(refused.error)
    wandb_server.clear_faults()
    assert sync_one(finished).rows_sent == ROWS
    assert_all_is_there_once(wandb_server)


@pytest.mark.parametrize("fault", [{"action": "status", "status": 400}, {"action": "cut"}])
def test_what_came_last_is_the_latest(
    fault: dict[str, Any], finished: Path, wandb_server: LoopbackServer
) -> None:
    """A version refused, or answered in half and given up, while a later one was not takes the
    later one along when it is sent."""
    wandb_server.add_fault(**fault, operation="CreateArtifact", times=1)
    refused = sync_one(finished, timeout_s=3)
    assert "artifact data (latest, try0) is missing" in str(refused.error)
    assert sync_one(finished).error is None
    found = wandb_server.artifacts("loopback", "digits", "data")
    assert [(a.aliases, a.files["data.txt"]) for a in found] == [
        ((), b"version 1"), (("try0",), b"version 0"), (("latest", "try1"), b"version 1"),
    ]  # fmt: skip


@pytest.mark.parametrize("status", [403, 404])
def test_a_run_that_may_not_be_made_is_refused(
    status: int, finished: Path, wandb_server: LoopbackServer
) -> None:
    """Trying again changes nothing, and the exit code says so."""
    wandb_server.add_fault("status", operation="UpsertBucket", status=status)
    refused = sync_one(finished)
    assert isinstance(refused.error, RefusedError)
    assert "injected fault" in str(refused.error)
    assert refused.exit_code == 9


PASSING = {
    "metrics cut off": ("close", {"kind": "file_stream", "times": 1}),
    "metrics not acknowledged": ("lose", {"kind": "file_stream", "times": 1}),
    "too many requests": (
        "status",
        {"kind": "file_stream", "status": 429, "headers": {"Retry-After": "1"}, "times": 1},
    ),
    "metrics answered in half": ("cut", {"kind": "file_stream", "times": 1}),
    "slow": ("delay", {"kind": "file_stream", "seconds": 2.0}),
    "commit not acknowledged": ("lose", {"operation": "CommitArtifact", "times": 1}),
    "question failed": ("status", {"operation": "Run", "status": 503, "times": 1}),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_is_got_over(
    name: str, finished: Path, wandb_server: LoopbackServer
) -> None:
    """One failed or unanswered request loses nothing and doubles nothing."""
    action, match = PASSING[name]
    wandb_server.add_fault(action, **match)  # type: ignore[arg-type]
    assert sync_one(finished).error is None
    assert_all_is_there_once(wandb_server)


def test_a_run_whose_making_is_not_acknowledged_is_completed_by_the_next_sync(
    finished: Path, wandb_server: LoopbackServer
) -> None:
    """Asked again, the server says that the run is there, and can't say whose it is."""
    wandb_server.add_fault("lose", operation="UpsertBucket", times=1)
    result = sync_one(finished)
    assert isinstance(result.error, LockedError)
    assert "the answer to this one was lost" in str(result.error)
    assert (result.exit_code, result.error.retryable, receipts(finished)) == (11, True, [])
    assert sync_one(finished).rows_sent == ROWS
    assert_all_is_there_once(wandb_server)


@pytest.mark.parametrize("operation", ["UpsertBucket", "CommitArtifact"])
def test_an_answer_that_is_cut_off_costs_a_second_sync_at_most(
    operation: str, finished: Path, wandb_server: LoopbackServer
) -> None:
    """The client may not ask again for what was answered in half; nothing is doubled."""
    wandb_server.add_fault("cut", operation=operation, times=1)
    result = sync_one(finished, timeout_s=5)
    assert result.error is None or result.error.retryable
    assert (result.outcome == "verified") == (len(receipts(finished)) == 1)
    assert sync_one(finished, settle_s=1.0).error is None
    assert_all_is_there_once(wandb_server)


def test_an_outage_ends_in_time_and_the_next_sync_completes_it(
    finished: Path, wandb_server: LoopbackServer
) -> None:
    """The server goes in the middle of the upload and stays away: said within the timeout."""
    began = time.monotonic()
    result = sync_and_meanwhile(finished, wandb_server.kill, timeout_s=4)
    assert time.monotonic() - began < 40
    assert isinstance(result.error, UnreachableError)
    assert (result.exit_code, result.error.retryable, receipts(finished)) == (7, True, [])
    wandb_server.start()
    assert sync_one(finished).error is None
    assert_all_is_there_once(wandb_server)


def test_a_run_deleted_under_a_sync_is_said(finished: Path, wandb_server: LoopbackServer) -> None:
    """Within the timeout that it isn't there, and by the next sync why."""

    def delete() -> None:
        wandb.Api().run("loopback/digits/k3j9x2ab").delete()

    result = sync_and_meanwhile(finished, delete, timeout_s=4)
    assert "the run is not there" in str(result.error)
    assert (result.exit_code, receipts(finished)) == (6, [])
    assert isinstance(sync_one(finished).error, DeletedError)
    assert sync_one(finished, on_deleted="recreate").error is None
    assert len(held(wandb_server, "k3j9x2ab-2").rows) == ROWS


def test_what_can_not_be_read_back_is_not_verified(
    finished: Path, wandb_server: LoopbackServer
) -> None:
    """All was sent, but a server that does not answer proves nothing; asked again, it does."""

    def fail() -> None:
        wandb_server.add_fault("status", operation="RunOutputArtifacts", status=500)

    failed = sync_and_meanwhile(finished, fail, timeout_s=4)
    assert isinstance(failed.error, UnreachableError)
    assert receipts(finished) == []

    wandb_server.clear_faults()
    assert sync_one(finished).rows_sent == 0
    assert_all_is_there_once(wandb_server)


def test_reading_back_goes_on_until_the_server_answers(
    finished: Path, wandb_server: LoopbackServer
) -> None:
    """A server that fails for longer than one question takes is asked again."""

    def fail() -> None:
        wandb_server.add_fault("status", operation="RunOutputArtifacts", status=503, times=4)

    assert sync_and_meanwhile(finished, fail, timeout_s=30).error is None
    assert_all_is_there_once(wandb_server)


def test_an_upload_out_of_time_is_over(finished: Path, wandb_server: LoopbackServer) -> None:
    """What could not be sent in time is not sent behind the user's back later."""
    wandb_server.add_fault("status", kind="file_stream", status=500)
    began = time.monotonic()
    assert sync_one(finished, timeout_s=3).error is not None
    assert time.monotonic() - began < 13
    wandb_server.clear_faults()
    before = len(wandb_server.requests())
    # Long enough for the client's next try, had it gone on.
    with pytest.raises(TimeoutError):
        until(lambda: len(wandb_server.requests()) > before, seconds=4)
    assert held(wandb_server, "k3j9x2ab").history == ()


def test_one_refused_run_does_not_hold_up_the_others(
    finished: Path, start: Callable[..., Run], wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """The metrics of one run are refused; the runs before and after it arrive."""
    others = [record(start, tmp_path, id=name, project=name) for name in ("one", "two")]
    wandb_server.add_fault("status", path="*/k3j9x2ab/file_stream", status=403)
    results = sync(others[0], finished, others[1])
    assert [result.outcome for result in results] == ["verified", "failed", "verified"]
    for name in ("one", "two"):
        assert len(held(wandb_server, name, project=name).rows) == ROWS


@pytest.mark.parametrize("operation", ["UpsertBucket", "CreateArtifact"])
def test_a_server_killed_under_a_sync_ends_with_everything(
    operation: str, finished: Path, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """SIGKILL and a restart in the middle: whatever that sync says, the next completes it."""
    syncing = subprocess.Popen(
        [COMMAND, "sync", finished, "--timeout", "20"],
        env=wandb_server.environ(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: operation in [request.operation for request in wandb_server.requests()])
    wandb_server.kill()
    wandb_server.restart()
    _, said = syncing.communicate()
    assert syncing.returncode in (0, 6, 7), said
    if syncing.returncode == 0:
        assert_all_is_there(wandb_server)
    assert sync_one(finished).error is None
    assert_all_is_there(wandb_server)
