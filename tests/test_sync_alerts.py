"""Alerts and the end of a failed run, replayed: what W&B tells people, and its Logs page."""

from __future__ import annotations

from pathlib import Path

import pytest

import wandbkeras
from tests.server.process import LoopbackServer
from tests.server.snapshot import Alert
from tests.syncing import held, receipts, sync_one
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.content import Content


def test_alerts_and_the_traceback_arrive_once(server: LoopbackServer, tmp_path: Path) -> None:
    """Each alert arrives once however often the run is synced, and so does the traceback."""
    run = wandbkeras.init(dir=tmp_path / "runs", project="digits")
    run.log({"loss": 1.0})
    run.alert("Loss", "is high", "WARN")
    sync_one(run.dir)
    assert held(server, run.id).alerts == (Alert("Loss", "is high", "WARN"),)
    run.alert("Accuracy", "é\nis low", wait_duration=0)
    run.alert("Accuracy", "is lower", wait_duration=0)
    with pytest.raises(ZeroDivisionError), run:
        run.log({"loss": 1 / 0})
    sync_one(run.dir)
    sync_one(run.dir, check=True)
    arrived = held(server, run.id)
    assert arrived.alerts == (
        Alert("Loss", "is high", "WARN"),
        Alert("Accuracy", "é\nis low", "INFO"),
        Alert("Accuracy", "is lower", "INFO"),
    )
    assert (arrived.state, arrived.exit_code) == ("failed", 1)
    console = "\n".join(arrived.console)
    assert console.count("Traceback (most recent call last)") == 1
    assert console.count("ZeroDivisionError: division by zero") == 1
    assert run.dir is not None
    assert [receipt.alerts for receipt in receipts(Path(run.dir))] == [3]


def test_an_alert_of_a_run_that_has_arrived_is_sent(server: LoopbackServer, tmp_path: Path) -> None:
    """An alert after all rows have arrived is sent; without a receipt, what has ended was told."""
    run = wandbkeras.init(dir=tmp_path / "runs", project="digits")
    run.log({"loss": 1.0})
    sync_one(run.dir)
    run.alert("Later", "than the rows")
    sync_one(run.dir)
    assert [alert.title for alert in held(server, run.id).alerts] == ["Later"]
    run.finish()
    sync_one(run.dir)
    assert run.dir is not None
    for receipt in (Path(run.dir) / "sync").glob("*.json"):
        receipt.unlink()
    sync_one(run.dir)
    assert [alert.title for alert in held(server, run.id).alerts] == ["Later"]


def test_alerts_that_would_have_waited_are_not_sent(tmp_path: Path) -> None:
    """Of a title, W&B sends none within the waiting time; that is judged by the recorded times."""
    run = wandbkeras.init(dir=tmp_path / "runs", project="digits")
    for number in range(3):
        run.alert("Loss", f"{number}")
        run.alert("Other", f"{number}", wait_duration=0)
    run.finish()
    assert run.dir is not None
    with Content(StoredRun(run.dir)) as content:
        sent = [(alert.title, alert.text) for alert in content.alerts]
    assert len(StoredRun(run.dir).alerts) == 6
    assert sent == [("Loss", "0"), ("Other", "0"), ("Other", "1"), ("Other", "2")]
