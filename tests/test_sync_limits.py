"""Beyond W&B's limits: the value stays behind and is named, the rest of row and summary arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import wandbkeras
from tests.server.process import LoopbackServer
from tests.syncing import command, connect, held, printed, receipts, sync_one, tree
from wandbkeras import Run
from wandbkeras.store.limits import MAX_IMAGES, MAX_LINE_BYTES, MAX_TABLE_ROWS
from wandbkeras.sync.options import Options
from wandbkeras.sync.preview import preview

# As long as a line may be with the rest of the row; W&B's client must not write it any longer.
LONGEST = "<&é\u2028" * ((MAX_LINE_BYTES - 2_000) // 7)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackServer]:
    with LoopbackServer(tmp_path_factory.mktemp("server")).start() as server:
        yield server
        assert server.violations() == []


@pytest.fixture(autouse=True)
def _connected(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(server, tmp_path / "home", monkeypatch)


@pytest.fixture
def finished(
    start: Callable[..., Run],
) -> Path:
    """Four rows, of which the second has a value that is too long, and the last the longest."""
    run = start(project="digits")
    run.log({"loss": 1.0})
    run.log({"loss": 0.5, "text": "x" * 11_000_000})
    run.log({"loss": 0.25})
    run.log({"loss": 0.125, "longest": LONGEST})
    run.finish()
    return Path(run.dir or "")


def test_the_rest_of_row_and_summary_arrives(finished: Path, server: LoopbackServer) -> None:
    """Every row is there; the receipt names the value, and so does not prove for all of the run."""
    result = sync_one(finished)
    assert (result.outcome, result.error) == ("verified", None)
    found = held(server, str(result.run_id))
    assert [row["loss"] for row in found.rows] == [1.0, 0.5, 0.25, 0.125]
    assert "text" not in found.rows[1]
    assert found.rows[3]["longest"] == LONGEST
    assert found.summary["loss"] == 0.125
    (receipt,) = receipts(finished)
    (line, *_) = receipt.not_sent
    assert line == (
        "'text' in 1 rows, the first at step 1 and the summary: 11,000,002 bytes, W&B takes "
        "10,383,360 a line"
    )
    assert not receipt.is_whole


def test_a_preview_sends_nothing(finished: Path, server: LoopbackServer, tmp_path: Path) -> None:
    """It says where what would go, and what would be left out; then that nothing is to be sent."""
    env = server.environ(tmp_path / "home")
    before, requests = tree(finished), len(server.requests())
    (run,) = printed(command("sync", finished, "--dry-run", "--json", env=env))["runs"]
    assert tree(finished) == before
    assert {request.operation for request in server.requests()[requests:]}.isdisjoint(
        {"UpsertBucket", "CreateArtifact", "CreateRunFiles"}
    )
    assert (run["rows"], run["rows_known"], run["is_new"], run["unchanged"]) == (4, 0, True, False)
    assert run["destination"]["project"] == "digits"
    assert len(LONGEST.encode()) < run["bytes"] < len(LONGEST.encode()) + 500
    assert run["not_sent"][0].startswith("'text' in 1 rows")

    assert sync_one(finished).error is None
    (run,) = printed(command("sync", finished, "--dry-run", "--json", env=env))["runs"]
    assert (run["rows"], run["rows_known"], run["unchanged"]) == (0, 4, True)


def test_a_preview_tells_what_is_known(
    start: Callable[..., Run],
    server: LoopbackServer,
    tmp_path: Path,
) -> None:
    """Of a run that has grown only the growth would go."""
    run = start(project="digits")
    for number in range(2):
        run.log({"loss": 1.0})
        (tmp_path / "data").write_bytes(bytes(1_000 + number))
        run.log_artifact(tmp_path / "data", name="grown")
        if not number:
            assert sync_one(run.dir).error is None
    done = command("sync", run.dir, "--dry-run", env=server.environ(tmp_path / "home"))
    run.finish()
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{run.id}: would send 1 row, 1 artifact version and 0 files (1.0 kB) to " in done.stdout
    assert done.stdout.endswith("there already: 1 row; there already: 1 artifact version\n")


def test_names_that_are_the_clients_do_no_harm(
    start: Callable[..., Run],
    server: LoopbackServer,
) -> None:
    """No name, ``_wandb`` and ``_step``: what the client would drop is not sent, all else is."""
    run = start(project="digits", config={"_wandb": 1, "lr": 0.1})
    run.log({"": 1, "_wandb": 2, "loss": 0.5})
    run.summary.update({"_step": 7, "_wandb": 3})
    run.finish()
    result = sync_one(run.dir)
    assert (result.outcome, result.error) == ("verified", None)
    found = held(server, run.id)
    (row,) = found.rows
    assert ("" in row, row["_wandb"], row["loss"]) == (False, 2, 0.5)
    assert (found.summary["_step"], found.summary["loss"]) == (0, 0.5)
    assert found.config_values == {"lr": 0.1}
    (receipt,) = receipts(Path(run.dir or ""))
    (line,) = receipt.not_sent
    assert line.startswith("'' in 1 rows, the first at step 0 and the summary: W&B's client drops")


def test_a_preview_tells_what_will_be_done_about_large_tables(
    start: Callable[..., Run],
) -> None:
    """Tables in parts, images all in one value, a histogram left out: a line each."""
    run = start(project="digits")
    table = run.open_table("t", ["a"])
    table.add_batch({"a": np.zeros(MAX_TABLE_ROWS + 1)})
    images = [wandbkeras.Image(np.zeros((1, 1, 3), np.uint8))] * (MAX_IMAGES + 1)
    wide = {"_type": "histogram", "values": [0] * 600, "bins": [*map(float, range(601))]}
    run.log({"t": table, "imgs": images})
    with run._writer.lock:
        run._writer.history(1, 1795412700.0, 1.0, {"h": wide}, True)
    run.finish()
    (found,) = preview([Path(run.dir or "")], Options(settle_s=0.0))
    assert found.adapted == (
        "'t' at step 0: 200,001 rows, sent as 2 tables of one version",
        "'imgs' at step 0: 109 images, all sent in one value; W&B's client takes 108",
    )
    assert found.not_sent == (
        "'h' in 1 rows, the first at step 1 and the summary: 600 bins, W&B takes 512",
    )
