"""Syncs of one run that grows, one after the other: each is whole, and costs what is new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.server.process import LoopbackServer
from tests.syncing import held, until
from wandbkeras import Image, Run
from wandbkeras.errors import ConflictError, UnreachableError
from wandbkeras.store.console import ConsoleFiles, Line
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.tables import StoredTable
from wandbkeras.sync import held_tables
from wandbkeras.sync.content import Content
from wandbkeras.sync.engine import sync
from wandbkeras.sync.images import RenderedImages, render_images
from wandbkeras.sync.ongoing import Ongoing
from wandbkeras.sync.options import Options, Result
from wandbkeras.sync.upload import Client

Start = Callable[..., Run]


@pytest.fixture
def ongoing() -> Iterator[Ongoing]:
    made = Ongoing("a test")
    yield made
    made.close()


def sync_one(run: Run, ongoing: Ongoing) -> Result:
    options = Options(timeout_s=30.0, settle_s=0.0)
    (result,) = sync([Path(run.dir or "")], options, ongoing=ongoing)
    return result


def log(run: Run, first: int, last: int) -> None:
    for number in range(first, last):
        run.log({"loss": number, "beyond": "x" * 3})


def test_what_was_read_back_is_not_read_again(
    start: Start, server: LoopbackServer, ongoing: Ongoing
) -> None:
    """The receipt proves for all rows, as that of one sync would; rows arrive once."""
    run = start(project="digits", id="k3j9x2ab")
    asked = []
    for first, last in ((0, 2_500), (2_500, 2_510), (2_510, 2_520)):
        log(run, first, last)
        before = len(server.requests())
        result = sync_one(run, ongoing)
        assert (result.error, result.rows_sent) == (None, last - first)
        asked.append(len(server.requests()) - before)
    # Three pages of rows are read in the first one; afterwards a page, and no more is asked first.
    assert asked[2] == asked[1] < asked[0]
    run.finish()
    receipt = sync_one(run, ongoing).receipt
    assert receipt is not None
    assert (receipt.rows, receipt.rows_compared, receipt.state) == (2_520, 2_520, "finished")
    digest = str(Content(StoredRun(run.dir or "")).history_digest)
    assert receipt.history_digest == digest
    assert [row["loss"] for row in held(server, "k3j9x2ab").rows] == list(range(2_520))


def test_images_that_were_read_back_are_not_read_again(
    start: Start, server: LoopbackServer, ongoing: Ongoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round costs what is new, however many there are; the receipt proves for all of them."""
    read: list[str] = []

    def render(table: StoredTable) -> RenderedImages:
        read.append(table.file.path)
        return render_images(table)

    monkeypatch.setattr(held_tables, "render_images", render)
    run = start(project="digits", id="k3j9x2ab")
    for first in (0, 3, 6):
        for number in range(first, first + 3):
            run.log({"loss": number, "image": Image(np.full((2, 2), number, np.uint8))})
        receipt = sync_one(run, ongoing).receipt
        assert (len(read), len(set(read))) == (first + 3, first + 3)
        assert receipt is not None and receipt.files == first + 3
    run.finish()
    receipt = sync_one(run, ongoing).receipt
    assert (len(read), receipt and receipt.state) == (9, "finished")
    there = held(server, "k3j9x2ab")
    assert {row["image"]["path"] for row in there.rows} == {f for f in there.files if "image" in f}


def test_rows_that_another_attempt_replaces_are_found(
    start: Start, server: LoopbackServer, ongoing: Ongoing
) -> None:
    """As by a sync that has read nothing before."""
    run = start(project="digits", id="k3j9x2ab")
    log(run, 0, 10)
    assert sync_one(run, ongoing).error is None
    run.finish()
    run = start(project="digits", id="k3j9x2ab", resume="must")
    run.roll_back(5)
    log(run, 100, 110)
    assert isinstance(sync_one(run, ongoing).error, ConflictError)
    assert [row["loss"] for row in held(server, "k3j9x2ab").rows] == list(range(10))


def test_the_console_goes_along_now_and_then(
    start: Start, server: LoopbackServer, ongoing: Ongoing
) -> None:
    """W&B's client sends all of it each time: of a running run once a minute, and at the end."""
    run = start(project="digits", id="k3j9x2ab")
    files = ConsoleFiles(Disk(), Layout(Path(run.dir or "")), 0, 0, 1_000_000)
    arrived = []
    for number in range(3):
        files.write([Line(number, "stdout", 10.0, f"line {number}")])
        log(run, number, number + 1)
        assert sync_one(run, ongoing).error is None
        arrived.append(len(held(server, "k3j9x2ab").console))
    files.close()
    run.finish()
    receipt = sync_one(run, ongoing).receipt
    assert receipt is not None and "console" not in receipt.not_compared
    assert arrived == [1, 1, 1]
    assert held(server, "k3j9x2ab").console == ["line 0", "line 1", "line 2"]


def test_a_server_that_goes_during_an_upload_is_not_waited_for(
    start: Start, server: LoopbackServer, ongoing: Ongoing
) -> None:
    """The client would try again for days; the next sync brings the rest, each row once."""
    run = start(project="digits", id="k3j9x2ab")
    log(run, 0, 10)
    assert sync_one(run, ongoing).error is None
    log(run, 10, 20)
    server.add_fault("close", kind="file_stream")
    before = len(server.requests())
    results: list[Result] = []
    syncing = threading.Thread(target=lambda: results.append(sync_one(run, ongoing)))
    syncing.start()
    until(lambda: any(r.kind == "file_stream" for r in server.requests()[before:]))
    server.kill()
    syncing.join()
    assert isinstance(results[0].error, UnreachableError)
    ongoing.ask_again()
    server.restart()
    assert sync_one(run, ongoing).error is None
    assert [row["loss"] for row in held(server, "k3j9x2ab").rows] == list(range(20))


def test_a_client_says_what_its_trouble_is(server: LoopbackServer, tmp_path: Path) -> None:
    """Also when it has ended itself; then another one is started."""
    log = tmp_path / "offline-run-x" / "run-x.wandb"
    log.parent.mkdir()
    log.write_bytes(b"no log of wandb's")
    client = Client(server.url)
    try:
        for _ in range(2):
            said = client.upload([log.parent], timeout_s=30.0)
            assert said.complaint is not None
            assert not said.timed_out
    finally:
        client.close()
