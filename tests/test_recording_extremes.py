"""What a reader would refuse is refused when it is recorded: no call makes a run unreadable."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wandbkeras
from wandbkeras import Artifact, Histogram, Run
from wandbkeras.errors import UsageError
from wandbkeras.store import document
from wandbkeras.store.checks import MAX_VALUE_DEPTH
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.verify import verify_run

Act = Callable[[Run], Any]


def nested(depth: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def in_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def counts(*values: Any) -> Histogram:
    return Histogram(np_histogram=(values, range(len(values) + 1)))


def logging(value: Any) -> Act:
    return lambda run: run.log({"a": value})


def configuring(value: Any) -> Act:
    return lambda run: run.config.update({"a": value})


def summing_up(value: Any) -> Act:
    return lambda run: run.summary.update({"a": value})


def an_artifact(**arguments: Any) -> Act:
    def log(run: Run) -> None:
        artifact = Artifact("model", "model", **arguments)
        artifact.add_file(__file__)
        run.log_artifact(artifact)

    return log


def of_metadata(value: Any) -> Act:
    return an_artifact(metadata={"a": value})


WAYS = (logging, configuring, summing_up, of_metadata)
TAKEN: dict[str, Act] = {
    **{
        f"{way.__name__}, {kind.__name__}": way(nested(MAX_VALUE_DEPTH, kind))
        for way in WAYS
        for kind in (list, dict)
    },
    **{f"at {t}": lambda run, t=t: run.log({"_timestamp": t}) for t in (9e14, -9e14, 0, -5)},  # type: ignore[misc]
    "the last step": lambda run: (run.log({"a": 1}, step=2**62 - 1, commit=True), run.log({})),
    "the largest integers": logging(np.array([2**63 - 1, -(2**63)])),
    "counts of 64 bits": logging(counts(np.uint64(2**64 - 1), np.uint64(1))),
    "counts that are bools": logging(counts(True, False)),
    "negative counts": logging(counts(-1.5)),
    "a failure that is no text": lambda run: run.record_failure("\udcff", "\udcff"),
    "metadata that is no text": of_metadata("\udcff"),
    **{
        f"a metric {name[:9]!r}": lambda run, name=name: (  # type: ignore[misc]
            run.define_metric(name, summary="min"),
            run.define_metric("y", step_metric=name, step_sync=True),
            run.log({name: 1}),
            run.log({"y": 0.5}),
        )
        for name in ("\0", "a\nb", "x" * 100_000, "_x", "*", "a*", "list.element", "é")
    },
}
REFUSED: dict[str, Act] = {
    **{
        f"{way.__name__}, {kind.__name__}": way(nested(MAX_VALUE_DEPTH + 1, kind))
        for way in WAYS
        for kind in (list, dict)
    },
    **{f"{way.__name__}, in itself": way(in_itself()) for way in WAYS},
    "a time in nanoseconds": lambda run: run.log({"a": 1, "_timestamp": 1_795_412_700_000_000_000}),
    "a step too far": lambda run: run.log({"a": 1}, step=2**62),
    "an array of larger integers": logging(np.array([2**64 - 1, 1], np.uint64)),
    "counts without a limit": lambda run: run.log({"a": counts(2**70, 1)}),
    "a record of 70 megabytes": logging("x" * 70_000_000),
    "a description that is no text": an_artifact(description="\udcff"),
}


def assert_readable(run: Run) -> None:
    """The run is read strictly, with all that is in it, and verified."""
    root = Path(run.dir or "")
    stored = StoredRun(root, strict=True)
    list(stored.rows())
    stored.events()
    stored.state_before(1)
    for version in stored.artifacts:
        assert version.files
    assert stored.folded.failures <= 1
    assert verify_run(root).damage == []


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_taken_is_read(start: Callable[..., Run], what: str) -> None:
    """While the run goes on, once it is sealed, and by an attempt that goes on from it."""
    run = start(id="k3j9x2ab")
    run.log({"loss": 0.5})
    TAKEN[what](run)
    assert_readable(run)
    run.finish()
    assert_readable(run)
    with start(id="k3j9x2ab", resume="must") as again:
        again.log({"loss": 0.25})
    assert_readable(again)


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_not_be_read_is_refused(start: Callable[..., Run], what: str) -> None:
    """With an error that is ours, and nothing of it is in the run."""
    run = start()
    run.log({"loss": 0.5})
    with pytest.raises(UsageError):
        REFUSED[what](run)
    run.log({"loss": 0.25})
    run.finish()
    assert_readable(run)
    assert StoredRun(run.dir or "").row_count == 2


@pytest.mark.parametrize("code", [2**31 - 1, 2**31, 2**40, -(2**31) - 1])
def test_any_exit_code_can_be_read(start: Callable[..., Run], code: int) -> None:
    """What has no room in 32 bits becomes the nearest that has."""
    run = start()
    run.finish(code)
    stored = StoredRun(run.dir or "", strict=True)
    assert stored.exit_code == max(-(2**31), min(code, 2**31 - 1))
    assert stored.state == "failed"


def test_names_of_the_system_that_are_no_text(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script whose name is no UTF-8 is recorded like any other."""
    monkeypatch.setattr(sys, "argv", ["x\udcff.py"])
    monkeypatch.setenv("SLURM_JOB_ID", "7\udcff")
    run = start()
    run.finish()
    assert_readable(run)
    assert StoredRun(run.dir or "").folded.process["program"] == "x?.py"


def test_a_state_that_no_document_holds_stays_in_the_journal(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A manifest that nobody would read again is not written; the run is whole without it."""
    monkeypatch.setattr(document, "MAX_BYTES", 10_000)
    run = start()
    run.log({"text": "x" * 20_000})
    run.finish()
    assert "the run stays unsealed, its records are in the journal" in capfd.readouterr().err
    assert_readable(run)
    assert StoredRun(run.dir or "").state == "finished"


def test_an_artifact_of_too_many_files_is_refused(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its manifest would not be read again: it is named, and the run goes on."""
    for number in range(100):
        (tmp_path / f"{number}").touch()
    run = start()
    monkeypatch.setattr(document, "MAX_BYTES", 10_000)
    with pytest.raises(UsageError, match=r"a document of \d+ bytes: expected 10000 at most"):
        run.log_artifact(tmp_path, name="many")
    run.log({"loss": 0.5})
    run.finish()
    assert_readable(run)
    assert wandbkeras.run is None
