"""System metrics of a run: recorded while it runs, and sent as W&B's own, each sample once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import wandbkeras
from tests.server.process import LoopbackServer
from tests.syncing import connect, held, sync_one
from wandbkeras import Run
from wandbkeras.context.sampling import Sampling
from wandbkeras.context.switches import Switches, resolve_switches
from wandbkeras.errors import UsageError
from wandbkeras.recording.opening import open_run
from wandbkeras.recording.settings import resolve
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun

_NAMES = {"system.cpu", "system.memory_percent", "system.proc.memory.rssMB"}


def test_a_run_is_sampled_from_its_beginning_to_its_end(
    start: Callable[..., Run], stored: Callable[[Run], StoredRun]
) -> None:
    """However short a run is, it has a first sample and a last one, with their own times."""
    run = start(system_metrics=True)
    run.log({"a": 1})
    run.finish()
    found = stored(run)
    table = found.system_metrics()
    assert set(table.column_names) > _NAMES
    times = table["_timestamp"].to_pylist()
    assert len(times) >= 1
    assert times == sorted(times)
    assert found.info.created <= times[0]
    assert found.folded.failures == 0


def test_samples_go_on_while_the_run_does(
    start: Callable[..., Run], stored: Callable[[Run], StoredRun]
) -> None:
    """A sample every so many seconds; a run that is read while it runs has those so far."""
    run = start()
    enough = threading.Event()

    def record(metrics: Mapping[str, float]) -> None:
        run.record_system_metrics(metrics)
        if len(stored(run).system_metrics()) == 3:
            enough.set()

    sampling = Sampling(0.01, record, run.record_failure)
    assert enough.wait(30)
    sampling.stop()
    after = len(stored(run).system_metrics())
    assert after >= 3
    assert stored(run).folded.failures == 0


def test_one_switch_turns_it_off(
    start: Callable[..., Run],
    stored: Callable[[Run], StoredRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An argument, or a variable that it goes before."""
    for arguments, variable, is_recorded in (
        ({}, "off", False),
        ({}, "30", True),
        ({"system_metrics": False}, "on", False),
    ):
        monkeypatch.setenv("WANDBKERAS_SYSTEM_METRICS", variable)
        run = start(**arguments)
        run.finish()
        assert (len(stored(run).system_metrics()) > 0) == is_recorded


def test_the_interval_is_two_seconds_at_least() -> None:
    """Fifteen by default; what is less, or no number, is refused."""
    assert resolve_switches({}) == Switches(system_metrics=15.0)
    assert resolve_switches({"WANDBKERAS_SYSTEM_METRICS": "2"}).system_metrics == 2.0
    assert resolve_switches({}, system_metrics=60).system_metrics == 60.0
    for wrong in (1.9, "often", float("nan"), -5, float("inf")):
        with pytest.raises(UsageError, match="system_metrics: received"):
            resolve_switches({}, system_metrics=wrong)  # type: ignore[arg-type]


def test_what_fails_is_said_once_and_training_goes_on(
    start: Callable[..., Run],
    stored: Callable[[Run], StoredRun],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A machine that can't be measured at all costs the system metrics, and nothing else."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.delitem(sys.modules, "wandbkeras.context.machine", raising=False)
    run = start(system_metrics=True)
    run.log({"a": 1})
    run.finish()
    found = stored(run)
    assert (found.state, found.row_count, found.folded.failures) == ("finished", 1, 1)
    assert capsys.readouterr().err.count("the system metrics are not recorded: ") == 1


def test_each_sample_arrives_once_with_its_time(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples arrive with their own times, however often a run is synced while it goes on."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    run = wandbkeras.init(dir=tmp_path / "runs", project="digits")
    run.log({"a": 1})
    run.record_system_metrics({"cpu": 12.5, "gpu.0.gpu": 90.0})
    assert sync_one(run.dir).outcome == "verified"
    run.record_system_metrics({"cpu": 50.25})
    run.record_system_metrics({"proc.memory.rssMB": float("nan"), "cpu": 0.0})
    assert sync_one(run.dir).outcome == "verified"
    run.finish()
    assert sync_one(run.dir).outcome == "verified"
    assert sync_one(run.dir, check=True).outcome == "verified"
    stored = Store(tmp_path / "runs").run(run.id)
    lines = [json.loads(line) for line in held(wandb_server, run.id).events]
    times = stored.system_metrics()["_timestamp"].to_pylist()
    assert [line["_timestamp"] for line in lines] == pytest.approx(times, abs=1e-6)
    runtimes = [time - stored.info.created for time in times]
    assert [line["_runtime"] for line in lines] == pytest.approx(runtimes, abs=1e-5)
    metrics = [{k: v for k, v in line.items() if k.startswith("system.")} for line in lines]
    assert metrics == [
        {"system.cpu": 12.5, "system.gpu.0.gpu": 90.0}, {"system.cpu": 50.25}, {"system.cpu": 0.0},
    ]  # fmt: skip


def test_each_process_of_a_run_has_its_own(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of further processes are labelled, and arrive once none can come before them."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    others = ("entity", "name", "group", "job_type", "tags", "notes", "mode")
    given = {"project": "digits", "id": "k3j9x2ab", "resume": "allow"}
    settings = resolve(created=100.0, directory=tmp_path, **given, **dict.fromkeys(others))

    def attempt(*samples: float) -> None:
        """Two processes sample in turns, and a sync comes before they end."""
        processes = [open_run(settings), open_run(settings)]
        for number, sample in enumerate(samples):
            processes[number % 2].record_system_metrics({"cpu": sample})
        assert sync_one(processes[0].dir).outcome == "verified"
        arrived.append(len(held(wandb_server, "k3j9x2ab").events))
        for process in processes:
            process.finish()
        assert sync_one(processes[0].dir).outcome == "verified"

    arrived: list[int] = []
    attempt(1.0, 2.0, 3.0, 4.0)
    attempt(5.0, 6.0)
    lines = [json.loads(line) for line in held(wandb_server, "k3j9x2ab").events]
    found = [{k: v for k, v in line.items() if k.startswith("system.")} for line in lines]
    own, labelled = "system.cpu", "system.cpu/l:1"
    assert arrived == [2, 5]
    assert found == [
        {own: 1.0}, {own: 3.0}, {labelled: 2.0}, {labelled: 4.0}, {own: 5.0}, {labelled: 6.0},
    ]  # fmt: skip
    assert wandb_server.violations() == []


def test_the_names_are_those_of_wandbs_client(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine W&B's client, online, measures exactly what is recorded here."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    script = (
        "import time, wandb\n"
        "settings = wandb.Settings(x_stats_sampling_interval=0.2)\n"
        "run = wandb.init(project='digits', id='theirs', settings=settings)\n"
        "time.sleep(1)\n"  # what a training takes
        "run.finish()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=tmp_path)
    theirs = {name for line in held(wandb_server, "theirs").events for name in json.loads(line)}
    run = wandbkeras.init(dir=tmp_path / "runs", project="digits", system_metrics=True)
    run.finish()
    ours = Store(tmp_path / "runs").run(run.id).system_metrics().column_names
    assert {*ours} - {"_timestamp"} == theirs - {"_timestamp", "_runtime", "_wandb"}
