"""Long histories are read back by few requests, and none of their rows is missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate, takewhile
from pathlib import Path

import pytest
import wandb
from hypothesis import given
from hypothesis import strategies as st

from tests.server.process import LoopbackServer
from tests.syncing import connect, sync_one
from wandbkeras import Run
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.history_pages import PAGE_ROWS, SCAN_PAGES, read_ahead, scans
from wandbkeras.sync.readback import Server

distances = st.sampled_from([1, 2, 50, 10**6])
histories = st.lists(st.tuples(distances, st.integers(1, 3 * PAGE_ROWS)), max_size=4).map(
    lambda parts: list(accumulate(d for distance, count in parts for d in [distance] * count))
)


@given(histories)
def test_scans_cover_every_step_once(steps: list[int]) -> None:
    """In order, by at most two requests for each page of rows, of at most four pages each.

    No scan has more pages than are to be read at once.
    """
    left, requests = iter(steps), 0
    for span in scans(steps):
        found = list(takewhile(lambda step, last=span.last: step <= last, left))  # type: ignore[misc]
        assert found[0] == span.first
        left = iter(steps[steps.index(span.last) + 1 :])
        pages = Counter((step - span.first) // span.page for step in found)
        assert max(pages.values()) <= 4 * PAGE_ROWS
        asked = (span.last - span.first) // span.page + 1
        assert asked <= SCAN_PAGES
        requests += asked
    assert list(left) == []
    assert requests <= 2 * (-(-len(steps) // PAGE_ROWS))


def test_a_reader_that_stops_leaves_the_rest_unread() -> None:
    """Other threads read a few scans ahead; an error comes where it belongs."""
    begun = []

    def scanned() -> Iterator[range]:
        for number in range(10):
            begun.append(number)
            yield range(number * 7, number * 7 + 7)

    assert list(read_ahead(scanned())) == list(range(70))
    begun.clear()
    reader = read_ahead(scanned())
    assert next(reader) == 0
    reader.close()
    assert begun == [0, 1, 2]

    def broken() -> Iterator[int]:
        yield 7
        raise OSError("the server is gone")

    seen: list[int] = []
    with pytest.raises(OSError, match="is gone"):
        seen.extend(read_ahead([range(7), broken(), range(8, 9)]))
    assert seen == list(range(7))


@pytest.fixture
def gappy(
    start: Callable[..., Run],
    wandb_server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> StoredRun:
    """Rows at every tenth step, and after a long time some more; NaN among them."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    run = start(project="digits", id="k3j9x2ab")
    for step in (*range(0, 30_000, 10), *range(10**9, 10**9 + 1_500)):
        run.log({"loss": 1 / (step + 1), "odd": float("nan") if step % 7 == 0 else "text"}, step)
    run.finish()
    return StoredRun(run.dir or "")


def test_rows_at_even_distances_are_read_by_few_requests(
    gappy: StoredRun, wandb_server: LoopbackServer
) -> None:
    """About one a page; a gap costs a scan of two, whatever its width."""
    assert sync_one(gappy.path, level="full").error is None
    asked = Counter(request.operation for request in wandb_server.requests())
    assert asked["HistoryPage"] == 4 + 2
    assert asked["RunParquetHistory"] == 2


def test_a_client_that_decodes_by_itself_is_read_too(
    gappy: StoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name by which rows are taken undecoded is wandb's own, and may go."""
    assert sync_one(gappy.path, level="counts").error is None
    steps = gappy.history(columns=[])["_step"].to_pylist()
    place = ("loopback", "digits", "k3j9x2ab", steps)
    ours = [repr(sorted(row.items())) for row in Server().rows(*place)]
    scan = wandb.apis.public.HistoryScan
    convert = scan._convert_history_row_to_dict
    fixed = property(lambda self: convert)  # can't be set
    monkeypatch.setattr(scan, "_convert_history_row_to_dict", fixed)
    assert [repr(sorted(row.items())) for row in Server().rows(*place)] == ours
